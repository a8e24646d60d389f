"""Aggregators by name, and stacks of them: each layer changes what clients send, the last adds it up."""

from __future__ import annotations

import functools
import math
from typing import Any, Callable

import tensorflow_federated as tff

from tff_tx.aggregators.attention import AttentionFactory
from tff_tx.aggregators.bulyan import bulyan_factory
from tff_tx.aggregators.centered_clipping import centered_clipping_factory
from tff_tx.aggregators.geometric_median import geometric_median_factory
from tff_tx.aggregators.krum import krum_factory
from tff_tx.aggregators.median import median_factory, trimmed_mean_factory
from tff_tx.core.errors import UserError

# From the factory inside to the factory around it.
Wrapper = Callable[[tff.aggregators.AggregationFactory], tff.aggregators.AggregationFactory]


def mean_factory() -> tff.aggregators.WeightedAggregationFactory:
    """The mean, by weight; 0 if there is none."""
    return tff.aggregators.MeanFactory(no_nan_division=True)


AGGREGATORS: dict[str, Callable[..., tff.aggregators.AggregationFactory]] = {
    "mean": mean_factory,
    "attention": AttentionFactory,
    "median": median_factory,
    "trimmed_mean": trimmed_mean_factory,
    "krum": functools.partial(krum_factory, multi=False),
    "multi_krum": functools.partial(krum_factory, multi=True),
    "bulyan": bulyan_factory,
    "geometric_median": geometric_median_factory,
    "centered_clipping": centered_clipping_factory,
}
"""By the name of `--aggregator`."""

NEEDS_ALL_UPDATES = ("median", "trimmed_mean", "krum", "multi_krum", "bulyan", "geometric_median")
"""Those that hold every client's update of a round, see `GatheringFactory`."""


def stack(*layers: Any) -> tff.aggregators.AggregationFactory:
    """A stack of wrappers around an aggregator, in the order in which an update passes them.

    `stack(clipping(1.0), zeroing(), mean_factory())` clips, then zeroes outliers, then averages.

    Args:
      *layers: Functions from a factory to the factory around it, and at last a factory.

    Returns:
      A factory, weighted or not as the last is.

    Raises:
      TypeError: If the last is no factory.
    """
    *wrappers, innermost = layers
    factories = (tff.aggregators.WeightedAggregationFactory, tff.aggregators.UnweightedAggregationFactory)
    if not isinstance(innermost, factories):
        raise TypeError(f"the last layer of a stack has to be an aggregation factory, and is {innermost!r}.")
    return functools.reduce(lambda inner, wrapper: wrapper(inner), reversed(wrappers), innermost)


def clipping(norm: float | None = None) -> Wrapper:
    """Clips updates to an L2 norm: the norm bound of Sun et al. 2019, https://arxiv.org/abs/1911.07963, if it is fixed.

    Args:
      norm: None: what four of five updates are below, estimated as rounds go by, as `tff.learning.robust_aggregator`
        has it (Andrew et al. 2021, https://arxiv.org/abs/1905.03871).
    """
    return functools.partial(tff.aggregators.clipping_factory, _norm(norm, 1.0, 0.8, 0.2))


def zeroing(norm: float | None = None) -> Wrapper:
    """Replaces updates that have an element above a magnitude by 0; their weight stays.

    Args:
      norm: None: twice what 98 % of updates are below, and 1 more, estimated as rounds go by, as
        `tff.learning.robust_aggregator` has it.
    """
    process = _norm(norm, 10.0, 0.98, math.log(10.0), multiplier=2.0, increment=1.0)
    return functools.partial(tff.aggregators.zeroing_factory, process)


def _norm(norm, initial_estimate, target_quantile, learning_rate, **adjusted):
    if norm is not None:
        if not 0 < norm < math.inf:
            raise ValueError(f"norm={norm} is not above 0 and finite.")
        return float(norm)
    return tff.aggregators.PrivateQuantileEstimationProcess.no_noise(
        initial_estimate, target_quantile, learning_rate, **adjusted
    )


def refuse_hidden_updates(name: str, flag: str, hides: str) -> None:
    """Refuses an aggregator that needs all updates where nobody may look at one.

    Args:
      name: One of `AGGREGATORS`.
      flag: What was asked for besides, such as "--dp_noise_multiplier=1.0".
      hides: What that is: "differential privacy" or "secure aggregation".

    Raises:
      UserError: If they contradict each other; the message says why.
    """
    if name not in NEEDS_ALL_UPDATES:
        return
    reason = {
        "differential privacy": "which has to bound what one client changes in the result, and here one client can "
        "decide which others count",
        "secure aggregation": "which shows the server sums alone",
    }[hides]
    raise UserError(
        f"--aggregator={name} looks at every single update, and {flag} is {hides}, {reason}: use mean or "
        "centered_clipping, or drop it."
    )
