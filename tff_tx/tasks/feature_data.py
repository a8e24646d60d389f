"""Clients whose examples are features: how they are stored and how they become batches."""

from __future__ import annotations

import collections
import os
from collections.abc import Mapping
from typing import Any, Callable

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx import datasets, models
from tff_tx.tasks.recipe import Recipe

LABEL = "label"
"""The name of the label among what is stored of an example."""

_BUCKETS = 2**62


class FeatureClientData(tff.simulation.datasets.ClientData):
    """Clients whose examples are features of a `FeatureCache`, in the order of the examples that they are of.

    Args:
      clients: The ClientData whose features they are.
      directory: Of the cache.
      split: Which clients.
      element_spec: Of one example.
    """

    def __init__(self, clients: Any, directory: str, split: str, element_spec: Mapping[str, tf.TensorSpec]):
        self._clients, self._directory, self._split = clients, directory, split
        self._element_spec = element_spec

    @property
    def client_ids(self) -> list[str]:
        """The clients' ids."""
        return self._clients.client_ids

    @property
    def element_type_structure(self) -> Mapping[str, tf.TensorSpec]:
        """Name -> `tf.TensorSpec` of one example, not batched: features, inputs that are still read, and the label."""
        return self._element_spec

    def sizes(self) -> dict[str, int]:
        """Client id -> number of examples."""
        return self._clients.sizes()

    def example_bytes(self) -> dict[str, float]:
        """Client id -> mean bytes of an example that features are made of."""
        return self._clients.example_bytes()

    @property
    def serializable_dataset_fn(self) -> Callable[[tf.Tensor], tf.data.Dataset]:
        """Client id, a string or a string tensor, or with a `datasets.Draw` -> its dataset; traceable."""
        stored = collections.OrderedDict((name, tf.TensorSpec([], tf.string)) for name in self._element_spec)

        def decoded(value, spec):
            return tf.reshape(tf.io.decode_raw(value, spec.dtype), [-1 if d is None else d for d in spec.shape])

        def decode(example):
            return collections.OrderedDict((n, decoded(example[n], spec)) for n, spec in self._element_spec.items())

        def dataset(client_id, draw=None):
            path = client_path(self._directory, self._split, client_id)
            return datasets.client_dataset(path, self._split, stored, client_id, draw).map(decode)

        return dataset

    def create_tf_dataset_for_client(self, client_id: str) -> tf.data.Dataset:
        """The features of one client.

        Raises:
          ValueError: If there is no such client.
        """
        if client_id not in self._clients.sizes():
            raise ValueError(f"{client_id!r} is not a client of the split {self._split!r}.")
        return self.serializable_dataset_fn(client_id)


class FeatureRecipe(Recipe):
    """Batches of stored features.

    Args:
      extractor: A `models.FeatureExtractor`.
      element_spec: Of one stored example.
      pads: By name what inputs have in padding, where that is not zero.
    """

    def __init__(
        self,
        extractor: models.FeatureExtractor,
        element_spec: Mapping[str, tf.TensorSpec],
        pads: Mapping[str, Any],
    ):
        x_spec, _ = extractor.model.input_spec
        self._x_spec = collections.OrderedDict((n, s) for n, s in x_spec.items() if n in element_spec)
        zeros = {name: 0 if spec.dtype.is_integer else 0.0 for name, spec in self._x_spec.items()}
        self.pads = {**zeros, **{name: value for name, value in pads.items() if name in zeros}}
        self.pads[LABEL] = models.IGNORED if element_spec[LABEL].dtype.is_integer else 0.0

    def inputs(self, element_spec):
        """Spec of a batch of inputs."""
        del element_spec
        return collections.OrderedDict(self._x_spec)

    def batch(self, features, seed):
        """Inputs and labels."""
        del seed
        x = collections.OrderedDict((name, features[name]) for name in self._x_spec)
        return x, features[LABEL]


def client_path(directory: str, split: str, client_id: Any) -> Any:
    """The path of a client's file: a string for a string, a string tensor for a tensor."""
    bucket = tf.strings.to_hash_bucket_fast(client_id, _BUCKETS)
    if not tf.is_tensor(client_id):
        return os.path.join(directory, split, f"{int(bucket)}.sqlite")
    return tf.strings.join([os.path.join(directory, split, ""), tf.strings.as_string(bucket), ".sqlite"])


def element_spec_of(extractor: models.FeatureExtractor, whole: models.TransformerModel) -> collections.OrderedDict:
    """Of one stored example: features, inputs that the upper part reads, and the label."""
    x_spec, label_spec = whole.input_spec
    specs = {**extractor.specs, **{name: x_spec[name] for name in extractor.inputs}, LABEL: label_spec}
    return collections.OrderedDict((name, tf.TensorSpec(s.shape[1:], s.dtype)) for name, s in specs.items())
