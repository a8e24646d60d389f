"""TFF computations that are one TensorFlow graph, as functions of flat lists of tensors."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Callable

import tensorflow as tf

from tff_tx.runtime.internals.calls import Called, StepOptions
from tff_tx.runtime.internals.computations import Computation, full_name, graph_def_of, simplify_functions, tensor_names
from tff_tx.runtime.internals.stacks import without_stacks

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
        self._versions = graph_def.versions
        self._functions = {f.signature.name: f for f in graph_def.library.function}
        self._nodes = {node.name: node for node in graph_def.node}
        self._graph_def = graph_def

    @functools.cached_property
    def graph(self) -> tf.Graph:
        """The graph."""
        graph = tf.Graph()
        with graph.as_default():
            tf.graph_util.import_graph_def(self._graph_def, name="")
        return graph

    def tensor(self, name: str) -> tf.Tensor:
        """A tensor of the graph, by name."""
        return self.graph.get_tensor_by_name(name)

    def function(
        self, feeds: Sequence[str], fetches: Sequence[str], options: StepOptions | None = None, internal: bool = True
    ) -> GraphFunction:
        """The part of the graph from some tensors to others, by name, as a `GraphFunction`."""
        part = self._part(_between(self._nodes, feeds, fetches))
        computed = [name for name in dict.fromkeys(fetches) if name not in feeds]
        read = {full_name(name) for node in part.node for name in node.input}

        def run(*arguments):
            given = dict(zip(feeds, arguments))
            used = {name: tensor for name, tensor in given.items() if name in read}
            given.update(zip(computed, tf.graph_util.import_graph_def(part, used, computed, name="")))
            return [given[name] for name in fetches]

        return GraphFunction(run, [self._spec(name) for name in feeds], options, internal)

    def _spec(self, tensor):
        """The type and shape of a tensor; those of a placeholder are known without importing the graph."""
        node = self._nodes[tensor.split(":")[0]]
        if node.op == "Placeholder" and "shape" in node.attr:
            return tf.TensorSpec(tf.TensorShape(node.attr["shape"].shape), tf.as_dtype(node.attr["dtype"].type))
        return tf.TensorSpec.from_tensor(self.tensor(tensor))

    def whole(self, internal: bool = True) -> GraphFunction:
        """All of it, from the leaves of the computation's parameter to those of its result."""
        return self.function(self.feeds, self.fetches, internal=internal)

    def call_of(self, name: str, specs: Sequence[tf.TensorSpec], options: StepOptions) -> GraphFunction:
        """A function of the graph's library, as a `GraphFunction` of arguments that are given by their `specs`."""
        library, types = self._part([], name), [tf.as_dtype(a.type) for a in self.signatures[name].output_arg]

        def run(*arguments):
            tf.graph_util.import_graph_def(library, name="")
            return tf.raw_ops.StatefulPartitionedCall(args=arguments, Tout=types, f=name)

        return GraphFunction(run, specs, options, internal=True)

    def _part(self, nodes: Sequence[Any], *functions: str) -> tf.compat.v1.GraphDef:
        """A graph of nodes, with those functions of the library that they call, and others by name."""
        part = tf.compat.v1.GraphDef(node=nodes, versions=self._versions)
        called, names = set(), [*functions, *_called(nodes)]
        while names:
            name = names.pop()
            if name in self._functions and name not in called:
                called.add(name)
                names += _called(self._functions[name].node_def)
        part.library.function.extend(self._functions[name] for name in self._functions if name in called)
        return part


class GraphFunction:
    """Part of a graph as a function of flat lists of tensors.

    Args:
      fn: Adds the part to a graph: from tensors to a list of tensors.
      specs: Of its arguments.
      options: How it is called, see `StepOptions`.
      internal: Whether its results stay within this package, see `calls.drop_python_state`.
    """

    @without_stacks()
    def __init__(
        self,
        fn: Callable[..., list[tf.Tensor]],
        specs: Sequence[tf.TensorSpec],
        options: StepOptions | None,
        internal: bool,
    ):
        self._function = Called(tf.compat.v1.wrap_function(fn, specs), options, internal)

    def __call__(self, *flat: Any) -> list[tf.Tensor]:
        """Runs it on one value a feed; gives one tensor a fetch."""
        return tf.nest.flatten(self._function(flat))


def _called(nodes: Sequence[Any]) -> list[str]:
    """The names of functions that nodes call, and of ops."""
    names = [node.op for node in nodes]
    for node in nodes:
        for attribute in node.attr.values():
            names += (function.name for function in (attribute.func, *attribute.list.func))
    return names


def _between(nodes: Mapping[str, Any], feeds: Sequence[str], fetches: Sequence[str]) -> list[Any]:
    """The nodes that `fetches` depend on and `feeds` do not give, of `nodes` by name."""
    given, given_nodes = set(feeds), {name.split(":")[0] for name in feeds}
    found, names = {}, [name for name in fetches if name not in given]
    while names:
        name = names.pop().split(":")[0]
        if name in found:
            continue
        node = found[name] = type(nodes[name])()
        node.CopyFrom(nodes[name])
        if "_class" in node.attr:  # a place beside another node, which may not be of this part
            del node.attr["_class"]
        # What gives a feed has run.
        kept = [i for i in node.input if not i.startswith("^") or i[1:] not in given_nodes]
        node.ClearField("input")
        node.input.extend(kept)
        names += [i.lstrip("^") for i in kept if full_name(i) not in given]
    return list(found.values())


def step_function(fn: Callable[..., Any], *specs: Any, internal: bool = False) -> Callable[..., Any]:
    """`fn` traced and run as a step over one batch: in the calling thread alone, see `StepOptions`.

    It is for functions that several threads call at the same time, each many times. They compute op by op what `fn`
    says; without gradients, optimization has not paid.

    Args:
      fn: From structures of tensors to a structure of tensors; traced once, without AutoGraph.
      *specs: Structures of `tf.TensorSpec`, one an argument of `fn`.
      internal: Whether the results stay within this package, see `calls.drop_python_state`.

    Returns:
      A function of the same arguments as `fn`.
    """

    def flat_fn(*flat):
        return fn(*tf.nest.pack_sequence_as(specs, flat))

    traced = tf.function(flat_fn, autograph=False).get_concrete_function(*tf.nest.flatten(specs))
    called = Called(traced, StepOptions(optimize=False), internal)
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
