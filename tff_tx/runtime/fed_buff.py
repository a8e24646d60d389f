"""The server of FedBuff: an update is made of reports from clients that trained on older models."""

from __future__ import annotations

import collections
import functools
from collections.abc import Sequence
from typing import Any, Callable

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.runtime import form as form_lib
from tff_tx.runtime.engine import RoundOutput
from tff_tx.runtime.local import Job, LocalEngine


class FedBuffEngine(LocalEngine):
    """Buffered asynchronous aggregation over any process whose clients send one update of the model.

    Nguyen et al. 2022, https://arxiv.org/abs/2106.06639, Algorithm 1: the server's step is along the mean over the
    buffer of s(tau_i) Delta_i, where Delta_i is client i's update of the model it started from, tau_i how many updates
    that model is behind the server's, and s(tau) = (1 + tau)^-a; a = 1/2 is FedBuff's, 0 counts all alike, others are
    the polynomial weighting of Xie et al. 2019, https://arxiv.org/abs/1903.03934 (section 5.2).

    Only updates are scaled. A weighted mean is divided by the sum of the clients' weights as they are, so that an old
    report also makes the step shorter, as in the paper; metrics and what an aggregator counts stay as they are.

    A state is `OrderedDict(current, past)`: the process's state, and what the last `max_staleness` rounds broadcast,
    the newest first, as lists of leaves without the model's frozen weights, which are the same in every round. A
    client of a round is a pair of its argument and its staleness.

    Args:
      process: As for `LocalEngine`.
      threads: As for `LocalEngine`.
      precision: As for `LocalEngine`.
      max_staleness: The largest staleness there will be, 0 or more; the state grows with it.
      staleness_exponent: a, 0 or more.

    Raises:
      UserError: If clients send no update of the model's shape, or several, as in Mime Lite.
    """

    def __init__(
        self,
        process: tff.learning.templates.LearningProcess,
        threads: int = 2,
        precision: str = "float32",
        *,
        max_staleness: int = 10,
        staleness_exponent: float = 0.5,
    ):
        super().__init__(process, threads, precision)
        self._max_staleness, self._exponent = max_staleness, staleness_exponent
        weights = self._state_type.global_model_weights
        self._update_leaves = form_lib.only_update(
            self._contribution_type, weights.trainable, "--buffer_size scales down", "drop it"
        )
        paths = form_lib.paths(self._broadcast_type)
        self._changing = [i for i, path in enumerate(paths) if "non_trainable" not in path]

    def initialize(self) -> Any:
        current = super().initialize()
        return _state(current, [self._kept(self._broadcast(current))] * self._max_staleness)

    def run_round(
        self,
        state: Any,
        clients: Sequence[tuple[Any, int]],
        *,
        min_clients: int = 1,
        on_progress: Callable[[int], None] | None = None,
    ) -> RoundOutput:
        """Runs a round.

        Args:
          state: The server's state.
          clients: Pairs of what the process is told of a client and the client's staleness.
          min_clients: As for every engine.
          on_progress: As for every engine.

        Returns:
          As every engine; the metrics also have `staleness`, its mean and maximum over `clients`.

        Raises:
          TooFewClientsError: If fewer than `min_clients` finish.
          ValueError: If a client is staler than `max_staleness`.
        """
        staleness = [tau for _, tau in clients]
        if not all(0 <= tau <= self._max_staleness for tau in staleness):
            raise ValueError(f"staleness is between 0 and {self._max_staleness} here, and one of {staleness} is not.")
        past = []

        def job_fn(broadcast):
            past.extend([self._kept(broadcast), *state["past"]])
            models = {tau: self._model(broadcast, past[tau]) for tau in set(staleness)}
            return lambda pair: Job(pair[0], models[pair[1]], self._scaling(pair[1]))

        output = self._run(state["current"], clients, job_fn, min_clients, on_progress)
        metrics = collections.OrderedDict(output.metrics)
        metrics["staleness"] = collections.OrderedDict(
            mean=sum(staleness) / max(1, len(staleness)), max=max(staleness, default=0)
        )
        return RoundOutput(_state(output.state, past[: self._max_staleness]), metrics, output.failures, output.seconds)

    def model_weights(self, state: Any) -> tff.learning.models.ModelWeights:
        return super().model_weights(state["current"])

    def _kept(self, broadcast: list) -> list:
        return [broadcast[i] for i in self._changing]

    def _model(self, broadcast: list, kept: list) -> list:
        """The broadcast that `kept` was kept of; all of a round's clients share its tensors."""
        model = list(broadcast)
        for i, leaf in zip(self._changing, kept):
            model[i] = tf.convert_to_tensor(leaf)
        return model

    def _scaling(self, tau: int) -> Callable[[list], list] | None:
        weight = (1.0 + tau) ** -self._exponent
        return None if weight == 1 else functools.partial(self._scaled, weight=weight)

    def _scaled(self, contribution: list, weight: float) -> list:
        return [
            leaf * tf.cast(weight, leaf.dtype) if i in self._update_leaves else leaf
            for i, leaf in enumerate(contribution)
        ]


def _state(current: Any, past: list) -> collections.OrderedDict:
    return collections.OrderedDict(current=current, past=past)
