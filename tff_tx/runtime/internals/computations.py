"""TFF's computations as the messages that they are sent as, their graphs, and its types."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.proto.v0 import computation_pb2
from tensorflow_federated.python.core.environments.tensorflow_backend import compiled_computation_transformations
from tensorflow_federated.python.core.impl.types import type_analysis, type_conversions

Computation = computation_pb2.Computation
"""A serialized `tff.Computation`."""

LOOP = "ReduceDataset"
"""The op of TFF's loop over a client's batches."""

_ONE_DEVICE = "experimental_ints_on_device"


def graph_def_of(computation: Computation) -> tf.compat.v1.GraphDef:
    """The graph of a computation that is a single one."""
    graph_def = tf.compat.v1.GraphDef()
    computation.tensorflow.graph_def.Unpack(graph_def)
    return graph_def


def tensor_names(binding: computation_pb2.TensorFlow.Binding) -> list[str]:
    """The tensors of a computation's parameter or result, in order."""
    kind = binding.WhichOneof("binding")
    if kind == "tensor":
        return [binding.tensor.tensor_name]
    if kind == "sequence":
        return [binding.sequence.variant_tensor_name]
    if kind == "struct":
        return [name for element in binding.struct.element for name in tensor_names(element)]
    return []


def full_name(tensor: str) -> str:
    """A tensor's name with the number of the output, which graphs leave out for the first."""
    return tensor if ":" in tensor else f"{tensor}:0"


def inlined(computation: Computation) -> Computation:
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


def contains_sequence(value_type: tff.Type) -> bool:
    """Whether a value of the type has a dataset in it."""
    return type_analysis.contains(value_type, lambda t: isinstance(t, tff.SequenceType))


def to_containers(value: Any, value_type: tff.Type) -> Any:
    """A `tff.structure.Struct` as the Python containers that its type was made of."""
    return type_conversions.type_to_py_container(value, value_type)


def simplify_functions(graph_def: tf.compat.v1.GraphDef) -> None:
    """Lets the functions of a graph's pipelines be made ready in a fraction of the time, for every client anew.

    Whenever an iterator is made, TensorFlow places each function that it maps over as if its ops could be on several
    devices, partitions it and wires up the parts, which for a small client takes longer than to train. Functions that
    keep integers on "the device", which on a processor is the same memory, are built for one device at once. What they
    compute is the same.
    """
    nodes = [*graph_def.node, *(node for function in graph_def.library.function for node in function.node_def)]
    called = set()
    for node in nodes:
        if "Dataset" in node.op and node.op != LOOP:  # its function is a step, not called by a pipeline
            for attribute in node.attr.values():
                called.update(function.name for function in (attribute.func, *attribute.list.func))
    for function in graph_def.library.function:
        if function.signature.name in called:
            function.attr[_ONE_DEVICE].b = True
