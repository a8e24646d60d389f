"""FedDF as an engine made of engines: a federation of groups, each with a model of its own.

Each group's rounds are those of a `LearningProcess`, as everywhere. What the server does after them is plain
TensorFlow, outside of TFF: its processes have no data at the server and know one model each, while distillation takes
public data and the predictions of all models, of all groups, one by one. Being an engine, a federation has checkpoints,
metrics and cohorts from the same loop as any run.
"""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.algorithms.distillation.ensemble import PseudoLabels, Student
from tff_tx.config.algorithm import EnsembleConfig
from tff_tx.core.errors import UserError, setting
from tff_tx.models import TransformerModel
from tff_tx.runtime import Engine, RoundOutput, TooFewClientsError, Traffic, with_model


@dataclasses.dataclass(frozen=True)
class Group:
    """Clients whose models have one architecture: FedDF's prototype.

    Attributes:
      model: Theirs.
      engine: Runs their rounds; with clients as teachers a `LocalEngine` of an algorithm whose server adds the mean of
        the clients' updates to the model.
    """

    model: TransformerModel
    engine: Engine


class FedDFEngine(Engine):
    """Ensemble distillation, https://arxiv.org/abs/2006.07242, Algorithms 1 and, with several groups, 3.

    A round is one of each group with its clients, after which each group's model learns from the mean of the teachers'
    logits on public data. With one group this is FedDF; several federate clients of different architectures. Groups of
    one client each, with `teachers` "groups", are FedMD (Li and Wang 2019, https://arxiv.org/abs/1910.03581,
    Algorithm 1), whose clients keep models of their own, but for who digests: here the server, which has all models. A
    group without a client in a round keeps its model, and learns from the others.

    With `teachers` "clients" each client's model adds its logits as its contribution comes in, and is dropped: what is
    held are sums of logits. A state is `OrderedDict(round_num, groups)`, with the groups' states by name.

    Args:
      groups: By name.
      group_fn: From a client's argument to the name of its group.
      public_batches_fn: From a round, counted from 1, to its batches of public data (x, y); see `PseudoLabels`.
      distillation: Steps, learning rate and teachers.

    Raises:
      UserError: If there is no group, or a single one that would learn from itself.
    """

    def __init__(
        self,
        groups: Mapping[str, Group],
        group_fn: Callable[[Any], str],
        public_batches_fn: Callable[[int], tf.data.Dataset],
        distillation: EnsembleConfig,
    ):
        if not groups:
            raise UserError(f"a federation needs at least one {setting('ensemble.groups')}.")
        if len(groups) == 1 and distillation.teachers == "groups":
            raise UserError(
                f"{setting('ensemble.teachers')}=groups with a single group would teach it what it knows: use clients."
            )
        self._groups, self._group_fn = dict(groups), group_fn
        self._public_batches_fn, self._distillation = public_batches_fn, distillation
        self._students = {}
        if distillation.steps:
            self._students = {name: Student(group.model, distillation) for name, group in self._groups.items()}

    def initialize(self) -> Any:
        states = ((name, group.engine.initialize()) for name, group in self._groups.items())
        return _state(0, collections.OrderedDict(states))

    def run_round(
        self,
        state: Any,
        clients: Sequence[Any],
        *,
        min_clients: int = 1,
        on_progress: Callable[[int], None] | None = None,
    ) -> RoundOutput:
        """As every engine.

        Args:
          state: As for every engine.
          clients: Of all groups.
          min_clients: Of all groups together.
          on_progress: As for every engine.

        Returns:
          As every engine; metrics are those of the groups' clients as `train`, with several groups `train/NAME`, and
          the mean loss of distillation. Seconds also have "distillation", of which teachers' logits are no part.

        Raises:
          TooFewClientsError: If fewer than `min_clients` finish.
        """
        round_num = int(state["round_num"]) + 1
        steps = self._distillation.steps
        pseudo_labels = PseudoLabels(self._public_batches_fn(round_num).take(steps) if self._students else [])
        states, metrics, failures = collections.OrderedDict(), collections.OrderedDict(), {}
        seconds: collections.Counter = collections.Counter()
        done = 0
        for name in self._groups:
            own = [i for i, client in enumerate(clients) if self._group_fn(client) == name]
            progress = None if on_progress is None else _after(done, on_progress)
            states[name], output, lost = self._train(
                name, state["groups"][name], [clients[i] for i in own], pseudo_labels, progress
            )
            failures.update({own[position]: reason for position, reason in lost.items()})
            if output is not None:
                metrics[self._column("train", name)] = output.metrics["client_work"]["train"]
                seconds.update(output.seconds)
            done += len(own)
        finished = len(clients) - len(failures)
        if finished < min_clients:
            raise TooFewClientsError(finished, min_clients, failures)
        started = time.monotonic()
        metrics.update(self._distill(states, pseudo_labels))
        seconds["distillation"] = time.monotonic() - started
        return RoundOutput(_state(round_num, states), metrics, failures, seconds)

    def model_weights(self, state: Any) -> dict[str, tff.learning.models.ModelWeights]:
        """The groups' models, by name."""
        return {name: group.engine.model_weights(state["groups"][name]) for name, group in self._groups.items()}

    def traffic(self) -> Traffic:
        """The mean over the groups."""
        found = [group.engine.traffic() for group in self._groups.values()]
        return Traffic(*(round(float(np.mean([dataclasses.astuple(t)[i] for t in found]))) for i in (0, 1)))

    def close(self) -> None:
        for group in self._groups.values():
            group.engine.close()

    def _train(self, name, state, clients, pseudo_labels, on_progress):
        """A group's round: (state, output or None, failures)."""
        if not clients:
            return state, None, {}
        engine, options = self._groups[name].engine, {}
        if self._students and self._distillation.teachers == "clients":

            def add_teacher(position, contribution):
                self._add_teacher(name, engine.combine(state, [contribution]), pseudo_labels)

            options["on_contribution"] = add_teacher
        try:
            output = engine.run_round(state, clients, on_progress=on_progress, **options)
        except TooFewClientsError as error:
            return state, None, error.failures
        return output.state, output, output.failures

    def _add_teacher(self, name, state, pseudo_labels):
        weights = self._groups[name].engine.model_weights(state)
        logits = self._students[name].logits(weights, pseudo_labels.batches)
        if all(np.isfinite(batch).all() for batch in logits):
            pseudo_labels.add(logits)

    def _distill(self, states, pseudo_labels):
        """Puts what the groups learn into `states`; gives the losses by column."""
        if not self._students:
            return {}
        if not pseudo_labels.batches:
            raise UserError(f"there are no public data to distill on: give some, or set {setting('ensemble.steps')}=0.")
        if self._distillation.teachers == "groups":
            for name, state in states.items():
                self._add_teacher(name, state, pseudo_labels)
        losses = {}
        for name, student in self._students.items() if pseudo_labels.number else ():
            weights, loss = student.learn(self._groups[name].engine.model_weights(states[name]), pseudo_labels)
            states[name] = with_model(states[name], weights)
            losses[self._column("distillation", name)] = {"loss": loss}
        return losses

    def _column(self, part, name):
        return part if len(self._groups) == 1 else f"{part}/{name}"


def assign_groups(client_ids: Sequence[str], names: Sequence[str], seed: int) -> dict[str, str]:
    """Assigns clients to groups whose sizes differ by one at most.

    Args:
      client_ids: The clients.
      names: Of the groups.
      seed: Decides who is in which.

    Returns:
      A client's group, by its id.
    """
    order = np.random.default_rng(seed).permutation(len(client_ids))
    return {client_ids[client]: names[place % len(names)] for place, client in enumerate(order)}


def _state(round_num: int, groups: collections.OrderedDict) -> collections.OrderedDict:
    return collections.OrderedDict(round_num=np.int32(round_num), groups=groups)


def _after(done: int, on_progress: Callable[[int], None]) -> Callable[[int], None]:
    return lambda number: on_progress(done + number)
