"""A process of a Ray cluster that runs clients: Ray's actor of the engine `ray`."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import threading
import time
from collections.abc import Sequence
from typing import Any, Callable

import tensorflow as tf

from tff_tx.core.errors import reason
from tff_tx.runtime import form as form_lib
from tff_tx.runtime import partials
from tff_tx.runtime.client_work import ClientWork
from tff_tx.runtime.hooks import Job
from tff_tx.runtime.internals.calls import StepOptions
from tff_tx.runtime.pipelines import configure_tensorflow
from tff_tx.runtime.usage import Usage

LEAVES, SUMS = "leaves", "sums"
"""Groups of a worker's calls: neither waits for the other."""


@dataclasses.dataclass(frozen=True)
class RoundTask:
    """What a round's leaves have in common; it goes along with each of them, so that a new worker needs nothing else.

    Large things are Ray's references: a node fetches them once, and its workers share the memory.

    Attributes:
      key: Different for every round.
      form_key: The same for all rounds of an engine.
      form: Reference of the `RoundForm`.
      precision: See `internals.calls.StepOptions`.
      num_leaves: Of the tree of partial sums.
      changing: For each model that clients of the round start from, the reference of those leaves of its broadcast that
        differ from round to round, NumPy arrays.
      frozen: Reference of the others.
      frozen_positions: Which leaves of the broadcast those are.
      encode: As of `Engine`.
      returns_contributions: Whether reports have clients' contributions, besides the sum that stays.
    """

    key: str
    form_key: str
    form: Any
    precision: str
    num_leaves: int
    changing: tuple[Any, ...]
    frozen: Any
    frozen_positions: tuple[int, ...]
    encode: Callable[[list], bytes] | None
    returns_contributions: bool


@dataclasses.dataclass(frozen=True)
class LeafReport:
    """What a worker tells of a leaf; the sum stays with it.

    Attributes:
      failures: Why clients were left out, by position in the cohort.
      busy_seconds: How long a processor was at it.
      read_seconds: How long processors that had nothing to compute were reading, since the report before.
      data_seconds: Of the busy time, how long it waited for data.
      sent_bytes: Of each client that finished, if they are measured.
      contributions: Positions of those clients and references of what was added up, if they are returned.
      retained: Positions of those clients and references of what they retain, where hooks store that.
    """

    failures: dict[int, str]
    busy_seconds: float
    read_seconds: float
    data_seconds: float
    sent_bytes: Sequence[int] = ()
    contributions: Sequence[tuple[int, Any]] = ()
    retained: Sequence[tuple[int, Any]] = ()


class Worker:
    """Runs leaves of a round, keeps their sums and merges those that are neighbours.

    Args:
      threads: Leaves that compute at the same time. One more may be begun, whose data are read meanwhile.
    """

    def __init__(self, threads: int):
        configure_tensorflow()
        self._processors, self._usage = threading.Semaphore(threads), Usage(threads)
        self._readers = concurrent.futures.ThreadPoolExecutor(threads + 1, thread_name_prefix="data")
        self._loading, self._adding = threading.Lock(), threading.Lock()
        self._graphs = self._round = self._frozen = None

    def ready(self) -> bool:
        """Returns as soon as the process is up."""
        return True

    def run_leaf(self, task: RoundTask, leaf: int, clients: Sequence[tuple[int, Job]]) -> LeafReport:
        """Trains some clients, given by position and job, one after another and adds their contributions up."""
        graphs, current = self._load(task, clients)
        total, failures, busy, waited = graphs.zero(), {}, 0.0, 0.0
        sent_bytes, contributions, retained = [], [], []
        for (position, job), opened in self._read_ahead(graphs, current, clients):
            try:
                client = opened.result()
                with self._processors, self._usage.computing():
                    started = time.monotonic()
                    contribution, sent, states = job.finish(graphs.work.run(client))
                    retained += [(position, put(states))] if states else []
                    sent_bytes += [] if task.encode is None else [len(task.encode(_arrays(sent)))]
                    if task.returns_contributions:
                        contributions.append((position, put(_arrays(contribution))))
                    total = graphs.accumulate(*total, *contribution)
                    busy += time.monotonic() - started
                waited += client.data_seconds
            except Exception as error:  # whatever it is, it is this client's
                failures[position] = reason(error)
        with self._adding:
            current.partials.add(partials.Span(leaf, leaf + 1), total)
        return LeafReport(failures, busy, self._usage.take_read_seconds(), waited, sent_bytes, contributions, retained)

    def probe(self, task: RoundTask, job: Job) -> bool:
        """Trains a client for nothing, to see whether this process outlives it."""
        graphs, current = self._load(task, [(0, job)])
        for _, opened in self._read_ahead(graphs, current, [(0, job)]):
            try:
                graphs.work.run(opened.result())
            except Exception:  # it will be told when it counts
                return False
        return True

    def spans(self, key: str) -> list[partials.Span]:
        """The nodes of the tree whose sums are here, none below another."""
        with self._adding:
            return sorted(self._round.partials.sums) if self._round and self._round.key == key else []

    def take(self, span: partials.Span) -> list:
        """The sum of a node, as NumPy arrays; it also stays, in case it gets lost on its way."""
        with self._adding:
            return _arrays(self._round.partials.sums[span])

    def merge(self, left: list, right: list) -> list:
        """The sum of two sums."""
        return _arrays(self._graphs.merge(left, right))

    def _read_ahead(self, graphs, current, clients):
        """Yields the clients, each one's data being read while the one before computes."""

        def read(job):
            with self._usage.reading():
                return graphs.open(job.client, job.inputs(current.broadcasts[job.broadcast]))

        waiting = [self._readers.submit(read, job) for _, job in clients[:1]]
        for number, client in enumerate(clients):
            if number + 1 < len(clients):
                waiting.append(self._readers.submit(read, clients[number + 1][1]))
            yield client, waiting.pop(0)

    def _load(self, task: RoundTask, clients: Sequence[tuple[int, Job]]):
        """The graphs, imported once, and the weights that these clients start from, each fetched once a round."""
        import ray

        with self._loading:
            if self._graphs is None or self._graphs.key != task.form_key:
                self._round = self._frozen = None
                self._graphs = _Graphs(task.form_key, ray.get(task.form), task.precision)
            if self._round is None or self._round.key != task.key:
                if self._frozen is None or self._frozen[0] != task.frozen:
                    self._frozen = task.frozen, _tensors(ray.get(task.frozen))
                self._round = _Round(task.key, {}, partials.Partials(task.num_leaves, self._graphs.merge))
            for number in {job.broadcast for _, job in clients}.difference(self._round.broadcasts):
                changing = _tensors(ray.get(task.changing[number]))
                self._round.broadcasts[number] = _joined(changing, self._frozen[1], task.frozen_positions)
            return self._graphs, self._round


@dataclasses.dataclass
class _Round:
    key: str
    broadcasts: dict[int, list]
    partials: partials.Partials


class _Graphs:
    """The parts of the form that a worker runs."""

    def __init__(self, key: str, form: form_lib.RoundForm, precision: str):
        self.key = key
        self._client_type = form.type_signature("work").parameter[0]
        self.work = ClientWork(form.graph("work"), StepOptions(precision))
        self.zero, self.accumulate, merge = (form.graph(part).whole() for part in ("zero", "accumulate", "merge"))
        self.merge = lambda left, right: merge(*left, *right)

    def open(self, client: Any, broadcast: list) -> Any:
        return self.work.open([*form_lib.flatten(client, self._client_type), *broadcast])


def _arrays(tensors: Sequence[tf.Tensor]) -> list:
    return [leaf.numpy() for leaf in tensors]


def put(value: Any) -> Any:
    """Ray's reference of a value."""
    import ray

    return ray.put(value)


def _tensors(arrays: Sequence[Any]) -> list[tf.Tensor]:
    return [tf.convert_to_tensor(array) for array in arrays]


def _joined(changing: Sequence[Any], frozen: Sequence[Any], frozen_positions: Sequence[int]) -> list:
    """The leaves of the broadcast in their order."""
    known, rest = dict(zip(frozen_positions, frozen)), iter(changing)
    return [known[i] if i in known else next(rest) for i in range(len(changing) + len(frozen))]


@functools.cache
def actor_class(threads: int) -> Any:
    """`Worker` as a class of Ray's actors, for workers that compute so many leaves at the same time."""
    import ray

    return ray.remote(concurrency_groups={LEAVES: threads + 1, SUMS: 2})(Worker)
