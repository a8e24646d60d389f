"""What the algorithms have in common."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable

import tensorflow_federated as tff

from tff_tx.algorithms.fed_gkd import GlobalDistillation
from tff_tx.algorithms.local_privacy import ExamplePrivacy, LocalPrivacy
from tff_tx.core.errors import UserError

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
      proximal_strength: mu of FedProx.
      distillation: If not None, FedGKD's term in clients' losses. FedAvg and FedProx alone.
      metrics_aggregator: Unweighted factory that makes the round's metrics of those of each client; None: the figures
        over all their examples together. For FedAvg and FedProx.
      gradient_accumulation_steps: Parts in which clients compute a batch, one after another, for one step of their
        optimizer. With 1 a batch is computed at once; with more it needs the memory of a part. FedAvg and FedProx
        alone.
      example_privacy: If not None, clients train with DP-SGD.
      local_privacy: If not None, clients' updates leave them clipped and noised. What else leaves them has to tell
        nothing of their data: they count equally.
      sends_loss: Whether a client's weight is an `OrderedDict(weight=float32, loss=float32)` for an aggregator that
        goes by it, as attention does. FedAvg and FedProx alone.
      wrap_client_work: If not None, makes of the clients' `ClientWorkProcess` the one that takes its place, as
        `tff_tx.analysis.attacks` does. FedAvg and FedProx alone.
      distributor_fn: From a function that gives the model's initial `ModelWeights` to the `DistributionProcess` by
        which clients get the model; None: it is broadcast.

    Raises:
      UserError: At construction, if updates are private and something else that is sent tells of a client's data, or
        gradients are to be accumulated and cannot be.
    """

    client_optimizer_fn: Callable[[Any], tff.learning.optimizers.Optimizer]
    server_optimizer: tff.learning.optimizers.Optimizer
    client_learning_rate: float = 0.1
    client_schedule: Callable[[Any], Any] | None = None
    weighted: bool = True
    aggregator: Any = None
    proximal_strength: float = 0.0
    distillation: GlobalDistillation | None = None
    metrics_aggregator: Any = None
    gradient_accumulation_steps: int = 1
    example_privacy: ExamplePrivacy | None = None
    local_privacy: LocalPrivacy | None = None
    sends_loss: bool = False
    wrap_client_work: Callable[[Any], Any] | None = None
    distributor_fn: Callable[[Callable[[], Any]], Any] | None = None

    def __post_init__(self):
        if self.gradient_accumulation_steps < 1:
            raise UserError(
                f"--gradient_accumulation_steps={self.gradient_accumulation_steps} is less than 1: raise it."
            )
        if self.gradient_accumulation_steps > 1 and self.example_privacy is not None:
            raise UserError(
                f"--gradient_accumulation_steps={self.gradient_accumulation_steps} and --example_dp_clip_norm: noise is added "
                "to a batch as a whole, and would be to each of its parts: drop one of them, or choose a smaller "
                "--batch_size."
            )
        if self.local_privacy is not None and self.weighted:
            raise UserError(
                "local differential privacy of updates (--local_dp_clip_norm) does not cover how many examples a client "
                "has: count clients equally, with --noweighted."
            )
        if self.local_privacy is not None and self.sends_loss:
            raise UserError(
                "local differential privacy of updates (--local_dp_clip_norm) does not cover the loss that clients would "
                "send (--attention_key=loss): drop one of them."
            )

    @property
    def has_own_local_training(self) -> bool:
        """Whether clients do what TFF's builders do not."""
        parts = (
            *(self.client_schedule, self.metrics_aggregator, self.example_privacy, self.local_privacy),
            self.wrap_client_work,
        )
        accumulates = self.gradient_accumulation_steps > 1
        return self.sends_loss or self.distills or accumulates or any(part is not None for part in parts)

    @property
    def distills(self) -> bool:
        """Whether the server's models teach the clients'."""
        return self.distillation is not None and self.distillation.weight > 0

    @property
    def sends_teacher(self) -> bool:
        """Whether the teacher is another model than the one that clients get anyway."""
        return self.distills and self.distillation.models > 1

    def check_usual_client_work(self, algorithm: str) -> None:
        """Checks that clients are TFF's own.

        Args:
          algorithm: Whose clients they have to be.

        Raises:
          UserError: If they are private by themselves, learn from a teacher, accumulate gradients, are to send their
            loss, or are wrapped.
        """
        if self.gradient_accumulation_steps > 1:
            raise UserError(
                f"--gradient_accumulation_steps={self.gradient_accumulation_steps} is for clients of fed_avg or "
                f"fed_prox, and --algorithm is {algorithm}: change one of them, or choose a smaller --batch_size."
            )
        if self.local_privacy is not None or self.example_privacy is not None:
            raise UserError(
                f"privacy inside of the client (--local_dp_clip_norm, --example_dp_clip_norm) is not for --algorithm={algorithm}: "
                "choose fed_avg or fed_prox."
            )
        if self.distills:
            raise UserError(
                f"--distillation_weight={self.distillation.weight} is for clients of fed_avg or fed_prox, and "
                f"--algorithm is {algorithm}: change one of them."
            )
        if self.sends_loss or self.wrap_client_work is not None:
            wanted = "send their loss" if self.sends_loss else "be wrapped, as attackers are"
            raise UserError(f"clients of {algorithm} cannot {wanted}: use fed_avg or fed_prox.")

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
