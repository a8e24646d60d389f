"""One round on a Ray cluster: who runs which clients, what becomes of the work of those that vanish, and the sum.

Each worker has a queue of leaves, neighbours in the tree of sums, dealt by what they cost and how fast the worker has
been. Leaves come with the most expensive clients first. A worker whose queue is empty takes the second half of the one
that will last longest: so a wrong guess, a slow machine or a large client holds nobody up for longer than a leaf.

The sums stay with the workers until all leaves are done. With a worker its sums are lost, and others do its leaves
again. A leaf that was twice with a worker that ended is suspected: its clients are tried out one by one, each in a
worker with nothing else to do, and the one that ends two of them is left out.
"""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple

import numpy as np

from tff_tx.runtime import partials
from tff_tx.runtime.hooks import Job
from tff_tx.runtime.ray_cluster import Member, RayCluster
from tff_tx.runtime.ray_worker import LEAVES, SUMS, LeafReport, RoundTask
from tff_tx.runtime.usage import Limits, RoundRecord

_LOOK_SECONDS = 1.0
_SUSPECTED_AFTER = 2
_BLAMED_AFTER = 2  # the first may have been the node's end
_MOST_LOSSES_OF_SUMS = 5
_DEADLY = "every process that ran it ended, or took longer than it may"


@dataclasses.dataclass(frozen=True)
class _Call:
    """A leaf that a worker is running, or a client of it that it tries out."""

    member: Member
    leaf: int
    probed: int | None
    deadline: float


class ClientStates(NamedTuple):
    """What clients retain between rounds.

    Attributes:
      added: From a job to the same with what its client retained in earlier rounds.
      retain: Stores what a client retains after this one, from (client, arrays by hook).
    """

    added: Callable[[Job], Job]
    retain: Callable[[Any, Mapping[str, list]], None]


class Round:
    """Runs a round's clients; `failures` has the reasons why some are left out, by position.

    Args:
      cluster: Where.
      clients: Their jobs, `broadcast` being the number of one of the task's.
      costs: What each is expected to cost.
      silos: In which silo each one's data are; None: anywhere.
      task_fn: From the number of leaves, `most_leaves` at most, to what they have in common.
      max_workers: How many workers may be used; None: all.
      limits: How long to wait for what.
      speeds: Cost a second of the workers so far, which the round adds to.
      record: Where it is written what the round does.
      on_contribution: Called with the position and the contribution of each client that a leaf has added up, if the
        task has them returned.
      states: What clients retain: it goes to the worker that runs a client, and comes back.
    """

    def __init__(
        self,
        cluster: RayCluster,
        clients: Sequence[Job],
        *,
        costs: Sequence[float],
        silos: Sequence[str | None],
        task_fn: Callable[[int], RoundTask],
        most_leaves: int,
        max_workers: int | None,
        limits: Limits,
        speeds: dict[Member, collections.Counter],
        record: RoundRecord,
        on_contribution: Callable[[int, list], None],
        states: ClientStates,
    ):
        import ray

        self._ray, self._cluster, self._clients = ray, cluster, clients
        self._max_workers, self._limits, self._speeds, self._record = max_workers, limits, speeds, record
        self._leaves = _leaves(costs, silos, most_leaves)
        self._task = task_fn(len(self._leaves))
        self._loose = set(range(len(self._leaves)))  # with nobody
        self._queues: dict[Member, collections.deque[int]] = {}
        self._running: dict[Any, _Call] = {}
        self._calls: dict[Member, dict[Any, _Call]] = collections.defaultdict(dict)  # the same by member
        self._held: dict[Member, set[int]] = collections.defaultdict(set)
        self._suspects: list[tuple[int, int]] = []  # of leaves that are with nobody either, the clients to be tried
        self._deaths: collections.Counter = collections.Counter()
        self._probe_deaths: collections.Counter = collections.Counter()
        self._without: dict[str | None, float] = {}  # since when a silo has had no worker
        self._seen: dict[Member, float] = {}
        self._reports: dict[int, LeafReport] = {}
        self._on_contribution, self._shown, self._states, self._retained = on_contribution, set(), states, set()
        self._blamed: dict[int, str] = {}

    @property
    def failures(self) -> dict[int, str]:
        found = dict(self._blamed)
        for report in self._reports.values():
            found.update(report.failures)
        return dict(sorted(found.items()))

    @property
    def sent_bytes(self) -> list[int]:
        """What clients have sent, if it is measured."""
        return [sent for report in self._reports.values() for sent in report.sent_bytes]

    def train(self, on_progress: Callable[[int], None] | None = None) -> None:
        """Runs all clients that are not done; their sums are with the workers then."""
        started, most = time.monotonic(), 0
        while self._unfinished():
            self._cluster.refresh()
            members = self._cluster.ready()[: self._max_workers]
            now = time.monotonic()
            for member in members:
                self._seen.setdefault(member, now)
            self._lose_those_gone()
            self._deal(members)
            for member in members:
                self._occupy(member)
            self._wait()
            done = sum(len(self._leaves[leaf].positions) for held in self._held.values() for leaf in held)
            if on_progress is not None and done > most:
                most = done
                on_progress(done)
        ended = time.monotonic()
        self._record.workers = len([held for held in self._held.values() if held])
        there = sum((ended - max(since, started)) * m.threads for m, since in self._seen.items() if not m.failed)
        self._record.idle_seconds = max(0.0, there - self._record.busy_seconds - self._record.read_seconds)

    def _unfinished(self) -> bool:
        return bool(self._loose or self._suspects or self._running or any(self._queues.values()))

    # Who does what.

    def _deal(self, members: list[Member]) -> None:
        """Puts leaves that are with nobody into queues, or gives them up if nobody has come for them for too long."""
        by_silo = collections.defaultdict(list)
        for leaf in sorted(self._loose):
            by_silo[self._leaves[leaf].silo].append(leaf)
        wanted = {*by_silo, *(self._leaves[leaf].silo for leaf, _ in self._suspects)}
        for silo in wanted:
            able = [m for m in members if silo is None or silo in m.silos]
            if able:
                self._without.pop(silo, None)
                found = by_silo.get(silo, [])
                spans = partials.shares([self._leaves[i].cost for i in found], self._relative_speeds(able))
                for member, span in zip(able, spans):
                    self._queues.setdefault(member, collections.deque()).extend(found[span.start : span.end])
                self._loose.difference_update(found)
            elif time.monotonic() > self._without.setdefault(silo, time.monotonic()) + self._limits.worker:
                self._give_up(silo)

    def _relative_speeds(self, members: list[Member]) -> list[float]:
        known = {m: s["cost"] / s["seconds"] for m in members if (s := self._speeds.get(m)) and s["seconds"] > 0}
        usual = float(np.mean([*known.values()])) if known else 1.0
        return [max(known.get(m, usual), 1e-9) for m in members]

    def _give_up(self, silo: str | None) -> None:
        place = "of the cluster" if silo is None else f"with the data of the silo {silo}"
        reason = f"no node {place} has run it for {self._limits.worker:.0f} s {self._cluster.start_error}".strip()
        given_up = {leaf for leaf in self._loose if self._leaves[leaf].silo == silo}
        given_up |= {leaf for leaf, _ in self._suspects if self._leaves[leaf].silo == silo}
        for leaf in given_up:
            self._blamed.update(dict.fromkeys(self._leaves[leaf].positions, reason))
            # Any worker can make its sum, which is 0; where there is no worker at all, nobody has to.
            self._leaves[leaf] = dataclasses.replace(self._leaves[leaf], cost=0.0, silo=None)
        self._suspects = [s for s in self._suspects if s[0] not in given_up]
        self._loose = self._loose - given_up if silo is None else self._loose | given_up

    def _occupy(self, member: Member) -> None:
        """Gives a worker what it can do now, and one leaf more, the data of which it reads meanwhile."""
        queue = self._queues.setdefault(member, collections.deque())
        while True:
            calls = self._calls[member]
            if any(call.probed is not None for call in calls.values()):
                return
            if not calls and self._probe_suspect(member):
                return
            if len(calls) < member.threads and not queue:
                self._steal(member, queue)
            if not queue or len(calls) > member.threads:
                return
            leaf = queue.popleft()
            positions = [p for p in self._leaves[leaf].positions if p not in self._blamed]
            clients = [(p, self._states.added(self._clients[p])) for p in positions]
            self._call("run_leaf", member, leaf, None, leaf, clients)

    def _steal(self, thief: Member, queue: collections.deque) -> None:
        """Takes neighbours from the end of the queue that lasts longest, half of what is in it."""

        def lasts(member):
            speed = self._relative_speeds([member])[0]
            return sum(self._leaves[leaf].cost for leaf in self._queues[member]) / speed

        victims = [m for m, q in self._queues.items() if q and self._may(thief, q[-1])]
        if not victims:
            return
        victim = self._queues[max(victims, key=lasts)]
        half, taken = sum(self._leaves[leaf].cost for leaf in victim) / 2, 0.0
        while victim and self._may(thief, victim[-1]) and (not queue or taken < half):
            taken += self._leaves[victim[-1]].cost
            queue.appendleft(victim.pop())
        self._record.steals += 1

    def _may(self, member: Member, leaf: int) -> bool:
        silo = self._leaves[leaf].silo
        return silo is None or silo in member.silos

    def _probe_suspect(self, member: Member) -> bool:
        """Lets a worker that does nothing else try a suspected client out."""
        for i, (leaf, position) in enumerate(self._suspects):
            if self._may(member, leaf):
                del self._suspects[i]
                self._call("probe", member, leaf, position, self._states.added(self._clients[position]))
                return True
        return False

    def _call(self, method: str, member: Member, leaf: int, probed: int | None, *arguments: Any) -> None:
        others = sum(len(self._leaves[call.leaf].positions) for call in self._calls[member].values())
        clients = 1 if probed is not None else len(self._leaves[leaf].positions) + others
        deadline = time.monotonic() + self._limits.client * clients
        remote = getattr(member.actor, method).options(concurrency_group=LEAVES)
        ref, call = remote.remote(self._task, *arguments), _Call(member, leaf, probed, deadline)
        self._running[ref] = self._calls[member][ref] = call

    # What comes of it.

    def _wait(self) -> None:
        waiting = [*self._running, *self._cluster.starting()]
        if not waiting:
            time.sleep(_LOOK_SECONDS)
            return
        self._ray.wait(waiting, timeout=_LOOK_SECONDS)
        if self._running:
            done, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
            for ref in filter(self._running.__contains__, done):  # not lost with another leaf of its worker
                self._finish(ref, self._running[ref])
        now = time.monotonic()
        for member in {call.member for call in self._running.values() if now > call.deadline}:
            self._lose(member)

    def _finish(self, ref: Any, call: _Call) -> None:
        try:
            report = self._ray.get(ref)
            if call.probed is None:
                self._show(report)
        except self._ray.exceptions.RayError as error:
            of_task = isinstance(error, self._ray.exceptions.RayTaskError)
            if of_task and not isinstance(error.cause, self._ray.exceptions.RayError):
                raise
            self._lose(call.member)
            return
        del self._running[ref], self._calls[call.member][ref]
        if call.probed is not None:
            self._end_probe(call.leaf)
            return
        self._reports[call.leaf] = dataclasses.replace(report, contributions=(), retained=())
        self._held[call.member].add(call.leaf)
        self._record.busy_seconds += report.busy_seconds
        self._record.read_seconds += report.read_seconds
        self._record.data_seconds += report.data_seconds
        self._speeds.setdefault(call.member, collections.Counter()).update(
            cost=self._leaves[call.leaf].cost, seconds=report.busy_seconds
        )

    def _show(self, report: LeafReport) -> None:
        """Fetches one by one what came of clients; of a leaf that is run again it is the same, and not shown again."""
        for position, ref in report.retained:
            if position not in self._retained:
                self._states.retain(self._clients[position].client, self._ray.get(ref))
                self._retained.add(position)
        for position, ref in report.contributions:
            if position not in self._shown:
                self._on_contribution(position, self._ray.get(ref))
                self._shown.add(position)

    def _end_probe(self, leaf: int) -> None:
        """Once all clients of a suspected leaf are tried out, what is left of it is run."""
        still = any(suspect == leaf for suspect, _ in self._suspects)
        if not still and not any(c.leaf == leaf for c in self._running.values()):
            self._loose.add(leaf)

    def _lose_those_gone(self) -> None:
        for member in {*self._held, *self._queues, *self._calls}.difference(self._cluster.members):
            self._lose(member)

    def _lose(self, member: Member) -> None:
        """Does again what a worker has done and was doing; it counts as ended from now on."""
        self._cluster.discard(member)
        self._record.lost_workers += 1
        self._loose.update(self._held.pop(member, ()), self._queues.pop(member, ()))
        for call in map(self._running.pop, self._calls.pop(member, {})):
            if call.probed is not None:
                self._probe_deaths[call.probed] += 1
                if self._probe_deaths[call.probed] < _BLAMED_AFTER:
                    self._suspects.append((call.leaf, call.probed))
                else:
                    self._blamed[call.probed] = _DEADLY
                    self._end_probe(call.leaf)
                continue
            self._deaths[call.leaf] += 1
            clients = [p for p in self._leaves[call.leaf].positions if p not in self._blamed]
            if self._deaths[call.leaf] == _SUSPECTED_AFTER and clients:
                self._suspects += [(call.leaf, position) for position in clients]
                continue
            if self._deaths[call.leaf] > _SUSPECTED_AFTER:  # alone each of them does no harm, and together they do
                self._blamed.update(dict.fromkeys(clients, _DEADLY))
            self._loose.add(call.leaf)

    # The sum.

    @property
    def has_sum(self) -> bool:
        """Whether there is one: not if there were no clients, or nobody to run them."""
        return any(self._held.values())

    def sum(self) -> list:
        """The sum over all clients, as NumPy arrays; workers that vanish meanwhile are made up for."""
        for _ in range(_MOST_LOSSES_OF_SUMS):
            try:
                return self._merged()
            except self._ray.exceptions.RayError as error:
                last = error
                for member in list(self._held):
                    try:
                        self._ray.get(member.actor.ready.remote(), timeout=self._limits.worker)
                    except self._ray.exceptions.RayError:
                        self._lose(member)
                self.train()
        raise last

    def _merged(self) -> list:
        owners, root = {}, partials.Span(0, len(self._leaves))
        asked = {m: m.actor.spans.options(concurrency_group=SUMS).remote(self._task.key) for m in self._held}
        for member, ref in asked.items():
            owners.update(dict.fromkeys(self._ray.get(ref, timeout=self._limits.client), member))
        crossings = taken = 0

        def value(span):
            """Reference of a node's sum, and the worker that computes it."""
            nonlocal crossings, taken
            if span in owners:
                taken += 1
                return owners[span].actor.take.options(concurrency_group=SUMS).remote(span), owners[span]
            (left, member), (right, other) = map(value, span.children)
            crossings += member.node_id != other.node_id
            return member.actor.merge.options(concurrency_group=SUMS).remote(left, right), member

        ref, member = value(root)
        result = self._ray.get(ref, timeout=self._limits.client)
        here = self._ray.get_runtime_context().get_node_id()
        crossings += member.node_id != here
        others = len({m.node_id for m, held in self._held.items() if held} - {here})
        size = sum(np.asarray(leaf).nbytes for leaf in result)
        self._record.sums = taken
        self._record.moved_bytes = crossings * size + others * self._record.broadcast_bytes
        return result


def _leaves(costs: Sequence[float], silos: Sequence[str | None], most: int) -> list[partials.Leaf]:
    """Leaves of one silo each, silo by silo."""
    by_silo = collections.defaultdict(list)
    for position, silo in enumerate(silos):
        by_silo[silo].append(position)
    leaves = []
    for silo in sorted(by_silo, key=lambda name: name or ""):
        positions = by_silo[silo]
        for leaf in partials.cut([costs[p] for p in positions], max(1, most // len(by_silo))):
            leaves.append(partials.Leaf(tuple(positions[i] for i in leaf.positions), leaf.cost, silo))
    return leaves
