"""Data that stay where they are: each silo has a store of its own, which nobody else opens.

A silo reads and encodes its own files. What it tells of them is which labels there are, and a listing: where its store
is, which clients are in it, how many examples they have and how long these are.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
from collections.abc import Mapping
from typing import Any, Callable

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.core.errors import UserError
from tff_tx.datasets import federated, store
from tff_tx.datasets.spec import DataSpec, default_cache_dir

PLACE = "{silo}"
"""Stands for the silo's name in the path of a file."""

_SEPARATOR = "/"
_HERE = "coordinator"  # takes the place of a silo's name
_ONE_SPLIT = {"silos": (), "validation_files": (), "test_files": (), "validation_fraction": 0.0, "test_fraction": 0.0}


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a silo tells of its training data.

    Attributes:
      path: Of the store, on the silo's own machine.
      element_spec: Of a stored example, name -> `tf.TensorSpec`.
      sizes: Client id -> number of examples.
      example_bytes: Client id -> mean bytes of a stored example.
      fingerprint: Of the store, see `SqliteClientData`.
    """

    path: str
    element_spec: Mapping[str, tf.TensorSpec]
    sizes: Mapping[str, int]
    example_bytes: Mapping[str, float]
    fingerprint: str = ""


def in_silo(silo: str, function: Callable[..., Any], spec: DataSpec, *arguments: Any) -> Any:
    """Calls a function of the spec of a silo's data and the arguments; to be called where these data are.

    The silo's name takes the place of `{silo}` in the names of files and of the cache, of the spec of the data of all
    silos. Nothing is held out.

    Raises:
      UserError: If the data cannot be read; the message names the silo.
    """
    cache_dir = (spec.cache_dir or default_cache_dir()).replace(PLACE, silo)
    files = tuple(path.replace(PLACE, silo) for path in spec.files)
    own = dataclasses.replace(spec, files=files, cache_dir=os.path.join(cache_dir, "silos", silo), **_ONE_SPLIT)
    try:
        return function(own, *arguments)
    except UserError as error:
        raise error.within(f"silo {silo}") from None


def load_silo(silo: str, spec: DataSpec, encoder: Any) -> Listing:
    """Encodes a silo's training data; to be called where they are, see `in_silo`."""
    clients = in_silo(silo, federated.load, spec, encoder, False).train
    sizes, lengths = clients.sizes(), clients.example_bytes()
    return Listing(clients.path, clients.element_type_structure, sizes, lengths, clients.fingerprint)


class SiloClientData(tff.simulation.datasets.ClientData):
    """The training clients of several silos; a client's id is the silo's name, a slash and its id there.

    Args:
      listings: What the silos told, by name.

    Raises:
      UserError: If a name has a slash in it, or silos store examples of different kinds.
    """

    def __init__(self, listings: Mapping[str, Listing]):
        self._listings = dict(sorted(listings.items()))
        specs = {silo: dict(listing.element_spec) for silo, listing in self._listings.items()}
        first = next(iter(specs))
        for silo, spec in specs.items():
            if _SEPARATOR in silo:
                raise UserError(f"a silo is called {silo!r}: give it a name without {_SEPARATOR}.")
            if spec != specs[first]:
                raise UserError(f"the silos {first} and {silo} store different examples: {specs[first]} and {spec}.")

    @property
    def listings(self) -> dict[str, Listing]:
        """What the silos told, by name."""
        return dict(self._listings)

    @property
    def fingerprint(self) -> str:
        """The fingerprints of the silos' stores."""
        return " ".join(f"{silo}:{listing.fingerprint}" for silo, listing in self._listings.items())

    @property
    def client_ids(self) -> list[str]:
        """The clients' ids, silo by silo."""
        return list(self.sizes())

    @property
    def element_type_structure(self) -> collections.OrderedDict:
        """Feature name -> `tf.TensorSpec` of one example, not batched."""
        return collections.OrderedDict(next(iter(self._listings.values())).element_spec)

    def sizes(self) -> dict[str, int]:
        """Client id -> number of examples."""
        return self._of_clients("sizes")

    def example_bytes(self) -> dict[str, float]:
        """Client id -> mean bytes of a stored example."""
        return self._of_clients("example_bytes")

    def _of_clients(self, name):
        return {
            id_in_silo(silo, client): value
            for silo, listing in self._listings.items()
            for client, value in getattr(listing, name).items()
        }

    @property
    def serializable_dataset_fn(self) -> Callable[[tf.Tensor], tf.data.Dataset]:
        """Client id, a string or a string tensor, or with a `Draw` -> its dataset, on the silo's machine alone."""
        paths = {silo: listing.path for silo, listing in self._listings.items()}
        return functools.partial(_dataset, paths, self.element_type_structure)

    def create_tf_dataset_for_client(self, client_id: str) -> tf.data.Dataset:
        """The examples of one client; can be read on the silo's machine alone."""
        if client_id not in self.sizes():
            raise ValueError(f"{client_id!r} is not a client of the silos {', '.join(self._listings)}.")
        return self.serializable_dataset_fn(client_id)


def silo_of(client_id: str) -> str:
    """The silo's name in the id of one of its clients."""
    return client_id.partition(_SEPARATOR)[0]


def id_in_silo(silo: str, client: str) -> str:
    """The id of a silo's client among those of all silos; the inverse of `silo_of`."""
    return f"{silo}{_SEPARATOR}{client}"


def _dataset(paths: Mapping[str, str], element_spec, client_id, draw=None) -> tf.data.Dataset:
    parts = tf.strings.split([client_id], _SEPARATOR, maxsplit=1).values
    number = tf.argmax(tf.equal(tf.constant(list(paths)), parts[0]))
    path = tf.gather(tf.constant(list(paths.values())), number)
    return store.client_dataset(path, "train", element_spec, parts[1], draw)


def join_silos(
    listings: Mapping[str, Listing], spec: DataSpec, encoder: Any, progress: bool = True
) -> federated.FederatedDataset:
    """The silos' clients for training, and for evaluation what files there are on this machine.

    Listings are by the silos' names; of the spec, `validation_files` and `test_files` are read here.
    """

    def held_out(files):
        if not files:
            return None
        cache_dir = spec.cache_dir and spec.cache_dir.replace(PLACE, _HERE)
        here = dataclasses.replace(spec, files=files, cache_dir=cache_dir, **_ONE_SPLIT)
        return federated.load(here, encoder, progress=progress).train

    return federated.FederatedDataset(
        train=SiloClientData(listings),
        validation=held_out(spec.validation_files),
        test=held_out(spec.test_files),
        label_names=tuple(encoder.label_names),
        kind=encoder.kind,
        path="",
    )
