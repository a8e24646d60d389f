"""Processes of aggregators, built from functions of tensors."""

from __future__ import annotations

from typing import Any, Callable

import tensorflow as tf
import tensorflow_federated as tff

_Fn = Callable[..., Any]


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
