"""The parts an algorithm is composed of."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable

import tensorflow_federated as tff

from tff_tx.algorithms.client.transforms import Chain, ClientTransform, chain

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
      aggregator: `tff.aggregators` factory, such as one of `tff_tx.aggregators`; an unweighted one counts clients
        equally. None for the (weighted) mean.
      transforms: Of the client's step, composed as `chain(*transforms)`.
      metrics_aggregator: Unweighted factory that makes the round's metrics of those of each client; None: the figures
        over all their examples together.
      figures_sum: Unweighted factory that sums clients' metrics before they are finalized, as secure aggregation needs;
        None: `tff.federated_sum`.
      sends_loss: Whether a client's weight is an `OrderedDict(weight=float32, loss=float32)` for an aggregator that
        goes by it, as attention does.
      wrap_client_work: If not None, makes of the clients' `ClientWorkProcess` the one that takes its place, as
        `tff_tx.analysis.attacks` does.
      personal_epochs: Passes of FedRep, FedRecon and FedDPA over a client's batches that train what is its own.
      personal_strength: lambda by which Ditto, MR-MTL and pFedMe pull own models towards the shared one.
      moreau_steps: K of pFedMe, steps on each batch.
      mixing: alpha of FedDPA, and of APFL at first.
      mixing_rate: Learning rate of APFL's alpha.
      clusters: Models of IFCA.
      cluster_spread: How far they begin from each other, see `ifca.Clusters`.
      client_choices: Of FedEx, settings that a client draws one of: each pairs of a name and a value, all with the
        same names, see `fed_ex.CHOICES`.
      extrapolation_epsilon: Of FedExP, added to the squared norm of the mean update.
      dynamic_strength: alpha of FedDyn.
      inner_learning_rate: alpha of Per-FedAvg.
      hessian_step: delta of Per-FedAvg's differences of gradients; None: first order.
      num_clients: N, the number of clients there are; control variates need it.
      clients_per_round: Number of clients that are expected in a round; FedDyn needs it.
      fixed_denominator: Whether the aggregator divides by that, however many clients report, as central DP does.
      distributor_fn: From a function that gives the model's initial `ModelWeights` to the `DistributionProcess` by
        which clients get the model; None: it is broadcast.

    Raises:
      UserError: At construction, if transforms exclude each other.
    """

    client_optimizer_fn: Callable[[Any], tff.learning.optimizers.Optimizer]
    server_optimizer: tff.learning.optimizers.Optimizer
    client_learning_rate: float = 0.1
    client_schedule: Callable[[Any], Any] | None = None
    weighted: bool = True
    aggregator: Any = None
    transforms: tuple[ClientTransform, ...] = ()
    metrics_aggregator: Any = None
    figures_sum: Any = None
    sends_loss: bool = False
    wrap_client_work: Callable[[Any], Any] | None = None
    personal_epochs: int = 1
    personal_strength: float = 0.1
    moreau_steps: int = 5
    mixing: float = 0.5
    mixing_rate: float = 0.01
    clusters: int = 2
    cluster_spread: float = 0.1
    client_choices: tuple[tuple[tuple[str, float], ...], ...] = ()
    extrapolation_epsilon: float = 1e-3
    dynamic_strength: float = 0.1
    inner_learning_rate: float = 0.01
    hessian_step: float | None = None
    num_clients: int | None = None
    clients_per_round: int | None = None
    fixed_denominator: bool = False
    distributor_fn: Callable[[Callable[[], Any]], Any] | None = None

    def __post_init__(self):
        if not isinstance(self.transforms, Chain):
            object.__setattr__(self, "transforms", chain(*self.transforms))

    @property
    def client_optimizer(self) -> tff.learning.optimizers.Optimizer:
        """The clients' optimizer where their rate is constant."""
        return self.client_optimizer_fn(self.client_learning_rate)

    @property
    def client_weighting(self) -> tff.learning.ClientWeighting:
        """TFF's name of how clients count."""
        weighting = tff.learning.ClientWeighting
        return weighting.NUM_EXAMPLES if self.weighted else weighting.UNIFORM

    @property
    def weighted_aggregator(self) -> tff.aggregators.WeightedAggregationFactory:
        """The aggregator as one that takes weights (and ignores them, if it is unweighted)."""
        if self.aggregator is not None:
            if isinstance(self.aggregator, tff.aggregators.WeightedAggregationFactory):
                return self.aggregator
            return tff.aggregators.as_weighted_aggregator(self.aggregator)
        return tff.aggregators.MeanFactory()

    def distributor(
        self, model: tff.learning.models.FunctionalModel
    ) -> tff.learning.templates.DistributionProcess | None:
        """The model's distributor; None: TFF's own, which broadcasts it."""
        if self.distributor_fn is None:
            return None
        return self.distributor_fn(lambda: tff.learning.models.ModelWeights(*model.initial_weights))
