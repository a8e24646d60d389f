"""TFF computations that are one TensorFlow graph, as functions of flat lists of tensors."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import Any, Callable

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
from tensorflow.python.eager import context
from tensorflow_federated.proto.v0 import computation_pb2

from tff_tx.runtime.pipelines import simplify_functions
from tff_tx.runtime.tensors import leave_nothing

PRECISIONS = ("float32", "bfloat16")
_SINGLE_THREADED = "SINGLE_THREADED_EXECUTOR"
_imports = itertools.count()


class ImportedGraph:
    """The graph of a `tff.Computation`, imported once.

    Args:
      computation: Serialized, see `tff.framework.serialize_computation`.
      name: What to call it in messages.

    Raises:
      ValueError: If the computation is not a single graph, or keeps state in variables, which concurrent calls would
        share.
    """

    def __init__(self, computation: computation_pb2.Computation, name: str):
        if computation.WhichOneof("computation") != "tensorflow":
            raise ValueError(f"{name} of the process is not a single TensorFlow graph.")
        if computation.tensorflow.initialize_op:
            raise ValueError(
                f"{name} of the process keeps state in TensorFlow variables: build it from a FunctionalModel, or use "
                "the engine tff_native."
            )
        graph_def = tf.compat.v1.GraphDef()
        computation.tensorflow.graph_def.Unpack(graph_def)
        _make_functions_unique(graph_def)
        simplify_functions(graph_def)
        self.feeds = tensor_names(computation.tensorflow.parameter)
        self.fetches = tensor_names(computation.tensorflow.result)
        self.signatures = {f.signature.name: f.signature for f in graph_def.library.function}
        self._imported = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph_def, name=""), [])
        self.graph = self._imported.graph

    def tensor(self, name: str) -> tf.Tensor:
        """A tensor of the graph, by name."""
        return self.graph.get_tensor_by_name(name)

    def function(self, feeds: Sequence[str], fetches: Sequence[str], step_options: Any = None) -> GraphFunction:
        """The part of the graph from some tensors to others, by name, as a `GraphFunction`."""
        return GraphFunction(self._imported, feeds, fetches, step_options)

    def whole(self) -> GraphFunction:
        """All of it, from the leaves of the computation's parameter to those of its result."""
        return self.function(self.feeds, self.fetches)


class GraphFunction:
    """Part of a graph as a function of flat lists of tensors."""

    def __init__(
        self,
        imported: Any,
        feeds: Sequence[str],
        fetches: Sequence[str],
        call_options: context.FunctionCallOptions | None,
    ):
        graph = imported.graph
        # A tensor may be fetched twice; pruning wants each once.
        unique = list(dict.fromkeys(fetches))
        self._positions = [unique.index(name) for name in fetches]
        pruned = imported.prune(
            [graph.get_tensor_by_name(name) for name in feeds], [graph.get_tensor_by_name(name) for name in unique]
        )
        self._function = _Called(pruned, call_options)

    def __call__(self, *flat: Any) -> list[tf.Tensor]:
        """Runs it on one value a feed; gives one tensor a fetch."""
        outputs = tf.nest.flatten(self._function(flat))
        return [outputs[i] for i in self._positions]


class _Called:
    """A concrete function, called with options on flat lists of values."""

    def __init__(self, function: Any, options: context.FunctionCallOptions | None):
        self._function, self._options = function, options
        self._called, self._first_call = False, threading.Lock()

    def __call__(self, flat: Sequence[Any]) -> Any:
        if self._called:
            outputs = self._call(flat)
        else:
            # TensorFlow optimizes it in the first call, and would once a thread if several came at the same time.
            with self._first_call:
                outputs = self._call(flat)
                self._called = True
        leave_nothing(tf.nest.flatten(outputs))
        return outputs

    def _call(self, flat):
        inputs = [tf.convert_to_tensor(leaf) for leaf in flat]
        # Calling the function itself first fails to bind to its (empty) Python signature, which costs more than a step.
        if self._options is None:
            return self._function._call_flat(inputs, self._function.captured_inputs)
        thread = context.context()
        before = thread.function_call_options
        thread.function_call_options = self._options
        try:
            return self._function._call_flat(inputs, self._function.captured_inputs)
        finally:
            thread.function_call_options = before


def step_function(fn: Callable[..., Any], *specs: Any) -> Callable[..., Any]:
    """`fn` traced and run as a step over one batch: in the calling thread alone, see `step_options`.

    It is for functions that several threads call at the same time, each many times. They compute op by op what `fn`
    says; without gradients, optimization has not paid.

    Args:
      fn: From structures of tensors to a structure of tensors; traced once, without AutoGraph.
      *specs: Structures of `tf.TensorSpec`, one an argument of `fn`.

    Returns:
      A function of the same arguments as `fn`.
    """

    def flat_fn(*flat):
        return fn(*tf.nest.pack_sequence_as(specs, flat))

    traced = tf.function(flat_fn, autograph=False).get_concrete_function(*tf.nest.flatten(specs))
    called = _Called(traced, step_options(optimize=False))
    return lambda *arguments: called(tf.nest.flatten(arguments))


def step_options(precision: str = "float32", optimize: bool = True) -> context.FunctionCallOptions:
    """How a step over one batch is called: in the calling thread alone, and optimized as a whole when first called.

    TensorFlow's default executor hands every larger op to a pool of threads. With a client a thread there is nothing to
    gain by that, and a third of the processors' time is lost in waking one another up.

    Args:
      precision: "float32", or "bfloat16" to let Grappler compute matrix products and what lies between them in
        bfloat16 (Kalamkar et al. 2019); weights, sums and updates stay float32.
      optimize: Whether Grappler optimizes it; otherwise it is left as it is.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is none of {', '.join(PRECISIONS)}.")
    config = config_pb2.ConfigProto()
    config.experimental.executor_type = _SINGLE_THREADED
    rewrite = config.graph_options.rewrite_options
    rewrite.disable_meta_optimizer = not optimize
    if precision == "bfloat16":
        rewrite.auto_mixed_precision_onednn_bfloat16 = rewriter_config_pb2.RewriterConfig.ON
    return context.FunctionCallOptions(_SINGLE_THREADED, config)


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
