"""A traced model, cut in two where its frozen part ends.

Below the cut is what depends on the data and on frozen weights and on nothing that training changes: computed once, it
is the same in every round. Found are the tensors at which the part above begins. Where one of them is nothing to store
an example (its first dimension is not the batch's, as of a table of relative positions; it has two dimensions of the
text's length, as of attention; it is only a shape) it is computed above, from what it is computed from. So is one that
a single matrix product makes of others: to read it would take as long.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf

BATCH = "batch"
"""Stands for a dimension of the size of the batch; other words stand for a length of the inputs."""

DATA, FROZEN, CHANGING, UNSTORED = 1, 2, 4, 8
"""What an input of the graph is: a part of examples; a weight that stays; one that does not; a seed and the like."""

_FEATURE = DATA | FROZEN
_VIEWS = frozenset(("ExpandDims", "Identity", "Reshape", "Squeeze", "StopGradient", "Transpose"))
_PRODUCTS = frozenset(("BatchMatMul", "BatchMatMulV2", "Conv2D", "DepthwiseConv2dNative", "Einsum", "MatMul"))


@dataclasses.dataclass(frozen=True)
class Cut:
    """Where a graph is cut.

    Attributes:
      features: Names of the tensors to store.
      dims: The dimensions of each: numbers, `BATCH` first, and maybe a length next.
      above: Names of the ops above the cut.
      shapes: By name the tensors above that are nothing but the shapes of tensors below, with these dimensions.
      inputs: Names of the graph's inputs that are read above.
      products: How many matrix products are below the cut, and in all.
    """

    features: tuple[str, ...]
    dims: tuple[tuple, ...]
    above: frozenset[str]
    shapes: Mapping[str, tuple]
    inputs: frozenset[str]
    products: tuple[int, int]


class Dependences:
    """What each op of a graph depends on.

    Attributes:
      traced: The function.
      result: Its result.

    Args:
      traced: A concrete function with one result.
      kinds: By the name of an input `DATA`, `FROZEN`, `CHANGING` or `UNSTORED`; others are constants.
    """

    def __init__(self, traced: Any, kinds: Mapping[str, int]):
        self.traced = traced
        self.result = traced.outputs[0]  # what follows was added when the function was differentiated
        self._on = {}
        for op in traced.graph.get_operations():  # in the order of their dependences
            on = kinds.get(op.outputs[0].name, 0) if op.outputs else 0
            for tensor in op.inputs:
                on |= self._on[tensor.op.name]
            self._on[op.name] = on

    def is_feature(self, op: tf.Operation) -> bool:
        """Whether an op depends on data and frozen weights, and on nothing that is not the same in every round."""
        return self._on[op.name] == _FEATURE

    def changes(self, op: tf.Operation) -> bool:
        """Whether an op depends on a weight that changes."""
        return bool(self._on[op.name] & CHANGING)

    def features(self) -> list[tf.Tensor]:
        """All tensors that might be stored, or whose shape might be asked for."""
        ops = (op for op in self.traced.graph.get_operations() if self.is_feature(op))
        return [t for op in ops for t in op.outputs if t.dtype.is_floating or t.dtype.is_integer]


def find(dependences: Dependences, dims: Mapping[str, tuple]) -> Cut:
    """Finds a cut all of whose tensors can be stored by example: the highest, but for what is easily made above it.

    Args:
      dependences: Of the graph.
      dims: By name the dimensions of inputs and of tensors that might be stored: numbers, `BATCH`, lengths, or None for
        any other.
    """
    graph, made_above = dependences.traced.graph, set()
    features = set(_find(dependences, dims, made_above).features)
    for name in _in_order(graph, features)[::-1]:
        ops = _easily_made(dependences, dims, graph.get_tensor_by_name(name), features - {name})
        if ops:
            features.remove(name)
            made_above |= ops
    return _find(dependences, dims, made_above)


def _in_order(graph, names) -> list[str]:
    return [t.name for op in graph.get_operations() for t in op.outputs if t.name in names]


def _is_known_shape(dependences, dims, op) -> bool:
    """Whether an op gives the shape of a tensor below, known by its words."""
    if op.type != "Shape" or dependences.changes(op):
        return False
    found = dims.get(op.inputs[0].name)
    return bool(found) and None not in found


def _easily_made(dependences, dims, tensor, others) -> set[str]:
    """The ops that make a tensor of others with one matrix product at most; empty if none do."""
    ops, met, tensors = {}, set(), [tensor]
    while tensors:
        tensor = tensors.pop()
        if tensor.name in others:
            met.add(tensor.name)
        elif (
            dependences.is_feature(tensor.op)
            and tensor.op.name not in ops
            and not _is_known_shape(dependences, dims, tensor.op)
        ):
            ops[tensor.op.name] = tensor.op
            if sum(op.type in _PRODUCTS for op in ops.values()) > 1:
                return set()
            tensors.extend(tensor.op.inputs)
    return set(ops) if met else set()


def _find(dependences: Dependences, dims: Mapping[str, tuple], made_above: set[str]) -> Cut:
    """Finds the highest cut with these ops above it."""
    is_feature, graph = dependences.is_feature, dependences.traced.graph

    def stored_form(tensor):
        """What to store for a tensor: itself or, as examples then have their own length, what it is another view of."""
        views = [tensor]
        while views[-1].op.type in _VIEWS and is_feature(views[-1].op.inputs[0].op):
            views.append(views[-1].op.inputs[0])
        if any(t.op.name in made_above or not is_feature(t.op) for t in views):
            return None
        fit = (t for t in reversed(views) if t.dtype.is_floating and _storable(dims.get(t.name)))
        return next(fit, None)

    above, features, shapes, inputs = set(), {}, {}, set()
    tensors = [dependences.result]
    while tensors:
        tensor = tensors.pop()
        op = tensor.op
        if op.name in above or tensor.name in features or tensor.name in shapes:
            continue
        if _is_known_shape(dependences, dims, op):
            shapes[tensor.name] = dims[op.inputs[0].name]
        elif stored_form(tensor) is tensor:
            features[tensor.name] = dims[tensor.name]
        elif op.type == "Placeholder":
            inputs.add(tensor.name)
        else:
            above.add(op.name)
            tensors.extend(op.inputs)
    order = _in_order(graph, features)
    products = [op.name for op in ancestors([dependences.result]) if op.type in _PRODUCTS]
    return Cut(
        features=tuple(order),
        dims=tuple(features[name] for name in order),
        above=frozenset(above),
        shapes=shapes,
        inputs=frozenset(inputs),
        products=(sum(name not in above for name in products), len(products)),
    )


def _storable(dims) -> bool:
    if not dims or dims[0] != BATCH:
        return False
    return all(isinstance(d, int) for d in dims[2:]) and all(d not in (None, BATCH) for d in dims[1:])


def has_custom_gradient(op: tf.Operation) -> bool:
    """Whether the gradient of an op is one of the model's own making."""
    return "_gradient_op_type" in op.node_def.attr


def ancestors(tensors: Iterable[tf.Tensor]) -> list[tf.Operation]:
    """The ops that tensors depend on, their own included, each once."""
    found, ops = {}, [t.op for t in tensors]
    while ops:
        op = ops.pop()
        if op.name not in found:
            found[op.name] = op
            ops.extend(t.op for t in op.inputs)
    return list(found.values())


def copy(
    traced: Any, ops: Iterable[str], given: Mapping[str, tf.Tensor], fetches: Sequence[str], name: str
) -> list[tf.Tensor]:
    """Copies a part of a function's graph into the graph that is being made.

    Args:
      traced: A concrete function.
      ops: Names of the ops of the part; the order of stateful ones is lost.
      given: By the name of a tensor that the part begins with, what takes its place.
      fetches: Names of tensors of the part.
      name: A scope.

    Returns:
      A tensor for each of `fetches`.
    """
    definition, wanted = traced.graph.as_graph_def(), set(ops)
    part = tf.compat.v1.GraphDef(versions=definition.versions, library=definition.library)
    for node in definition.node:
        if node.name in wanted:
            copied = part.node.add()
            copied.CopyFrom(node)
            if "_class" in copied.attr:  # a place beside another op, which may not come along
                del copied.attr["_class"]
            del copied.input[:]
            copied.input.extend(i for i in node.input if not i.startswith("^"))
    used = {_plain(i) for node in part.node for i in node.input}
    replaced = {key: tensor for key, tensor in given.items() if key in used}
    return tf.graph_util.import_graph_def(part, replaced, list(fetches), name=name)


def _plain(tensor: str) -> str:
    return tensor if ":" in tensor else f"{tensor}:0"
