"""Clients' batches outside of rounds: for evaluation, and to compute features of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.runtime.graphs import ImportedGraph
from tff_tx.runtime.pipelines import read_ahead


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
          tf.errors.OpError: While iterating, if the data cannot be read.
        """
        return read_ahead(tf.data.experimental.from_variant(*self._variant(client_id), self.element_spec))
