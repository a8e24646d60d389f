"""Engines: one template of a round (prepare, collect, accumulate, update), of which each has its own way to collect."""

from __future__ import annotations

import abc
import collections
import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.runtime import form as form_lib
from tff_tx.runtime.hooks import Hook, Job
from tff_tx.runtime.rounds import Clock, RoundOutput, TooFewClientsError, Traffic
from tff_tx.runtime.secure_form import MOST_CLIENTS

_CURRENT = "current"


class Engine(abc.ABC):
    """Runs rounds. A context manager; leaving it ends whatever it started.

    Clients are named by plain data (a process reads their examples where it runs), so that an engine may run them
    anywhere.
    """

    @abc.abstractmethod
    def initialize(self) -> Any:
        """The state before the first round."""

    @abc.abstractmethod
    def run_round(
        self,
        state: Any,
        clients: Sequence[Any],
        *,
        min_clients: int = 1,
        on_progress: Callable[[int], None] | None = None,
    ) -> RoundOutput:
        """Runs a round.

        Args:
          state: The server's state.
          clients: One argument a client of the round.
          min_clients: Number of clients that must finish for the round to count.
          on_progress: Called with the number of clients done so far, as often as the engine knows it.

        Raises:
          TooFewClientsError: If fewer than `min_clients` finish.
        """

    def offer(self, state: Any, round_num: int) -> None:  # noqa: B027
        """Takes note of the state that a round goes on from, before its clients are known."""

    @abc.abstractmethod
    def model_weights(self, state: Any) -> Any:
        """The model in a state, `tff.learning.models.ModelWeights` of NumPy arrays, or several by name."""

    @abc.abstractmethod
    def traffic(self) -> Traffic:
        """What a round sends to and from each client."""

    def commit_round(self, round_num: int, client_ids: Sequence[str]) -> None:  # noqa: B027
        """Takes note that a round counts: its number (from 1) and the participants' ids, in the order of the cohort."""

    def checksums(self, round_num: int) -> Mapping[str, int]:
        """Of what it has on the disk after a round, by its name in the run's directory."""
        return {}

    def close(self) -> None:  # noqa: B027 -- nothing to end is a fine default
        """Ends what the engine started."""

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


class ProcessEngine(Engine):
    """The template: runs the rounds of one `LearningProcess`; subclasses collect contributions, each in its own way.

    A state is the process's own; with hooks that have states it is `OrderedDict(current, NAME, ...)` of the process's
    state and the hooks' own by `Hook.state_name`. What takes a state takes either.

    Args:
      process: The process.
      form: Its form; None: it is made when first needed.
      hooks: What intervenes between clients and the sum.
      encode: From NumPy arrays to the bytes that would travel, with which rounds measure what clients send, and what is
        sent to them where only changes are (`compression.build_delta_distributor`); None: not measured.
    """

    hooks: Sequence[Hook] = ()

    def __init__(
        self,
        process: tff.learning.templates.LearningProcess,
        form: form_lib.RoundForm | None = None,
        hooks: Sequence[Hook] = (),
        encode: Callable[[list], bytes] | None = None,
    ):
        self.process, self.hooks, self._encode = process, tuple(hooks), encode
        signature = process.next.type_signature
        self._state_type, self._client_type = (t.member for _, t in tff.structure.iter_elements(signature.parameter))
        self._metrics_type = signature.result.metrics.member
        if form is not None:
            self.parts = Parts(form)
        names = [hook.state_name for hook in self.hooks if hook.state_name]
        if len(set(names)) < len(names):
            raise ValueError(f"two hooks of one engine have the state {max(names, key=names.count)!r}.")
        for hook in self.hooks:
            hook.bind(self)

    @functools.cached_property
    def parts(self) -> Parts:
        """The server's parts of the process, as graphs."""
        return Parts(form_lib.RoundForm.of(self.process))

    @property
    def weights_type(self) -> tff.Type:
        """The type of the model's weights."""
        return self._state_type.global_model_weights

    def initialize(self) -> Any:
        """The state before the first round."""
        leaves = self.parts.initialize()
        current = form_lib.unflatten(leaves, self._state_type)
        if not any(hook.state_name for hook in self.hooks):
            return current
        broadcast = self.parts.prepare(*leaves)
        return self._with_hooks(current, lambda hook: hook.initialize(broadcast))

    def run_round(
        self,
        state: Any,
        clients: Sequence[Any],
        *,
        min_clients: int = 1,
        on_progress: Callable[[int], None] | None = None,
        on_contribution: Callable[[int, list], None] | None = None,
    ) -> RoundOutput:
        """Runs `process.next`, as every engine.

        Clients are of the member type of its second parameter, or as a hook takes them; `on_contribution` is called as
        `Hook.on_counted`, for this round.
        """
        observers = [hook.on_counted for hook in self.hooks if hook.observes]
        gathered = Gathered([*observers, *filter(None, [on_contribution])], on_progress, min_clients)
        try:
            return self._run(state, clients, gathered)
        except BaseException:
            for hook in self.hooks:
                hook.fail_round()
            raise

    def _run(self, state, clients, gathered):
        clock = gathered.clock
        flat_state = [tf.convert_to_tensor(leaf) for leaf in self._leaves(state)]
        broadcast = self.parts.prepare(*flat_state)
        sent = self.parts.sent_deltas
        download_bytes = self._num_bytes([broadcast[i] for i in sent]) if sent and self._encode else None
        for hook in self.hooks:
            hook.start_round(self, state, broadcast, clients)
        if self.parts.moduli and len(clients) > MOST_CLIENTS:
            raise ValueError(f"{len(clients)} clients are more than {MOST_CLIENTS:,}, the most whose secure sum fits.")
        clock.stop("prepare")
        total = self._collect(clients, functools.partial(self._job, broadcast), gathered)
        finished = len(clients) - len(gathered.failures)
        if finished < gathered.min_clients:
            raise TooFewClientsError(finished, gathered.min_clients, gathered.failures)
        for hook in self.hooks:
            total = hook.end_sum(total, gathered.failures)
        results = self.parts.update(*flat_state, *self.parts.report(*total))
        metrics = form_lib.unflatten([leaf.numpy() for leaf in results[len(flat_state) :]], self._metrics_type)
        for added in filter(None, (hook.metrics() for hook in self.hooks)):
            metrics = collections.OrderedDict(metrics, **added)
        clock.stop("server")
        current = form_lib.unflatten(results[: len(flat_state)], self._state_type)
        return RoundOutput(
            self._with_hooks(current, lambda hook: hook.end_round(gathered.failures)),
            metrics,
            gathered.failures,
            {**clock.seconds, **gathered.seconds},
            self._upload_bytes(gathered.sent_bytes),
            download_bytes,
        )

    def _upload_bytes(self, measured: Sequence[int]) -> float | None:
        if not measured:  # a Poisson sample may be empty: then there is no mean
            return math.nan if self._measures_uploads else None
        if self.parts.moduli:
            return float(self.parts.traffic.upload_bytes)  # numbers modulo M are packed, and not encoded
        return sum(measured) / len(measured)

    @property
    def _measures_uploads(self) -> bool:
        return self._encode is not None

    def _job(self, broadcast: list, client: Any) -> Job:
        job = Job(client, broadcast)
        for hook in self.hooks:
            job = hook.start_client(job)
        return job

    def _with_states(self, job: Job) -> Job:
        """A client's job with what the client retained in earlier rounds."""
        found = ((hook.state_name, hook.read_state(job.client)) for hook in self.hooks)
        return dataclasses.replace(job, states={name: state for name, state in found if state is not None})

    def _retain(self, client: Any, retained: Mapping[str, list]) -> None:
        """Gives what a client retains to the hooks that store it."""
        for hook in self.hooks:
            if hook.state_name in retained:
                hook.retain(client, retained[hook.state_name])

    @abc.abstractmethod
    def _collect(self, clients: Sequence[Any], job_fn: Callable[[Any], Job], gathered: Gathered) -> list:
        """Runs the clients, `job_fn` giving the `Job` of each; fills `gathered`, gives the sum of contributions."""

    def combine(self, state: Any, contributions: Iterable[Sequence[Any]]) -> Any:
        """The process's state that a round with these contributions and no others leads to.

        It is that of the round to the bit where contributions come in the order in which the round added them up.

        Args:
          state: The server's state before the round.
          contributions: As observers saw them in a round from this state; at least one.
        """
        flat_state = [tf.convert_to_tensor(leaf) for leaf in self._leaves(state)]
        total = self.parts.zero()
        for contribution in contributions:
            total = self.parts.accumulate(*total, *contribution)
        results = self.parts.update(*flat_state, *self.parts.report(*total))
        return form_lib.unflatten(results[: len(flat_state)], self._state_type)

    def flatten_state(self, state: Any) -> list[np.ndarray]:
        """The leaves of the process's state, without those of hooks, as NumPy arrays."""
        return [np.asarray(leaf) for leaf in self._leaves(state)]

    def unflatten_state(self, leaves: Sequence[Any]) -> Any:
        """The process's state with the given leaves: the inverse of `flatten_state`.

        Raises:
          ValueError: If a state of this process has another number of leaves.
        """
        if len(leaves) != (expected := len(form_lib.paths(self._state_type))):
            raise ValueError(f"a state of this process has {expected} leaves, and {len(leaves)} are given.")
        return form_lib.unflatten(list(leaves), self._state_type)

    def model_weights(self, state: Any) -> tff.learning.models.ModelWeights:
        """The model in a state, as NumPy arrays."""
        weights = process_state(state).global_model_weights
        return tf.nest.map_structure(lambda leaf: tf.convert_to_tensor(leaf).numpy(), weights)

    def traffic(self) -> Traffic:
        """What a round sends to and from each client."""
        return self.parts.traffic

    def commit_round(self, round_num: int, client_ids: Sequence[str]) -> None:
        """Tells the hooks that a round is done, see `Hook.commit`."""
        for hook in self.hooks:
            hook.commit(round_num, client_ids)

    def checksums(self, round_num: int) -> Mapping[str, int]:
        """What the hooks have on the disk, see `Hook.checksums`."""
        return dict(collections.ChainMap(*(hook.checksums(round_num) for hook in self.hooks)))

    def _leaves(self, state):
        return form_lib.flatten(process_state(state), self._state_type)

    def _with_hooks(self, current, own_fn):
        own = [(hook.state_name, own_fn(hook)) for hook in self.hooks]
        own = [(name, value) for name, value in own if name is not None]
        return collections.OrderedDict([(_CURRENT, current), *own]) if own else current

    def _num_bytes(self, leaves):
        return len(self._encode([leaf.numpy() for leaf in leaves]))


class Parts:
    """The parts of a form that run at the server, and what is known of the others. It does not hold the form.

    Attributes:
      broadcast_type: Of what `prepare` gives.
      contribution_type: Of what a client's work gives.
      constants: Leaves of the broadcast that are the same in every round.
      sent_deltas: Leaves of the broadcast that travel, where others are with the clients already; else none.
      traffic: Of the form.
      moduli: Of the form.
    """

    def __init__(self, form: form_lib.RoundForm):
        self.initialize, self.prepare, self.zero, self.accumulate, self.report, self.update = (
            form.graph(part).whole(internal=part not in ("initialize", "prepare", "update"))
            for part in ("initialize", "prepare", "zero", "accumulate", "report", "update")
        )
        self.broadcast_type, self.contribution_type = (form.type_signature(p).result for p in ("prepare", "work"))
        self.traffic, self.constants, self.moduli = form.traffic, form.constants(), form.moduli
        held = [form_lib.NON_TRAINABLE_STATE in path for path in form_lib.paths(self.broadcast_type)]
        self.sent_deltas = [i for i, has in enumerate(held) if not has] if any(held) else []


@dataclasses.dataclass
class Gathered:
    """What comes in while a round's clients run.

    Attributes:
      observers: See each contribution that counts, with its position.
      on_progress: As of `run_round`.
      min_clients: As of `run_round`.
      clock: Of the round.
      failures: As in `RoundOutput`.
      seconds: Of it, what the clock does not know.
      sent_bytes: Of each client that finished, if they are measured.
    """

    observers: Sequence[Callable[[int, list], None]]
    on_progress: Callable[[int], None] | None
    min_clients: int = 1
    clock: Clock = dataclasses.field(default_factory=Clock)
    failures: dict[int, str] = dataclasses.field(default_factory=dict)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    sent_bytes: list[int] = dataclasses.field(default_factory=list)

    def count(self, position: int, contribution: list) -> None:
        """Shows a contribution that counts to the observers."""
        for observe in self.observers:
            observe(position, contribution)

    def progress(self, done: int) -> None:
        """Tells how many clients are done."""
        if self.on_progress is not None:
            self.on_progress(done)


def process_state(state: Any) -> Any:
    """The process's state within an engine's."""
    return state[_CURRENT] if isinstance(state, Mapping) else state


def with_model(state: Any, weights: tff.learning.models.ModelWeights) -> Any:
    """A state with another model.

    Args:
      state: A `LearningAlgorithmState`.
      weights: The model, of the same architecture.
    """
    leaves = tf.nest.flatten((list(weights.trainable), list(weights.non_trainable)))
    return tff.learning.templates.LearningAlgorithmState(
        global_model_weights=tf.nest.pack_sequence_as(state.global_model_weights, leaves),
        distributor=state.distributor,
        client_work=state.client_work,
        aggregator=state.aggregator,
        finalizer=state.finalizer,
    )
