"""What the algorithms have in common."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable

import tensorflow_federated as tff

REDUCE = tff.learning.LoopImplementation.DATASET_REDUCE
"""The loop over a client's batches that the local engine can take apart."""


@dataclasses.dataclass(frozen=True)
class Options:
    """The parts an algorithm is composed of.

    Attributes:
      client_optimizer_fn: From a learning rate (float or scalar tensor) to the clients' optimizer.
      server_optimizer: Applied to the aggregate; SGD with rate 1 adds the mean update (McMahan et al. 2017).
      client_learning_rate: The clients' rate.
      client_schedule: If not None, the clients' rate as a function of the round instead.
      weighted: Whether clients count by their number of examples, else equally.
      aggregator: `tff.aggregators` factory, weighted or not as `weighted` says; None for the (weighted) mean.
      proximal_strength: mu of FedProx.
    """

    client_optimizer_fn: Callable[[Any], tff.learning.optimizers.Optimizer]
    server_optimizer: tff.learning.optimizers.Optimizer
    client_learning_rate: float = 0.1
    client_schedule: Callable[[Any], Any] | None = None
    weighted: bool = True
    aggregator: Any = None
    proximal_strength: float = 0.0

    @property
    def client_optimizer(self) -> tff.learning.optimizers.Optimizer:
        """The clients' optimizer where their rate is constant."""
        return self.client_optimizer_fn(self.client_learning_rate)

    @property
    def weighted_aggregator(self) -> tff.aggregators.WeightedAggregationFactory:
        """The aggregator as one that takes weights (and ignores them, if it is unweighted)."""
        if self.aggregator is not None:
            if isinstance(self.aggregator, tff.aggregators.WeightedAggregationFactory):
                return self.aggregator
            return tff.aggregators.as_weighted_aggregator(self.aggregator)
        return tff.aggregators.MeanFactory()
