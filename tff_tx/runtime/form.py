"""A round as plain TensorFlow graphs: TFF's `MapReduceForm`, imported once and called like functions.

This is what travels to wherever a client's work runs: serialized graphs and bindings, no Python closures.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.python.core.impl.types import type_conversions

from tff_tx.runtime.engine import Traffic


class GraphFunction:
    """A `tff.Computation` that is one TensorFlow graph, as a function of flat lists of tensors.

    Raises:
      ValueError: If the computation is not a single graph, or keeps state in variables, which concurrent calls would
        share.
    """

    def __init__(self, computation: tff.Computation, name: str):
        proto = tff.framework.serialize_computation(computation)
        if proto.WhichOneof("computation") != "tensorflow":
            raise ValueError(f"{name} of the process is not a single TensorFlow graph.")
        if proto.tensorflow.initialize_op:
            raise ValueError(
                f"{name} of the process keeps state in TensorFlow variables: build it from a FunctionalModel, or use "
                "the engine tff_native."
            )
        graph_def = tf.compat.v1.GraphDef()
        proto.tensorflow.graph_def.Unpack(graph_def)
        _make_functions_unique(graph_def)
        self.type_signature = computation.type_signature
        self._feeds = _tensor_names(proto.tensorflow.parameter)
        self._fetches = _tensor_names(proto.tensorflow.result)
        imported = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph_def, name=""), [])
        graph = imported.graph
        # A tensor may be fetched twice; pruning wants each once.
        self._unique_fetches = list(dict.fromkeys(self._fetches))
        self._function = imported.prune(
            [graph.get_tensor_by_name(n) for n in self._feeds],
            [graph.get_tensor_by_name(n) for n in self._unique_fetches],
        )

    def __call__(self, *flat: Any) -> list[tf.Tensor]:
        """Runs the graph on the leaves of its parameter, in their order; gives the leaves of its result."""
        inputs = [tf.convert_to_tensor(leaf) for leaf in flat]
        # Calling the function itself first fails to bind to its (empty) Python signature, which costs more than a step.
        outputs = self._function._call_flat(inputs, self._function.captured_inputs)
        results = dict(zip(self._unique_fetches, tf.nest.flatten(outputs)))
        return [results[name] for name in self._fetches]


class RoundForm:
    """The graphs of one round of a `LearningProcess`.

    prepare: state -> what is broadcast. work: (client, broadcast) -> client's contribution. zero, accumulate: sum of
    contributions. report: sum -> aggregate. update: (state, aggregate) -> (state, metrics).
    """

    def __init__(self, process: tff.learning.templates.LearningProcess):
        form = tff.backends.mapreduce.get_map_reduce_form_for_computation(process.next)
        if form.securely_aggregates_tensors:
            raise ValueError("the process sums securely, which this engine does not do yet.")
        self.state_type, self.client_type = (
            t.member for _, t in tff.structure.iter_elements(process.next.type_signature.parameter)
        )
        self.metrics_type = process.next.type_signature.result.metrics.member
        self.prepare = GraphFunction(form.prepare, "prepare")
        self.work = GraphFunction(form.work, "work")
        self.zero = GraphFunction(form.zero, "zero")
        self.accumulate = GraphFunction(form.accumulate, "accumulate")
        self.report = GraphFunction(form.report, "report")
        self.update = GraphFunction(form.update, "update")
        self.initialize = GraphFunction(
            tff.backends.mapreduce.get_state_initialization_computation(process.initialize),
            "initialize",
        )

    @property
    def traffic(self) -> Traffic:
        """Bytes to and from a client."""
        return Traffic(num_bytes(self.prepare.type_signature.result), num_bytes(self.work.type_signature.result))


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


_imports = itertools.count()


def _make_functions_unique(graph_def) -> None:
    """Renames the graph's functions: all imports share one name space, and Grappler changes bodies, not names."""
    suffix = f"_tff_tx_{next(_imports)}"
    names = {f.signature.name for f in graph_def.library.function}

    def rename(node):
        if node.op in names:
            node.op += suffix
        for attribute in node.attr.values():
            for function in (attribute.func, *attribute.list.func):
                if function.name in names:
                    function.name += suffix

    for function in graph_def.library.function:
        function.signature.name += suffix
        for node in function.node_def:
            rename(node)
    for gradient in graph_def.library.gradient:
        gradient.function_name += suffix
        gradient.gradient_func += suffix
    for node in graph_def.node:
        rename(node)


def _element(value, index, name):
    if name is None:
        return value[index]
    if isinstance(value, dict):
        return value[name]
    return getattr(value, name)


def _tensor_names(binding) -> list[str]:
    kind = binding.WhichOneof("binding")
    if kind == "tensor":
        return [binding.tensor.tensor_name]
    if kind == "sequence":
        return [binding.sequence.variant_tensor_name]
    if kind == "struct":
        return [name for element in binding.struct.element for name in _tensor_names(element)]
    return []
