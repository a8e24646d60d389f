"""Calls of concrete functions with as little around them, and left behind by them, as TensorFlow allows."""

from __future__ import annotations

import dataclasses
import itertools
import sys
import threading
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context

PRECISIONS = ("float32", "bfloat16")
_DEFAULT, _SINGLE_THREADED = "", "SINGLE_THREADED_EXECUTOR"
_INLINED = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_LEAKS = sys.version_info >= (3, 11)
_NO_ATTRIBUTES: dict = {}


@dataclasses.dataclass(frozen=True)
class StepOptions:
    """How a step over one batch is called: in the calling thread alone, and optimized as a whole when first called.

    TensorFlow's default executor hands every larger op to a pool of threads. With a client a thread there is nothing to
    gain by that, and a third of the processors' time is lost in waking one another up.

    A step with ops that run functions (`tf.cond`, `tf.while_loop`) has the default executor all the same: the other one
    blocks the thread of such an op until its function has run, on another thread of a pool that all clients share. As
    many clients at a time as the pool has threads would wait for ever.

    Attributes:
      precision: "float32", or "bfloat16" to let Grappler compute matrix products and what lies between them in
        bfloat16 (Kalamkar et al. 2019); weights, sums and updates stay float32.
      optimize: Whether Grappler optimizes it; otherwise it is left as it is.
    """

    precision: str = "float32"
    optimize: bool = True

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision {self.precision!r} must be one of {', '.join(PRECISIONS)}.")

    def of_calls(self, function: Any) -> context.FunctionCallOptions:
        """TensorFlow's options to call a concrete function by."""
        executor = _DEFAULT if _runs_functions(function.graph.as_graph_def()) else _SINGLE_THREADED
        config = tf.compat.v1.ConfigProto()
        config.experimental.executor_type = executor
        rewrite = config.graph_options.rewrite_options
        rewrite.disable_meta_optimizer = not self.optimize
        rewrite.meta_optimizer_iterations = rewrite.ONE  # a second finds next to nothing, in as much time
        if self.precision == "bfloat16":
            rewrite.auto_mixed_precision_onednn_bfloat16 = rewrite.ON
        return context.FunctionCallOptions(executor, config)


def _runs_functions(graph_def: Any) -> bool:
    """Whether ops of a graph, or of its functions, run functions: all that have one but calls, which are inlined."""
    library = graph_def.library.function
    if any(function.attr["_noinline"].b for function in library if "_noinline" in function.attr):
        return True
    nodes = itertools.chain(graph_def.node, *(function.node_def for function in library))
    return any(
        attribute.HasField("func") or attribute.list.func
        for node in nodes
        if node.op not in _INLINED
        for attribute in node.attr.values()
    )


class Called:
    """A concrete function, called with options on flat lists of values.

    Args:
      function: With results that are tensors.
      options: None: TensorFlow's own.
      internal: Whether its results stay within this package, see `drop_python_state`.
    """

    def __init__(self, function: Any, options: StepOptions | None, internal: bool = True):
        self._function, self._internal = function, internal
        self._options = None if options is None else options.of_calls(function)
        self._called, self._first_call = False, threading.Lock()

    def __call__(self, flat: Sequence[Any]) -> Any:
        if self._called:
            outputs = self._call(flat)
        else:
            # TensorFlow optimizes it in the first call, and would once a thread if several came at the same time.
            with self._first_call:
                outputs = self._call(flat)
                self._called = True
        if self._internal:
            drop_python_state(tf.nest.flatten(outputs))
        return outputs

    def _call(self, flat):
        inputs = [tf.convert_to_tensor(leaf) for leaf in flat]
        # Calling the function itself first fails to bind to its (empty) Python signature, which costs more than a step.
        if self._options is None:
            return self._function._call_flat(inputs, self._function.captured_inputs)
        thread = context.context()
        before = thread.function_call_options
        thread.function_call_options = self._options  # this thread's alone, so without the guard's lock
        try:
            return self._function._call_flat(inputs, self._function.captured_inputs)
        finally:
            thread.function_call_options = before


def drop_python_state(tensors: Sequence[tf.Tensor]) -> None:
    """Ensures that tensors are freed to the last byte when they are dropped; only for tensors that no user gets.

    From Python 3.11 on an object is made with space for attributes, which the type of the object must free, and that of
    TensorFlow 2.14 does not: 32 bytes and more are lost with every tensor, kilobytes with every client, gigabytes in a
    long run. Given a dictionary, an object drops that space at once. The dictionary is one for all of them, as it would
    be lost in turn: an attribute set on one such tensor shows on all.

    Args:
      tensors: Eager.
    """
    if _LEAKS:
        for tensor in tensors:
            tensor.__dict__ = _NO_ATTRIBUTES
