"""An algorithm's record, and what it can be combined with."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable

import tensorflow_federated as tff

from tff_tx.algorithms.capabilities import (
    CLIENT_RATE,
    CLIENT_WEIGHTING,
    EXAMPLE_WEIGHTING,
    ONE_UPDATE,
    PERSONAL_WEIGHTS,
    PRIVATE_METRICS,
    REASONS,
    SENDS_LOSS,
)
from tff_tx.algorithms.client.personal import num_personal
from tff_tx.algorithms.options import Options
from tff_tx.core.errors import UserError

_BUILD = Callable[[tff.learning.models.FunctionalModel, Options], tff.learning.templates.LearningProcess]


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """A federated algorithm.

    Attributes:
      name: In the registry, such as "fed_avg".
      title: As its paper writes it.
      paper: Link.
      build: From a functional model and `Options` to the `LearningProcess`.
      capabilities: Of `tff_tx.algorithms.capabilities`.
      own_model: How a client gets the model of its own, if it has one: "stored", what its work has left; or made of the
        global model where it is needed, by `Options.personal_epochs` passes over the client's records that train its
        personal weights ("rebuilt") or all ("tuned"); or that of the server's models which has the least loss on its
        records ("chosen").
      own_weights: From the shared trainable weights and the leaves of a client's state to the trainable weights of its
        own model, of an algorithm whose clients have one beside the global model; None: they have none.
      adds_adapters: Whether these own weights are added to the shared ones, as `models.DualAdapters` does by
        `Options.mixing`, rather than take their place.
      models_fn: From the server's `ModelWeights` to those of each of its models; None: it has one.
      client_state: Whether clients retain a state between rounds, for which the engine needs `runtime.RetainedState`.
    """

    name: str
    title: str
    paper: str
    build: _BUILD
    capabilities: frozenset[str]
    own_model: str = "stored"
    own_weights: Callable[[tuple, tuple], tuple] | None = None
    adds_adapters: bool = False
    models_fn: Callable[[Any], list[Any]] | None = None
    client_state: bool = False

    def models(self, weights: Any) -> list[Any]:
        """The `ModelWeights` of each of the server's models, the one that is published as such first."""
        return [weights] if self.models_fn is None else self.models_fn(weights)

    @property
    def is_stateless(self) -> bool:
        """Whether clients store nothing from round to round."""
        return self.own_model != "stored"

    @property
    def has_own_models(self) -> bool:
        """Whether clients have models of their own even where no weights are personal."""
        return self.own_weights is not None or self.models_fn is not None

    def require(self, capability: str, what: str) -> None:
        """Checks for a capability.

        Args:
          capability: Of `capabilities`.
          what: What needs it, the subject of the error.

        Raises:
          UserError: If the algorithm does not have it.
        """
        if capability not in self.capabilities:
            raise UserError(f"{what} cannot be combined with {self.title}: {REASONS[capability]}.")


def check(algorithm: Algorithm, options: Options, model: tff.learning.models.FunctionalModel) -> None:
    """Checks that an algorithm has a place for all parts of its options.

    Args:
      algorithm: What is to be built.
      options: Its parts.
      model: What is to be trained.

    Raises:
      UserError: With the first part that does not fit, and the reason.
    """
    for transform in options.transforms:
        for capability in sorted(transform.requires):
            algorithm.require(capability, f"the client transform {type(transform).__name__}")
        transform.check(model, options)
    parts = {
        (CLIENT_RATE, "a schedule of the client's learning rate"): options.client_schedule is not None,
        (CLIENT_WEIGHTING, "counting clients equally"): not options.weighted,
        (EXAMPLE_WEIGHTING, "counting clients by their examples"): options.weighted,
        (SENDS_LOSS, "an aggregator that goes by clients' losses"): options.sends_loss,
        (PRIVATE_METRICS, "an aggregator of metrics"): options.metrics_aggregator is not None,
        (ONE_UPDATE, "an attack on updates"): options.wrap_client_work is not None,
        (PERSONAL_WEIGHTS, "a model with personal weights"): num_personal(model) > 0,
    }
    for (capability, what), is_there in parts.items():
        if is_there:
            algorithm.require(capability, what)
