"""A round as plain TensorFlow graphs: TFF's `MapReduceForm`, serialized."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.proto.v0 import computation_pb2
from tensorflow_federated.python.core.environments.tensorflow_backend import compiled_computation_transformations
from tensorflow_federated.python.core.impl.types import type_conversions

from tff_tx.runtime.engine import Traffic
from tff_tx.runtime.graphs import ImportedGraph

_PARTS = ("prepare", "work", "zero", "accumulate", "merge", "report", "update")


@dataclasses.dataclass(frozen=True)
class RoundForm:
    """One round of a `LearningProcess`: what travels to wherever a part of it runs. It pickles.

    prepare: state -> what is broadcast. work: (client, broadcast) -> client's contribution. zero, accumulate, merge:
    sums of contributions. report: sum -> aggregate. update: (state, aggregate) -> (state, metrics). initialize: the
    first state.

    Attributes:
      computations: The parts by name, each a serialized `computation_pb2.Computation`.
    """

    computations: Mapping[str, bytes]

    @classmethod
    def of(cls, process: tff.learning.templates.LearningProcess) -> RoundForm:
        """Compiles a process.

        Raises:
          ValueError: If the process sums securely.
        """
        form = tff.backends.mapreduce.get_map_reduce_form_for_computation(process.next, _no_grappler())
        if form.securely_aggregates_tensors:
            raise ValueError("the process sums securely, which this engine does not do yet.")
        parts = {name: getattr(form, name) for name in _PARTS}
        parts["initialize"] = tff.backends.mapreduce.get_state_initialization_computation(
            process.initialize, _no_grappler()
        )
        protos = {name: tff.framework.serialize_computation(part) for name, part in parts.items()}
        # All but its steps, which are optimized when first called, takes less time to run than to optimize; but its
        # loop has to come out of the functions it is in.
        protos["work"] = _inlined(protos["work"])
        return cls({name: proto.SerializeToString() for name, proto in protos.items()})

    def graph(self, name: str) -> ImportedGraph:
        """A part, imported."""
        return ImportedGraph(self._proto(name), name)

    def type_signature(self, name: str) -> tff.FunctionType:
        """The type of a part, without the Python containers of the process."""
        return tff.framework.deserialize_computation(self._proto(name)).type_signature

    def _proto(self, name):
        return computation_pb2.Computation.FromString(self.computations[name])

    @property
    def traffic(self) -> Traffic:
        """Bytes to and from a client."""
        prepared, worked = self.type_signature("prepare"), self.type_signature("work")
        return Traffic(num_bytes(prepared.result), num_bytes(worked.result))


def _no_grappler() -> tf.compat.v1.ConfigProto:
    """By default TFF has every part optimized aggressively, each on its own."""
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return config


def _inlined(computation: computation_pb2.Computation) -> computation_pb2.Computation:
    """A TensorFlow graph with the functions that it calls inlined; any other computation as it is."""
    if computation.WhichOneof("computation") != "tensorflow":
        return computation
    config = tf.compat.v1.ConfigProto()
    rewrite = config.graph_options.rewrite_options
    rewrite.optimizers.append("function")
    rewrite.function_optimization = rewrite.AGGRESSIVE
    rewrite.meta_optimizer_iterations = rewrite.ONE
    block = tff.framework.CompiledComputation(computation)
    optimized, _ = compiled_computation_transformations.optimize_tensorflow_graphs(block, config)
    return optimized.proto


def num_bytes(value_type: tff.Type) -> int:
    """Bytes of the tensors in a value of static shape."""
    if isinstance(value_type, tff.TensorType):
        return int(np.prod(value_type.shape, dtype=np.int64)) * np.dtype(value_type.dtype).itemsize
    return sum(num_bytes(t) for _, t in tff.structure.iter_elements(value_type))


def flatten(value: Any, value_type: tff.Type) -> list[Any]:
    """The leaves of a Python value, in the order of its TFF type."""
    if isinstance(value_type, tff.TensorType):
        return [value]
    if isinstance(value_type, tff.SequenceType):
        return [tf.data.experimental.to_variant(value)]
    elements = list(tff.structure.iter_elements(value_type))
    leaves = []
    for i, (name, element_type) in enumerate(elements):
        leaves.extend(flatten(_element(value, i, name), element_type))
    return leaves


def unflatten(leaves: list[Any], value_type: tff.Type) -> Any:
    """The Python value of a TFF type with the given leaves: the inverse of `flatten`."""
    iterator = iter(leaves)

    def build(t):
        if isinstance(t, tff.TensorType):
            return next(iterator)
        return tff.structure.Struct([(n, build(e)) for n, e in tff.structure.iter_elements(t)])

    return type_conversions.type_to_py_container(build(value_type), value_type)


def _element(value, index, name):
    if name is None:
        return value[index]
    if isinstance(value, dict):
        return value[name]
    return getattr(value, name)
