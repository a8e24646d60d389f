"""The mean, and stacks of aggregators: each layer changes what clients send, the last aggregates it."""

from __future__ import annotations

import functools
import math
from typing import Any, Callable, Optional

import numpy as np
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from tff_tx.aggregators.aggregator import Aggregator
from tff_tx.aggregators.secure_sums import secure_mean

# From the factory inside to the factory around it.
Wrapper = Callable[[tff.aggregators.AggregationFactory], tff.aggregators.AggregationFactory]


def mean_factory() -> tff.aggregators.WeightedAggregationFactory:
    """The mean, by weight; 0 if there is none."""
    return tff.aggregators.MeanFactory(no_nan_division=True)


MEAN = Aggregator(
    build=lambda settings, cohort: mean_factory(),
    build_secure=lambda settings, sums, weighted: secure_mean(sums, weighted),
)


def stack(*layers: Any) -> tff.aggregators.AggregationFactory:
    """A stack of wrappers around an aggregator, in the order in which an update passes them.

    `stack(clipping(1.0), zeroing(), mean_factory())` clips, then zeroes outliers, then averages. Layers are functions
    from a factory to the factory around it, and at last a factory, as which the stack is weighted or not.

    Raises:
      TypeError: If the last is no factory.
    """
    *wrappers, innermost = layers
    factories = (tff.aggregators.WeightedAggregationFactory, tff.aggregators.UnweightedAggregationFactory)
    if not isinstance(innermost, factories):
        raise TypeError(f"the last layer of a stack must be an aggregation factory, not {innermost!r}.")
    return functools.reduce(lambda inner, wrapper: wrapper(inner), reversed(wrappers), innermost)


Counts = Optional[tff.aggregators.UnweightedAggregationFactory]  # noqa: UP045 -- evaluated, also by Python 3.9


def clipping(norm: float | None = None, counts: Counts = None) -> Wrapper:
    """Clips updates to an L2 norm: the norm bound of Sun et al. 2019, https://arxiv.org/abs/1911.07963, if it is fixed.

    None: what four of five updates are below, estimated as rounds go by, as `tff.learning.robust_aggregator` has it
    (Andrew et al. 2021, https://arxiv.org/abs/1905.03871). With `counts`, what clients count is summed by it.
    """
    process = _norm(norm, counts, 1.0, 0.8, 0.2)
    return functools.partial(tff.aggregators.clipping_factory, process, clipped_count_sum_factory=counts)


def zeroing(norm: float | None = None, counts: Counts = None) -> Wrapper:
    """Replaces updates that have an element above a magnitude by 0; their weight stays.

    None: twice what 98 % of updates are below, and 1 more, estimated as `tff.learning.robust_aggregator` has it.
    `counts` as of `clipping`.
    """
    process = _norm(norm, counts, 10.0, 0.98, math.log(10.0), multiplier=2.0, increment=1.0)
    return functools.partial(tff.aggregators.zeroing_factory, process, zeroed_count_sum_factory=counts)


def _norm(norm, counts, initial_estimate, target_quantile, learning_rate, multiplier=1.0, increment=0.0):
    if norm is not None:
        if not 0 < norm < math.inf:
            raise ValueError(f"norm={norm}: must be above 0 and finite.")
        return float(norm)
    process = tff.aggregators.PrivateQuantileEstimationProcess
    if counts is None:
        return process.no_noise(initial_estimate, target_quantile, learning_rate, multiplier, increment)
    # TFF's secure estimation has sums of its own, with a range and bits of their own.
    query = tfp.NoPrivacyQuantileEstimatorQuery(initial_estimate, target_quantile, learning_rate, geometric_update=True)
    affine = tff.tensorflow.computation(np.float32)(lambda value: multiplier * value + increment)
    at_server = tff.federated_computation(tff.FederatedType(np.float32, tff.SERVER))
    return process(query, counts).map(at_server(lambda value: tff.federated_map(affine, value)))
