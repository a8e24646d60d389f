"""What a round's form computes, in 32 bytes, and by which ops: the same in all processes that make it.

Names of nodes and functions are numbered as a process has made them, also where an assertion's text has them. The
digest is of what they compute: a node's is that of its op, its attributes and its inputs, a function's that of what it
returns, and so on up to a part's results.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

import tensorflow as tf

from tff_tx.runtime.form import RoundForm
from tff_tx.runtime.internals.computations import full_name, graph_def_of, tensor_names

_IGNORED = ("shared_name", "container", "metadata")
_BACK_EDGE = "NextIteration"
_NUMBER = re.compile(rb"_\d+\b")
"""Of a name that is the same but for it, such as model_1/embedding."""


def digest(form: RoundForm) -> bytes:
    """The digest of what clients and sums compute, 32 bytes."""
    found = hashlib.sha256()
    for name, proto in form.workers_parts():
        graph, tensorflow = graph_def_of(proto), proto.tensorflow
        feeds = [full_name(t) for t in tensor_names(tensorflow.parameter)] if tensorflow.HasField("parameter") else []
        fetches = [full_name(t) for t in tensor_names(tensorflow.result)]
        part = _Graph(graph.node, feeds, _Library(graph.library.function))
        _add(found, name.encode(), *(part.digest(fetch) for fetch in fetches))
    return found.digest()


def operations(form: RoundForm) -> set[str]:
    """Names of the ops in what clients and sums compute."""
    found = set()
    for _, proto in form.workers_parts():
        graph = graph_def_of(proto)
        own = {function.signature.name for function in graph.library.function}
        nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
        found |= {node.op for node in nodes} - own
    return found


class _Library:
    """Digests of functions by name."""

    def __init__(self, functions: Iterable):
        self._functions, self._digests = {f.signature.name: f for f in functions}, {}

    def __contains__(self, name: str) -> bool:
        return name in self._functions

    def digest(self, name: str) -> bytes:
        if name not in self._functions:
            return name.encode()
        if name not in self._digests:
            function = self._functions[name]
            self._digests[name] = b"recursive"
            graph = _Graph(function.node_def, [argument.name for argument in function.signature.input_arg], self)
            results = [graph.digest(function.ret[result.name]) for result in function.signature.output_arg]
            effects = sorted(graph.digest(f"^{node}") for node in function.control_ret.values())
            self._digests[name] = _add(hashlib.sha256(), *results, *effects).digest()
        return self._digests[name]


class _Graph:
    """Digests of the tensors of a graph or a function, whose feeds or arguments count by their position."""

    def __init__(self, nodes: Iterable, feeds: Sequence[str], library: _Library):
        self._nodes, self._library = {node.name: node for node in nodes}, library
        self._digests = {feed: b"feed %d" % i for i, feed in enumerate(feeds)}

    def digest(self, tensor: str) -> bytes:
        stack = [self._named(tensor)]
        while stack:
            name = stack[-1]
            if name in self._digests:
                stack.pop()
                continue
            node = self._nodes[name]
            missing = [n for n in map(self._named, self._inputs(node)) if n not in self._digests]
            if missing:
                stack += missing
            else:
                self._digests[name] = self._of(node)
                stack.pop()
        return self._at(tensor)

    def _inputs(self, node):
        return () if node.op == _BACK_EDGE else node.input

    def _named(self, tensor):
        """The feed or the node that a tensor is of."""
        return tensor if tensor in self._digests else tensor.lstrip("^").partition(":")[0]

    def _at(self, tensor):
        name = self._named(tensor)
        output = b"" if name == tensor or tensor.startswith("^") else tensor.partition(":")[2].encode()
        return self._digests[name] + b":" + (b"" if output == b"0" else output)

    def _of(self, node):
        inputs = self._inputs(node)
        data = [self._at(tensor) for tensor in inputs if not tensor.startswith("^")]
        control = sorted(self._at(tensor) for tensor in inputs if tensor.startswith("^"))
        attributes = [
            part
            for name in sorted(node.attr)
            if not name.startswith("_") and name not in _IGNORED
            for part in (name.encode(), self._value(node.attr[name]))
        ]
        return _add(hashlib.sha256(), self._library.digest(node.op), *attributes, b"|", *data, b"|", *control).digest()

    def _value(self, value: tf.compat.v1.AttrValue) -> bytes:
        functions = [value.func] if value.HasField("func") else value.list.func
        if value.tensor.dtype == tf.string.as_datatype_enum:
            texts = tf.make_ndarray(value.tensor)
            unnumbered = (_NUMBER.sub(b"", text) for text in texts.ravel())
            return _add(hashlib.sha256(repr(texts.shape).encode()), *unnumbered).digest()
        if not functions:
            return value.SerializeToString(deterministic=True)
        return b"".join(self._library.digest(function.name) for function in functions)


def _add(found, *parts: bytes):
    for part in parts:
        found.update(len(part).to_bytes(8, "big") + part)
    return found
