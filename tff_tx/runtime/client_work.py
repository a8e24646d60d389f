"""A client's work, cut at its loops over batches so that each batch is one call of one function.

TFF's loop is `dataset.reduce`, in the graph a `ReduceDataset` op. Run as it stands, its steps share TensorFlow's pool
of threads with the pipelines and steps of all other clients, and the processors idle for a third of the time. Here the
graph is parted into what comes before the loop, the step, and what comes after it; the loop runs in Python, in the
client's own thread. The sequence of ops on data is the same, and so is the result.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import threading
import time
from collections.abc import Iterable
from typing import Any, Callable

import tensorflow as tf

from tff_tx.runtime.graphs import GraphFunction, ImportedGraph, step_function
from tff_tx.runtime.internals.calls import drop_python_state
from tff_tx.runtime.internals.computations import LOOP
from tff_tx.runtime.pipelines import read_ahead


class ClientWork:
    """The graph `work` of a round's form: (client, broadcast) -> contribution.

    Args:
      graph: The imported graph. Where it has no `dataset.reduce` outside of other functions, it runs as a whole.
      options: How a step is called, see `internals.calls.StepOptions`.
    """

    def __init__(self, graph: ImportedGraph, options: Any):
        self._loops, known, self._stopped = [], list(graph.feeds), threading.Event()
        for op in graph.graph.get_operations():  # in the order of their dependences
            if op.type == LOOP:
                self._loops.append(_Loop(graph, op, known, options, self._stopped))
                known += [t.name for t in op.outputs]
        # Hooks may see what a client contributes: it is no tensor of this package alone.
        self._end = graph.function(known, graph.fetches, internal=False)
        self._check_finite = None if self._loops else _finite_check(map(graph.tensor, graph.fetches))

    @property
    def num_loops(self) -> int:
        """Loops over batches that were found."""
        return len(self._loops)

    def open(self, flat: list) -> OpenClient:
        """Starts to read a client's data, in advance of `run`.

        Args:
          flat: The leaves of (client, broadcast).
        """
        client = OpenClient([tf.convert_to_tensor(leaf) for leaf in flat])
        if self._loops:
            client.loop = self._loops[0].open(client.known)
        return client

    def stop(self) -> None:
        """Ends all clients at work, each after its present step."""
        self._stopped.set()

    def run(self, client: OpenClient) -> list[tf.Tensor]:
        """A client's contribution.

        Raises:
          CancelledError: If `stop` was called.
          NotFiniteError: If training led to an infinity or to something that is not a number.
          tf.errors.OpError: If the data cannot be read or a step fails.
        """
        for i, loop in enumerate(self._loops):
            opened = client.loop if i == 0 else loop.open(client.known)
            state, waited = loop.run(opened, client.known)
            client.known += state
            client.data_seconds += waited
        contribution = self._end(*client.known)
        if self._check_finite is not None:
            self._check_finite(contribution)
        return contribution


class NotFiniteError(ArithmeticError):
    """A client's update, or what it was made from, is infinite or not a number."""


@dataclasses.dataclass
class OpenClient:
    """A client whose data are being read.

    Attributes:
      known: The values of the graph's tensors that are known so far.
      loop: The first loop's batches and start, if there is one.
      data_seconds: How long steps have waited for data.
    """

    known: list
    loop: Any = None
    data_seconds: float = 0.0


class _Loop:
    """One `ReduceDataset`: (batches, state, captured) -> state."""

    def __init__(
        self, graph: ImportedGraph, op: tf.Operation, known: list[str], options: Any, stopped: threading.Event
    ):
        data, *start = (t.name for t in op.inputs)
        self._data, self._start = graph.function(known, [data]), graph.function(known, start)
        self._state_size, self._stopped = len(op.outputs), stopped
        self._check_finite = _finite_check(op.outputs)
        self._step, arguments = _step(graph, op, options)
        captured = len(op.get_attr("Targuments"))
        batch = arguments[self._state_size : len(arguments) - captured]
        self._batch_spec = tuple(tf.TensorSpec(None, dtype) for dtype in batch)

    def open(self, known: list):
        """The client's batches, the first of them read."""
        batches = tf.data.experimental.from_variant(*self._data(*known), self._batch_spec)
        iterator = read_ahead(batches)
        first = next(iterator, None)  # reading ahead starts with it
        return iterator, first

    def run(self, opened, known: list) -> tuple[list, float]:
        """The state after the last batch, finite, and the seconds spent waiting for data."""
        iterator, batch = opened
        values = self._start(*known)
        state, captured = values[: self._state_size], values[self._state_size :]
        waited = 0.0
        while batch is not None:
            if self._stopped.is_set():
                raise concurrent.futures.CancelledError
            drop_python_state(batch)
            state = self._step(*state, *batch, *captured)
            started = time.monotonic()
            batch = next(iterator, None)
            waited += time.monotonic() - started
        self._check_finite(state)
        return state, waited


def _step(graph: ImportedGraph, op: tf.Operation, options: Any) -> tuple[GraphFunction, list[tf.DType]]:
    """The loop's body as a function, and the types of its arguments."""
    name = op.get_attr("f").name
    arguments = [tf.as_dtype(a.type) for a in graph.signatures[name].input_arg]
    shapes = [tf.TensorShape(s) for s in op.get_attr("output_shapes")]
    shapes += [tf.TensorShape(None)] * (len(arguments) - len(shapes))
    specs = [tf.TensorSpec(shape, dtype) for dtype, shape in zip(arguments, shapes)]
    return graph.call_of(name, specs, options), arguments


def _finite_check(tensors: Iterable[tf.Tensor]) -> Callable[[list], None]:
    """A function that raises `NotFiniteError` where leaves like these tensors are not all finite."""
    checked = {i: tf.TensorSpec.from_tensor(t) for i, t in enumerate(tensors) if t.dtype == tf.float32}
    all_finite = step_function(_all_finite, [*checked.values()], internal=True)

    def check(leaves):
        # The work itself puts zeros in place of such an update, which some aggregators would count as a client's.
        if not all_finite([leaves[i] for i in checked]):
            raise NotFiniteError("its update is not finite")

    return check


def _all_finite(leaves: list) -> tf.Tensor:
    # Sums, because a sum with anything in it that is not finite is not finite either, and takes one reading pass.
    return tf.math.is_finite(tf.add_n([tf.reduce_sum(leaf) for leaf in leaves] or [tf.constant(0.0)]))
