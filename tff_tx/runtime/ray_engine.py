"""The engine on a Ray cluster: the form travels to workers on all nodes, and sums come back."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Sequence
from typing import Any, Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.core.errors import UserError
from tff_tx.runtime import form as form_lib
from tff_tx.runtime.engine import Engine, RoundOutput, TooFewClientsError, Traffic
from tff_tx.runtime.internals.computations import contains_sequence
from tff_tx.runtime.local import Clock
from tff_tx.runtime.ray_cluster import RayCluster
from tff_tx.runtime.ray_record import Limits, RoundRecord
from tff_tx.runtime.ray_round import Round
from tff_tx.runtime.ray_worker import RoundTask

MOST_LEAVES = 256
"""Parts of a cohort, if nothing else is said: enough for some fifty workers to even out what they have to do."""


class RayEngine(Engine):
    """Runs clients in processes on all nodes of a Ray cluster.

    A round's graphs are sent once a worker, weights that change once a node and round, frozen ones once. Workers add up
    clients where they are; what comes back is a sum or a few from each, merged on the way. All processes give the same
    numbers, whatever their number: see `partials`. Workers that end or vanish are made up for within the round.

    Args:
      process: Of functional models, with clients named by plain data.
      threads: Processors of the cluster that is started if there is no `cluster`; default: all of this machine.
      precision: As for `LocalEngine`.
      cluster: Where to run; None starts one on this machine, which ends with the engine.
      address: Of a cluster to join instead.
      cost_fn: What a client of a round will cost, in any unit, from what the process is told of it; None: all the same.
      silo_fn: The name of the silo that a client's data are in, from the same; None: everybody can read them.
      limits: How long to wait for what.
      most_leaves: Into how many parts a cohort is cut at most. Other numbers give sums that are rounded otherwise.
      max_workers: How many workers to use at most.

    Attributes:
      record: What the last round did, a `RoundRecord`.

    Raises:
      UserError: If clients are given as datasets, or there is no Ray or no cluster.
    """

    def __init__(
        self,
        process: tff.learning.templates.LearningProcess,
        threads: int | None = None,
        precision: str = "float32",
        *,
        cluster: RayCluster | None = None,
        address: str | None = None,
        cost_fn: Callable[[Any], float] | None = None,
        silo_fn: Callable[[Any], str | None] | None = None,
        limits: Limits | None = None,
        most_leaves: int = MOST_LEAVES,
        max_workers: int | None = None,
    ):
        super().__init__(process)
        if contains_sequence(self._client_type):
            raise UserError(
                "--engine=ray sends clients over the network, and this process takes their datasets: name them by "
                "plain data (FederatedTask.process) or use --engine=local."
            )
        form = form_lib.RoundForm.of(process)
        self._traffic = form.traffic
        self._frozen_places = tuple(sorted(form.constants()))
        self._initialize, self._prepare, self._zero, self._report, self._update = (
            form.graph(part).whole() for part in ("initialize", "prepare", "zero", "report", "update")
        )
        self._own_cluster = cluster is None
        self._cluster = cluster or RayCluster(address, cpus=threads)
        self._precision, self._most_leaves, self._max_workers = precision, most_leaves, max_workers
        self._cost_fn, self._silo_fn, self._limits = cost_fn, silo_fn, limits or Limits()
        self._key, self._rounds = uuid.uuid4().hex, itertools.count()
        self._form_ref, self._frozen = _put(form.for_workers()), None
        self._speeds: dict = {}
        self.record = RoundRecord()

    def initialize(self) -> Any:
        return form_lib.unflatten(self._initialize(), self._state_type)

    def run_round(
        self,
        state: Any,
        clients: Sequence[Any],
        *,
        min_clients: int = 1,
        on_progress: Callable[[int], None] | None = None,
    ) -> RoundOutput:
        clock, self.record = Clock(), RoundRecord()
        flat_state = [tf.convert_to_tensor(leaf) for leaf in form_lib.flatten(state, self._state_type)]
        broadcast = [leaf.numpy() for leaf in self._prepare(*flat_state)]
        running = Round(
            self._cluster,
            clients,
            costs=[1.0 if self._cost_fn is None else self._cost_fn(client) for client in clients],
            silos=[None if self._silo_fn is None else self._silo_fn(client) for client in clients],
            task_fn=lambda num_leaves: self._task(broadcast, num_leaves),
            most_leaves=self._most_leaves,
            max_workers=self._max_workers,
            limits=self._limits,
            speeds=self._speeds,
            record=self.record,
        )
        clock.stop("prepare")
        running.train(on_progress)
        clock.stop("clients")
        finished = len(clients) - len(running.failures)
        if finished < min_clients:
            raise TooFewClientsError(finished, min_clients, running.failures)
        total = running.sum() if running.has_sum else self._zero()
        clock.stop("aggregation")
        results = self._update(*flat_state, *self._report(*total))
        metrics = [leaf.numpy() for leaf in results[len(flat_state) :]]
        clock.stop("server")
        seconds = {**clock.seconds, "data": self.record.data_seconds}
        seconds.update(busy=self.record.busy_seconds, reading=self.record.read_seconds, idle=self.record.idle_seconds)
        return RoundOutput(
            form_lib.unflatten(results[: len(flat_state)], self._state_type),
            form_lib.unflatten(metrics, self._metrics_type),
            running.failures,
            seconds,
        )

    def _task(self, broadcast: list, num_leaves: int) -> RoundTask:
        """What the round's leaves have in common, its weights put where all nodes can fetch them."""
        frozen = [broadcast[i] for i in self._frozen_places]
        if self._frozen is None or not all(map(np.array_equal, frozen, self._frozen[0])):
            self._frozen = frozen, _put(frozen)
            self.record.broadcast_bytes += _num_bytes(frozen)
        changing = [leaf for i, leaf in enumerate(broadcast) if i not in self._frozen_places]
        self.record.broadcast_bytes += _num_bytes(changing)
        return RoundTask(
            key=f"{self._key}/{next(self._rounds)}",
            form_key=self._key,
            form=self._form_ref,
            precision=self._precision,
            num_leaves=num_leaves,
            changing=_put(changing),
            frozen=self._frozen[1],
            frozen_places=self._frozen_places,
        )

    def model_weights(self, state: Any) -> tff.learning.models.ModelWeights:
        weights = state.global_model_weights
        return tf.nest.map_structure(lambda leaf: tf.convert_to_tensor(leaf).numpy(), weights)

    def traffic(self) -> Traffic:
        return self._traffic

    def close(self) -> None:
        self._form_ref = self._frozen = None
        if self._own_cluster:
            self._cluster.close()


def _put(value: Any) -> Any:
    import ray

    return ray.put(value)


def _num_bytes(arrays: list) -> int:
    return sum(array.nbytes for array in map(np.asarray, arrays))
