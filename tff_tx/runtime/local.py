"""The in-process engine: a round's graphs, streamed client by client on a few threads."""

from __future__ import annotations

import concurrent.futures
import functools
from collections.abc import Iterator, Sequence
from typing import Any, Callable

import tensorflow_federated as tff

from tff_tx.core.errors import reason
from tff_tx.runtime import form as form_lib
from tff_tx.runtime import partials
from tff_tx.runtime.client_work import ClientWork
from tff_tx.runtime.engine import Gathered, ProcessEngine
from tff_tx.runtime.hooks import Hook, Job
from tff_tx.runtime.internals.calls import StepOptions, drop_python_state

_IN_FLIGHT = 3
"""Clients a thread that are read, computed or wait for their turn to be added up."""


class LocalEngine(ProcessEngine):
    """Runs clients on threads of this process and adds up their contributions in the order of the cohort.

    At any time it holds the model, one sum and the contributions of a few clients, whatever the size of the cohort. The
    order of addition, and so the result, depends neither on the number of threads nor on the order in which clients
    start, see `partials.start_order`. A client that fails is left out.

    Args:
      process: Of functional models, with clients named by plain data or datasets.
      threads: Clients at work at the same time; the best is one a processor.
      precision: In which matrix products of a step are computed, see `internals.calls.StepOptions`.
      encode: As of `Engine`.
      hooks: As of `Engine`.
      cost_fn: What a client of a round is expected to cost, in any unit, from its argument; None: all the same.
      form: That of the process; None: it is made.
    """

    def __init__(
        self,
        process: tff.learning.templates.LearningProcess,
        threads: int = 2,
        precision: str = "float32",
        encode: Callable[[list], bytes] | None = None,
        *,
        hooks: Sequence[Hook] = (),
        cost_fn: Callable[[Any], float] | None = None,
        form: form_lib.RoundForm | None = None,
    ):
        form = form or form_lib.RoundForm.of(process)
        super().__init__(process, form, hooks, encode)
        self._work = ClientWork(form.graph("work"), StepOptions(precision))
        self._threads, self._cost_fn = threads, cost_fn
        self._workers = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="client")
        self._readers = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="data")

    def _collect(self, clients: Sequence[Any], job_fn: Callable[[Any], Job], gathered: Gathered) -> list:
        total, gathered.seconds["data"] = self.parts.zero(), 0.0
        for position, result in enumerate(self._results(clients, job_fn)):
            gathered.clock.stop("clients")
            if isinstance(result, Exception):
                gathered.failures[position] = reason(result)
            else:
                contribution, waited, sent_bytes = result
                gathered.seconds["data"] += waited
                gathered.sent_bytes += sent_bytes
                total = self.parts.accumulate(*total, *contribution)
                gathered.count(position, contribution)
                if not (gathered.observers or self.hooks):  # which may give it to users
                    drop_python_state(contribution)
            gathered.progress(position + 1)
            gathered.clock.stop("aggregation")
        return total

    def partial_sum(self, broadcast: list, clients: Sequence[Any]) -> tuple[list, Gathered]:
        """The sum of some clients' contributions to a round that others run, and what came in besides.

        Args:
          broadcast: The leaves that the clients train from.
          clients: As of `run_round`.
        """
        gathered = Gathered([], None)
        return self._collect(clients, functools.partial(self._job, broadcast), gathered), gathered

    def _results(self, clients, job_fn) -> Iterator[Any]:
        """Yields what `_train` gives or raises for each client, in the order of the cohort."""
        order = range(len(clients))
        if self._cost_fn is not None:
            order = partials.start_order([self._cost_fn(job_fn(client).client) for client in clients], self._threads)
        order, most = iter(order), _IN_FLIGHT * self._threads
        in_flight: dict[int, tuple] = {}
        try:
            for turn in range(len(clients)):
                while len(in_flight) < most:
                    if len(in_flight) == most - 1 and turn not in in_flight:
                        position = turn  # or nobody's turn would ever come
                    else:
                        position = next((p for p in order if p >= turn and p not in in_flight), None)
                    if position is None:
                        break
                    job = job_fn(clients[position])
                    opened = self._readers.submit(self._open, job)
                    in_flight[position] = opened, self._workers.submit(self._train, opened)
                _, future = in_flight.pop(turn)
                error = future.exception()
                yield future.result() if error is None else error
        finally:
            for futures in in_flight.values():
                for future in futures:
                    future.cancel()

    def _open(self, job: Job) -> tuple[Job, Any]:
        """The client's job with what it retained, and its data, being read."""
        job = self._with_states(job)
        flat = form_lib.flatten(job.client, self._client_type)
        return job, self._work.open([*flat, *job.inputs(job.broadcast)])

    def _train(self, opened: concurrent.futures.Future) -> tuple[list, float, list[int]]:
        """The leaves that are added up, the seconds spent waiting for data, and the bytes sent, if measured."""
        job, client = opened.result()
        counted, sent, retained = job.finish(self._work.run(client))
        self._retain(job.client, retained)
        return counted, client.data_seconds, [] if self._encode is None else [self._num_bytes(sent)]

    def close(self) -> None:
        self._work.stop()
        for pool in (self._readers, self._workers):
            pool.shutdown(wait=True, cancel_futures=True)
