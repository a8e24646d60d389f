"""The in-process engine: a round's graphs, streamed client by client on a few threads."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.runtime import form as form_lib
from tff_tx.runtime.client_work import ClientWork
from tff_tx.runtime.engine import Engine, RoundOutput, TooFewClientsError, Traffic
from tff_tx.runtime.internals.calls import step_options
from tff_tx.runtime.internals.tensors import drop_python_state

_SAYS_NOTHING = ("Graph execution error", "Detected at node", "<stack traces unavailable>", "File ")


@dataclasses.dataclass(frozen=True)
class Job:
    """What a client is to do in a round.

    Attributes:
      client: Of the member type of `process.next`'s second parameter.
      broadcast: The leaves of what it trains from.
      amend: What becomes of its contribution, leaves in and out; None: it counts as it is.
      compress: From its contribution's leaves to those that the server makes of what it sends, and what it sends; None:
        it sends its contribution.
    """

    client: Any
    broadcast: Sequence[Any]
    amend: Callable[[list], list] | None = None
    compress: Callable[[list], tuple[list, list]] | None = None


class LocalEngine(Engine):
    """Runs clients on threads of this process and adds up their contributions in the order of the cohort.

    At any time it holds the model, one sum and the contributions of a few clients, whatever the size of the cohort. The
    order of addition, and so the result, does not depend on the number of threads. A client that fails is left out.

    Args:
      process: Of functional models, with clients named by plain data or datasets.
      threads: Clients at work at the same time; the best is one a processor.
      precision: In which matrix products of a step are computed, see `internals.calls.step_options`.
      encode: From NumPy arrays to the bytes that would travel, with which rounds measure what clients send, and what is
        sent to them where only changes are (`compression.build_delta_distributor`); None: not measured.
    """

    def __init__(
        self,
        process: tff.learning.templates.LearningProcess,
        threads: int = 2,
        precision: str = "float32",
        encode: Callable[[list], bytes] | None = None,
    ):
        super().__init__(process)
        form = form_lib.RoundForm.of(process)
        self._traffic = form.traffic
        self._broadcast_type, self._contribution_type = (form.type_signature(p).result for p in ("prepare", "work"))
        self._work = ClientWork(form.graph("work"), step_options(precision))
        self._initialize, self._prepare, self._zero, self._accumulate, self._report, self._update = (
            form.graph(part).whole(internal=part not in ("initialize", "update"))
            for part in ("initialize", "prepare", "zero", "accumulate", "report", "update")
        )
        self._threads, self._encode = threads, encode
        paths = form_lib.paths(self._broadcast_type)
        self._sent = [i for i, path in enumerate(paths) if form_lib.NON_TRAINABLE_STATE not in path]
        self._measures_download = encode is not None and len(self._sent) < len(paths)
        self._workers = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="client")
        self._readers = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="data")

    def initialize(self) -> Any:
        return form_lib.unflatten(self._initialize(), self._state_type)

    def run_round(
        self,
        state: Any,
        clients: Sequence[Any],
        *,
        min_clients: int = 1,
        on_progress: Callable[[int], None] | None = None,
        on_contribution: Callable[[int, list], None] | None = None,
    ) -> RoundOutput:
        """As every engine.

        Args:
          state: As for every engine.
          clients: As for every engine.
          min_clients: As for every engine.
          on_progress: As for every engine.
          on_contribution: Called with the position and the contribution, a list of tensors, of each client that counts,
            in order; what it makes of it is no part of the round.

        Raises:
          TooFewClientsError: As every engine.
        """

        def job_fn(broadcast):
            return lambda client: Job(client, broadcast)

        return self._run(state, clients, job_fn, min_clients, on_progress, on_contribution)

    def combine(self, state: Any, contributions: Iterable[Sequence[Any]]) -> Any:
        """The state that a round with these contributions and no others leads to.

        Args:
          state: The server's state before the round.
          contributions: As `on_contribution` was given them in a round from this state; at least one.
        """
        flat_state = [tf.convert_to_tensor(leaf) for leaf in form_lib.flatten(state, self._state_type)]
        total = self._zero()
        for contribution in contributions:
            total = self._accumulate(*total, *contribution)
        results = self._update(*flat_state, *self._report(*total))
        return form_lib.unflatten(results[: len(flat_state)], self._state_type)

    def flatten_state(self, state: Any) -> list[np.ndarray]:
        """The leaves of a state, as NumPy arrays."""
        return [np.asarray(leaf) for leaf in form_lib.flatten(state, self._state_type)]

    def unflatten_state(self, leaves: Sequence[Any]) -> Any:
        """The state with the given leaves: the inverse of `flatten_state`."""
        return form_lib.unflatten(list(leaves), self._state_type)

    def _broadcast(self, state: Any) -> list[tf.Tensor]:
        """The leaves of what clients train from."""
        return self._prepare(*form_lib.flatten(state, self._state_type))

    def _run(
        self, state: Any, clients: Sequence[Any], job_fn, min_clients: int, on_progress, on_contribution=None
    ) -> RoundOutput:
        """Runs a round; `job_fn`, from the state's broadcast, gives a function from one of `clients` to its `Job`."""
        clock = Clock()
        flat_state = [tf.convert_to_tensor(leaf) for leaf in form_lib.flatten(state, self._state_type)]
        broadcast = self._prepare(*flat_state)
        download_bytes = self._bytes([broadcast[i] for i in self._sent]) if self._measures_download else None
        jobs = map(job_fn(broadcast), clients)
        clock.stop("prepare")
        total, failures, data_seconds, upload_bytes = self._zero(), {}, 0.0, []
        for position, result in enumerate(self._results(jobs)):
            clock.stop("clients")
            if isinstance(result, Exception):
                failures[position] = reason(result)
            else:
                contribution, waited, sent_bytes = result
                data_seconds += waited
                upload_bytes.append(sent_bytes)
                total = self._accumulate(*total, *contribution)
                if on_contribution is not None:
                    on_contribution(position, contribution)
                else:
                    drop_python_state(contribution)
            if on_progress is not None:
                on_progress(position + 1)
            clock.stop("aggregation")
        finished = len(clients) - len(failures)
        if finished < min_clients:
            raise TooFewClientsError(finished, min_clients, failures)
        results = self._update(*flat_state, *self._report(*total))
        metrics = [leaf.numpy() for leaf in results[len(flat_state) :]]
        clock.stop("server")
        return RoundOutput(
            form_lib.unflatten(results[: len(flat_state)], self._state_type),
            form_lib.unflatten(metrics, self._metrics_type),
            failures,
            {**clock.seconds, "data": data_seconds},
            None if self._encode is None or not upload_bytes else sum(upload_bytes) / len(upload_bytes),
            download_bytes,
        )

    def _bytes(self, leaves: Sequence[tf.Tensor]) -> int:
        return len(self._encode([leaf.numpy() for leaf in leaves]))

    def _results(self, jobs: Iterator[Job]) -> Iterator[Any]:
        """Yields the clients' contributions, or what they failed with, in order, with a few computed ahead."""

        def read(job):
            return self._work.open([*form_lib.flatten(job.client, self._client_type), *job.broadcast])

        def work(job, opened):
            client = opened.result()
            contribution = self._work.run(client)
            counted, sent = (contribution, contribution) if job.compress is None else job.compress(contribution)
            sent_bytes = None if self._encode is None else self._bytes(sent)
            return counted if job.amend is None else job.amend(counted), client.data_seconds, sent_bytes

        reading, working = collections.deque(), collections.deque()
        try:
            while True:
                # Enough work waits for each thread, and as many clients more are read while others compute.
                while len(working) < 2 * self._threads:
                    while len(reading) < self._threads and (job := next(jobs, None)) is not None:
                        reading.append((job, self._readers.submit(read, job)))
                    if not reading:
                        break
                    working.append(self._workers.submit(work, *reading.popleft()))
                if not working:
                    return
                future = working.popleft()
                error = future.exception()
                yield future.result() if error is None else error
        finally:
            for future in (*(opened for _, opened in reading), *working):
                future.cancel()

    def model_weights(self, state: Any) -> tff.learning.models.ModelWeights:
        weights = state.global_model_weights
        return tf.nest.map_structure(lambda leaf: tf.convert_to_tensor(leaf).numpy(), weights)

    def traffic(self) -> Traffic:
        return self._traffic

    def close(self) -> None:
        for pool in (self._readers, self._workers):
            pool.shutdown(wait=True, cancel_futures=True)


class Clock:
    """Parts the time into named stretches."""

    def __init__(self):
        self.seconds: collections.Counter = collections.Counter()
        self._since = time.monotonic()

    def stop(self, name: str) -> None:
        """Counts the time since the last stop for `name`."""
        now = time.monotonic()
        self.seconds[name] += now - self._since
        self._since = now


def reason(error: Exception) -> str:
    """What went wrong, in a line; of TensorFlow's pages the line that says it."""
    told = (line.strip() for line in (getattr(error, "message", None) or str(error)).splitlines())
    telling = next((line for line in told if line and not line.startswith(_SAYS_NOTHING)), "")
    return f"{type(error).__name__}: {telling[:300]}" if telling else type(error).__name__
