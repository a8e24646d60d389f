"""TFF computations that are one TensorFlow graph, as functions of flat lists of tensors."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Callable

import tensorflow as tf

from tff_tx.runtime.internals.calls import Called, CallOptions, step_options
from tff_tx.runtime.internals.computations import Computation, graph_def_of, tensor_names
from tff_tx.runtime.internals.pipelines import simplify_functions

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

    def __init__(self, computation: Computation, name: str):
        if computation.WhichOneof("computation") != "tensorflow":
            raise ValueError(f"{name} of the process is not a single TensorFlow graph.")
        if computation.tensorflow.initialize_op:
            raise ValueError(
                f"{name} of the process keeps state in TensorFlow variables: build it from a FunctionalModel, or use "
                "the engine tff_native."
            )
        graph_def = graph_def_of(computation)
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

    def function(
        self, feeds: Sequence[str], fetches: Sequence[str], options: CallOptions | None = None, internal: bool = True
    ) -> GraphFunction:
        """The part of the graph from some tensors to others, by name, as a `GraphFunction`."""
        return GraphFunction(self._imported, feeds, fetches, options, internal)

    def whole(self, internal: bool = True) -> GraphFunction:
        """All of it, from the leaves of the computation's parameter to those of its result."""
        return self.function(self.feeds, self.fetches, internal=internal)


class GraphFunction:
    """Part of a graph as a function of flat lists of tensors.

    Args:
      imported: The wrapped function.
      feeds: Names of the tensors that it takes.
      fetches: Names of the tensors that it gives.
      options: How it is called, see `step_options`.
      internal: Whether its results stay within this package, see `tensors.drop_python_state`.
    """

    def __init__(
        self,
        imported: Any,
        feeds: Sequence[str],
        fetches: Sequence[str],
        options: CallOptions | None,
        internal: bool,
    ):
        graph = imported.graph
        # A tensor may be fetched twice; pruning wants each once.
        unique = list(dict.fromkeys(fetches))
        self._positions = [unique.index(name) for name in fetches]
        pruned = imported.prune(
            [graph.get_tensor_by_name(name) for name in feeds], [graph.get_tensor_by_name(name) for name in unique]
        )
        self._function = Called(pruned, options, internal)

    def __call__(self, *flat: Any) -> list[tf.Tensor]:
        """Runs it on one value a feed; gives one tensor a fetch."""
        outputs = tf.nest.flatten(self._function(flat))
        return [outputs[i] for i in self._positions]


def step_function(fn: Callable[..., Any], *specs: Any, internal: bool = False) -> Callable[..., Any]:
    """`fn` traced and run as a step over one batch: in the calling thread alone, see `step_options`.

    It is for functions that several threads call at the same time, each many times. They compute op by op what `fn`
    says; without gradients, optimization has not paid.

    Args:
      fn: From structures of tensors to a structure of tensors; traced once, without AutoGraph.
      *specs: Structures of `tf.TensorSpec`, one an argument of `fn`.
      internal: Whether the results stay within this package, see `tensors.drop_python_state`.

    Returns:
      A function of the same arguments as `fn`.
    """

    def flat_fn(*flat):
        return fn(*tf.nest.pack_sequence_as(specs, flat))

    traced = tf.function(flat_fn, autograph=False).get_concrete_function(*tf.nest.flatten(specs))
    called = Called(traced, step_options(optimize=False), internal)
    return lambda *arguments: called(tf.nest.flatten(arguments))


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
