"""The engine on a Ray cluster: the form travels to workers on all nodes, and sums come back."""

from __future__ import annotations

import dataclasses
import itertools
import uuid
from collections.abc import Sequence
from typing import Any, Callable

import numpy as np
import tensorflow_federated as tff

from tff_tx.core.errors import UserError, setting
from tff_tx.runtime import form as form_lib
from tff_tx.runtime.engine import Gathered, ProcessEngine
from tff_tx.runtime.hooks import Hook, Job
from tff_tx.runtime.internals.computations import contains_sequence
from tff_tx.runtime.ray_cluster import RayCluster
from tff_tx.runtime.ray_round import ClientStates, Round
from tff_tx.runtime.ray_worker import RoundTask, put
from tff_tx.runtime.usage import Limits, RoundRecord

MOST_LEAVES = 256
"""Parts of a cohort, if nothing else is said: enough for some fifty workers to even out what they have to do."""


class RayEngine(ProcessEngine):
    """Runs clients in processes on all nodes of a Ray cluster.

    A round's graphs are sent once a worker, weights that change once a node and round, frozen ones once. Workers add up
    clients where they are; what comes back is a sum or a few from each, merged on the way. All processes give the same
    numbers, whatever their number: see `partials`. Workers that end or vanish are made up for within the round. Single
    contributions come back if somebody observes them, each as soon as its leaf is done; what `combine` makes of them is
    rounded otherwise than the round's own sum.

    Args:
      process: Of functional models, with clients named by plain data.
      threads: Processors of the cluster that is started if there is no `cluster`; default: all of this machine.
      precision: As for `LocalEngine`.
      encode: As of `Engine`.
      hooks: As of `Engine`; those that are not `local_only`.
      cluster: Where to run; None starts one on this machine, which ends with the engine.
      address: Of a cluster to join instead.
      cost_fn: As for `LocalEngine`.
      silo_fn: From a client's argument to the name of the silo that its data are in; None: everybody can read them.
      limits: How long to wait for what.
      most_leaves: Into how many parts a cohort is cut at most. Other numbers give sums that are rounded otherwise.
      max_workers: How many workers to use at most.

    Attributes:
      record: What the last round did, a `RoundRecord`.

    Raises:
      UserError: If clients are given as datasets, a hook does not run on a cluster, or there is no Ray or no cluster.
    """

    def __init__(
        self,
        process: tff.learning.templates.LearningProcess,
        threads: int | None = None,
        precision: str = "float32",
        encode: Callable[[list], bytes] | None = None,
        *,
        hooks: Sequence[Hook] = (),
        cluster: RayCluster | None = None,
        address: str | None = None,
        cost_fn: Callable[[Any], float] | None = None,
        silo_fn: Callable[[Any], str | None] | None = None,
        limits: Limits | None = None,
        most_leaves: int = MOST_LEAVES,
        max_workers: int | None = None,
    ):
        form = form_lib.RoundForm.of(process)
        super().__init__(process, form, hooks, encode)
        for hook in self.hooks:
            if hook.local_only:
                raise UserError(f"{type(hook).__name__} does not run on a cluster: {hook.local_only}.")
        if contains_sequence(self._client_type):
            raise UserError(
                f"{setting('engine.name')}=ray sends clients over the network, and this process takes their datasets: "
                f"name them by plain data (FederatedTask.process) or use {setting('engine.name')}=local."
            )
        self._own_cluster = cluster is None
        self._cluster = cluster or RayCluster(address, cpus=threads)
        self._precision, self._most_leaves, self._max_workers = precision, most_leaves, max_workers
        self._cost_fn, self._silo_fn, self._limits = cost_fn, silo_fn, limits or Limits()
        self._key, self._rounds = uuid.uuid4().hex, itertools.count()
        self._form_ref, self._frozen = put(form.for_workers()), None
        self._speeds: dict = {}
        self.record = RoundRecord()

    def _collect(self, clients: Sequence[Any], job_fn: Callable[[Any], Job], gathered: Gathered) -> list:
        record = self.record = RoundRecord()
        if not clients:
            return self.parts.zero()
        jobs = [job_fn(client) for client in clients]
        broadcasts = {id(job.broadcast): job.broadcast for job in jobs}  # stale clients start from others
        numbers = {key: number for number, key in enumerate(broadcasts)}
        running = Round(
            self._cluster,
            [dataclasses.replace(job, broadcast=numbers[id(job.broadcast)]) for job in jobs],
            costs=[1.0 if self._cost_fn is None else self._cost_fn(job.client) for job in jobs],
            silos=[None if self._silo_fn is None else self._silo_fn(job.client) for job in jobs],
            task_fn=lambda num_leaves: self._task([*broadcasts.values()], num_leaves, bool(gathered.observers)),
            most_leaves=self._most_leaves,
            max_workers=self._max_workers,
            limits=self._limits,
            speeds=self._speeds,
            record=record,
            on_contribution=gathered.count,
            states=ClientStates(self._with_states, self._retain),
        )
        gathered.clock.stop("prepare")
        running.train(gathered.on_progress)
        gathered.clock.stop("clients")
        total = running.sum() if running.has_sum else self.parts.zero()
        gathered.failures.update(running.failures)
        gathered.sent_bytes += running.sent_bytes
        gathered.seconds.update(
            data=record.data_seconds, busy=record.busy_seconds, reading=record.read_seconds, idle=record.idle_seconds
        )
        gathered.clock.stop("aggregation")
        return total

    def _task(self, broadcasts: list[list], num_leaves: int, returns: bool) -> RoundTask:
        """What the round's leaves have in common, its weights put where all nodes can fetch them."""
        constants = self.parts.constants
        broadcasts = [[np.asarray(leaf) for leaf in broadcast] for broadcast in broadcasts]
        frozen = [broadcasts[0][i] for i in sorted(constants)]
        if self._frozen is None or not all(map(np.array_equal, frozen, self._frozen[0])):
            self._frozen = frozen, put(frozen)
            self.record.broadcast_bytes += _num_bytes(frozen)
        changing = [[leaf for i, leaf in enumerate(broadcast) if i not in constants] for broadcast in broadcasts]
        self.record.broadcast_bytes += sum(map(_num_bytes, changing))
        return RoundTask(
            key=f"{self._key}/{next(self._rounds)}",
            form_key=self._key,
            form=self._form_ref,
            precision=self._precision,
            num_leaves=num_leaves,
            changing=tuple(map(put, changing)),
            frozen=self._frozen[1],
            frozen_positions=tuple(sorted(constants)),
            encode=self._encode,
            returns_contributions=returns,
        )

    def close(self) -> None:
        self._form_ref = self._frozen = None
        if self._own_cluster:
            self._cluster.close()


def _num_bytes(arrays: list) -> int:
    return sum(array.nbytes for array in map(np.asarray, arrays))
