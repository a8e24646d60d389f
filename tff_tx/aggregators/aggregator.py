"""An aggregator's record, and processes built from functions of tensors."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.config import AggregationConfig, CohortConfig

_Fn = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class Aggregator:
    """An aggregator of clients' updates, as `tff_tx.config.registries.AGGREGATORS` lists it by name.

    Attributes:
      build: From the settings to the `tff.aggregators` factory; a weighted one is given clients' weights, an unweighted
        one counts clients equally.
      build_secure: The same by secure sums alone: from the settings, the `SecureSums` and whether clients have weights;
        None: it is no function of sums.
      needs_all_updates: Whether the server holds every client's update of a round, see `GatheringFactory`.
      breakdown: Breakdown point: less than this share of attackers is withstood; None: it is no robust aggregator.
      least_clients: From the number of assumed attackers f in a cohort to the number of clients that its guarantee
        needs; None: any number.

    Raises:
      ValueError: If it has `least_clients` without a `breakdown`.
    """

    build: Callable[[AggregationConfig, CohortConfig], Any]
    build_secure: Callable[[AggregationConfig, Any, bool], Any] | None = None
    needs_all_updates: bool = False
    breakdown: float | None = None
    least_clients: Callable[[int], int] | None = None

    def __post_init__(self):
        if self.least_clients is not None and self.breakdown is None:
            raise ValueError("least_clients needs a breakdown: the share of attackers that those clients withstand.")


def build_process(
    initialize: tff.Computation, next_fn: _Fn, value_type: tff.Type, *weight_type: tff.Type
) -> tff.templates.AggregationProcess:
    """The process of a federated `next_fn(state, value, *weight)`, weighted if there is a weight type."""
    types = [initialize.type_signature.result, *(tff.FederatedType(t, tff.CLIENTS) for t in (value_type, *weight_type))]
    if weight_type:

        @tff.federated_computation(*types)
        def computation(state, value, weight):
            return next_fn(state, value, weight)
    else:

        @tff.federated_computation(*types)
        def computation(state, value):
            return next_fn(state, value)

    return tff.templates.AggregationProcess(initialize, computation)


def build_one_pass(
    value_type: tff.Type, weight_type: tff.Type, contribute: _Fn, zero: _Fn, accumulate: _Fn, merge: _Fn, report: _Fn
) -> tff.templates.AggregationProcess:
    """The weighted process without a state whose `next` is one `tff.federated_aggregate`.

    Args:
      value_type: Of an update.
      weight_type: Of what a client sends with it.
      contribute: At a client, (value, weight) -> contribution.
      zero: () -> accumulator.
      accumulate: (accumulator, contribution) -> accumulator.
      merge: (accumulator, accumulator) -> accumulator.
      report: accumulator -> `OrderedDict(result, measurements)`.
    """
    value_type, weight_type = tff.to_type(value_type), tff.to_type(weight_type)
    contribute = tff.tensorflow.computation(value_type, weight_type)(contribute)
    zero = tff.tensorflow.computation(zero)
    accumulator_type = zero.type_signature.result
    accumulate = tff.tensorflow.computation(accumulator_type, contribute.type_signature.result)(accumulate)
    merge = tff.tensorflow.computation(accumulator_type, accumulator_type)(merge)
    report = tff.tensorflow.computation(accumulator_type)(report)

    def next_fn(state, value, weight):
        contributions = tff.federated_map(contribute, (value, weight))
        reported = tff.federated_aggregate(contributions, zero(), accumulate, merge, report)
        return tff.templates.MeasuredProcessOutput(state, reported["result"], reported["measurements"])

    return build_process(stateless(), next_fn, value_type, weight_type)


def stateless() -> tff.Computation:
    """The `initialize` of processes without a state."""

    @tff.federated_computation
    def initialize():
        return tff.federated_value((), tff.SERVER)

    return initialize


def structure_of(value_type: tff.Type) -> Any:
    """A type as a structure of `tf.TensorSpec`, the one that its values have inside of a computation.

    Raises:
      TypeError: If it holds anything but floats.
    """
    found = tff.types.structure_from_tensor_type_tree(
        lambda t: tf.TensorSpec(t.shape, t.dtype), tff.to_type(value_type)
    )
    wrong = [spec.dtype.name for spec in tf.nest.flatten(found) if not spec.dtype.is_floating]
    if wrong:
        raise TypeError(f"updates are floats, and this one has {', '.join(sorted(set(wrong)))}: {value_type}")
    return found


def zeros_of(specs: Any) -> Any:
    """Zeros of a structure of `tf.TensorSpec`."""
    return tf.nest.map_structure(lambda spec: tf.zeros(spec.shape, spec.dtype), specs)


def all_finite(structure: Any) -> tf.Tensor:
    """Whether all numbers of a structure of tensors are finite, bool []."""
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(leaf)) for leaf in tf.nest.flatten(structure)])
