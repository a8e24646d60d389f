"""The server of FedBuff: an update is made of reports from clients that trained on older models."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tff_tx.core.errors import setting
from tff_tx.runtime import form as form_lib
from tff_tx.runtime.hooks import Hook, Job


class Staleness(Hook):
    """Buffered asynchronous aggregation over any process whose clients send one update of the model.

    Nguyen et al. 2022, https://arxiv.org/abs/2106.06639, Algorithm 1: the server's step is along the mean over the
    buffer of s(tau_i) Delta_i, where Delta_i is client i's update of the model it started from, tau_i how many updates
    that model is behind the server's, and s(tau) = (1 + tau)^-a; a = 1/2 is FedBuff's, 0 counts all alike, others are
    the polynomial weighting of Xie et al. 2019, https://arxiv.org/abs/1903.03934 (section 5.2).

    Only updates are scaled, after they are decoded. A weighted mean is divided by the sum of the clients' weights as
    they are, so that an old report also makes the step shorter, as in the paper; metrics and what an aggregator counts
    stay as they are. Where the download is compressed (`compression.build_delta_distributor`), a client starts from the
    model h_t that clients decoded in the round t it started in.

    Its state, `past`, is what the last `max_staleness` rounds broadcast, the newest first, as lists of leaves without
    those that are the same in every round, such as frozen weights. A client of a round is a pair of its argument and
    its staleness. The round's metrics also have `staleness`, its mean and maximum over the clients.

    Args:
      max_staleness: The largest staleness there will be, 0 or more; the state grows with it.
      staleness_exponent: a, 0 or more.

    Raises:
      UserError: When bound, if clients send no update of the model's shape, or several, as in Mime Lite.
      ValueError: When a round starts, if a client is staler than `max_staleness`.
    """

    state_name = "past"

    def __init__(self, max_staleness: int = 10, staleness_exponent: float = 0.5):
        self._max_staleness, self._exponent = max_staleness, staleness_exponent

    def bind(self, engine: Any) -> None:
        self._update_leaves = form_lib.only_update(
            engine.parts.contribution_type,
            engine.weights_type.trainable,
            f"{setting('cohort.buffer_size')} scales down",
            "drop it",
        )
        constants = engine.parts.constants
        self._changing = [i for i in range(len(form_lib.paths(engine.parts.broadcast_type))) if i not in constants]

    def initialize(self, broadcast: list) -> Any:
        return [[broadcast[i] for i in self._changing]] * self._max_staleness

    def start_round(self, engine: Any, state: Any, broadcast: list, clients: Sequence[tuple[Any, int]]) -> None:
        self._staleness = [tau for _, tau in clients]
        if not all(0 <= tau <= self._max_staleness for tau in self._staleness):
            raise ValueError(
                f"staleness={self._staleness}: must be between 0 and {self._max_staleness} for each client."
            )
        self._past = [[broadcast[i] for i in self._changing], *state[self.state_name]]
        # All of a round's clients that start from the same model share its tensors.
        self._models = {tau: self._model(broadcast, tau) for tau in set(self._staleness)}

    def start_client(self, job: Job) -> Job:
        client, tau = job.client
        job = dataclasses.replace(job, client=client, broadcast=self._models[tau])
        weight = (1.0 + tau) ** -self._exponent
        if weight == 1:
            return job
        scaled = functools.partial(_scaled, leaves=self._update_leaves, weight=weight)
        return dataclasses.replace(job, at_server=(*job.at_server, scaled))

    def end_round(self, failures: Mapping[int, str]) -> Any:
        self._models = {}
        return self._past[: self._max_staleness]

    def metrics(self) -> Mapping[str, Any]:
        taus = self._staleness
        mean = sum(taus) / max(1, len(taus))
        return {"staleness": collections.OrderedDict(mean=mean, max=max(taus, default=0))}

    def _model(self, broadcast: list, tau: int) -> list:
        model = list(broadcast)
        for i, leaf in zip(self._changing, self._past[tau]):
            model[i] = tf.convert_to_tensor(leaf)
        return model


def _scaled(contribution: list, leaves: range, weight: float) -> list:
    return [leaf * tf.cast(weight, leaf.dtype) if i in leaves else leaf for i, leaf in enumerate(contribution)]
