"""How a client's `tf.data` pipeline runs: small, made anew for every client of every round."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

LOOP = "ReduceDataset"
"""The op of TFF's loop over a client's batches."""

_PREFETCHED_BATCHES = 2
_ONE_DEVICE = "experimental_ints_on_device"


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset without TensorFlow's rewriting and tuning.

    They cost more than a small client's whole epoch, for every client anew; and the thread that tunes sleeps, while
    the end of the client's data waits until it wakes up.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return dataset.with_options(options)


def numbered(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The elements with their numbers, int64 from 0, before them.

    As `Dataset.enumerate`, which has the numbers rewritten by TensorFlow's graph optimizer for every dataset anew.
    """
    return tf.data.Dataset.zip((tf.data.Dataset.range(np.iinfo(np.int64).max), dataset))


def read_ahead(batches: tf.data.Dataset) -> Iterator[Any]:
    """Iterates over batches, of which the next are read while one is used; reading starts with the first `next`."""
    return iter(untuned(batches.prefetch(_PREFETCHED_BATCHES)))


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
