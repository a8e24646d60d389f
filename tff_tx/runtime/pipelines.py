"""How TensorFlow runs clients: its settings, and `tf.data` pipelines, made anew for every client of every round."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.core.errors import UserError, reason
from tff_tx.runtime.graphs import ImportedGraph

_PREFETCHED_BATCHES = 2


def configure_tensorflow() -> None:
    """Sets TensorFlow up for many small clients side by side; to be called before it starts.

    Each op gets one thread: an op split over threads adds up in an order that depends on their number, and so would the
    results. Grappler, which TFF has run over a round's graphs already, would run again over the functions of every
    client's data pipeline, which takes longer than the steps of a small model. In an interactive Python TensorFlow also
    logs every checkpoint that it writes, between the progress bars: from warnings on it may speak.
    """
    logger = tf.get_logger()
    logger.setLevel(max(logger.level, logging.WARNING))
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


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


class UnreadableClient(UserError):
    """The data of a client cannot be read."""


class ClientReader:
    """Reads one client after the other, or several at the same time, by a graph that is traced once.

    Attributes:
      element_spec: Of a batch.

    Args:
      batches_fn: From a client id, a string scalar tensor, to its batches; captures no eager tensors.
    """

    def __init__(self, batches_fn: Callable[[tf.Tensor], tf.data.Dataset]):
        @tff.tensorflow.computation(np.str_)
        def batches(client_id):
            made = batches_fn(client_id)
            self.element_spec = made.element_spec
            return made

        self._variant = ImportedGraph(tff.framework.serialize_computation(batches), "batches").whole()

    def __call__(self, client_id: str) -> Iterator[Any]:
        """Iterates over a client's batches, of which the next are read while one is used.

        Raises:
          UnreadableClient: In iteration, if its data cannot be read.
        """
        try:
            yield from read_ahead(tf.data.experimental.from_variant(*self._variant(client_id), self.element_spec))
        except tf.errors.OpError as error:
            raise UnreadableClient(
                f"the data of the client {client_id!r} cannot be read ({reason(error)}): correct or remove them."
            ) from error
