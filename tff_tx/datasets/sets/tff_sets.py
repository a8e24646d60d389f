"""TFF's own data sets, `tff.simulation.datasets`, through their real loaders."""

from __future__ import annotations

import dataclasses
import functools
import lzma
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tff_tx.core.errors import UserError, setting
from tff_tx.datasets.sources import Chunk, DataSet, Pool, Source, grouped, require_columns


@dataclasses.dataclass(frozen=True)
class _Set:
    """A data set: its module in TFF, its file, the pools of what the loader returns, and record column -> feature."""

    module: str
    file: str
    pools: tuple
    features: Mapping[str, str]
    settings: Mapping = dataclasses.field(default_factory=dict)


def _open(which: _Set, spec) -> Source:
    """The records, downloaded if they are not in the cache directory of the specification (None: `~/.tff`)."""
    path = os.path.join(spec.cache_dir or os.path.join(os.path.expanduser("~"), ".tff"), which.file)
    parts = dict(zip(which.pools, _load(which, path, spec.cache_dir)))
    return Source(
        {pool: Pool(functools.partial(_chunks, pool, data, which)) for pool, data in parts.items()},
        has_clients=True,
        digest=functools.partial(_digest, which, path),
    )


def _load(which: _Set, path: str, cache_dir: str | None) -> tuple:
    import tensorflow as tf
    import tensorflow_federated as tff

    there = os.path.exists(path)
    try:
        return getattr(tff.simulation.datasets, which.module).load_data(**which.settings, cache_dir=cache_dir)
    except (OSError, lzma.LZMAError, tf.errors.OpError) as error:
        # TFF takes a file that an interrupted download left behind for a whole one.
        if not there and os.path.exists(path):
            os.remove(path)
        raise UserError(
            f"{setting('data.dataset')}: {which.file} is not in {os.path.dirname(path)} and cannot be downloaded "
            f"({error}); connect to the network, or put the file there."
        ) from error
    except Exception as error:
        # What TFF raises for a bad file is of a class that it does not export.
        raise UserError(
            f"{setting('data.dataset')}: {path} is damaged ({error}); delete it so that it is downloaded again."
        ) from error


def _chunks(pool: str, data, which: _Set) -> Iterator[Chunk]:
    import pandas as pd

    columns = frozenset([*which.features, "client"])

    def convert(rows: Sequence[tuple], wants: frozenset) -> pd.DataFrame:
        require_columns(which.file, columns, wants)
        return pd.DataFrame([_record(*row, wants) for row in rows])

    def _record(number: int, client: bytes, features: Mapping, wants: frozenset) -> dict:
        record = {column: _plain(column, features[which.features[column]]) for column in wants - {"client"}}
        where = f"{which.file}, {pool} example {number}"
        return {**record, "client": client.decode("utf-8"), "where": where}

    return (Chunk(rows, columns, convert) for rows in grouped(_rows(data)))


def _rows(data) -> Iterator[tuple]:
    import tensorflow as tf

    # One pipeline over all clients: opening a dataset for each from Python takes many times as long.
    make = data.serializable_dataset_fn
    clients = tf.data.Dataset.from_tensor_slices(data.client_ids)
    examples = clients.flat_map(lambda client: make(client).map(lambda row: (client, row)))
    for number, (client, row) in enumerate(examples.as_numpy_iterator(), start=1):
        yield number, client, row


def _plain(column: str, value):
    if column == "pixels":
        return np.asarray(value)
    return value.decode("utf-8") if isinstance(value, bytes) else str(np.asarray(value).item())


def _digest(which: _Set, path: str, pool: str) -> str:
    # Up to many gigabytes that only a download writes: size and time will do for the content.
    state = os.stat(path)
    return f"{which.module} {sorted(which.settings.items())} {pool} {state.st_size} {state.st_mtime_ns}"


def _data_set(*fields, num_labels: int = 0) -> DataSet:
    labels = tuple(map(str, range(num_labels)))
    return DataSet(functools.partial(_open, _Set(*fields)), label_names=labels)


_IMAGES = {"pixels": "pixels", "label": "label"}

SHAKESPEARE = _data_set("shakespeare", "shakespeare.sqlite", ("train", "test"), {"text": "snippets"})
STACKOVERFLOW = _data_set("stackoverflow", "stackoverflow.sqlite", ("train", "validation", "test"), {"text": "tokens"})
EMNIST = _data_set("emnist", "emnist_all.sqlite", ("train", "test"), _IMAGES, {"only_digits": True}, num_labels=10)
EMNIST_ALL = _data_set("emnist", "emnist_all.sqlite", ("train", "test"), _IMAGES, {"only_digits": False}, num_labels=62)
CIFAR100 = _data_set("cifar100", "cifar100.sqlite", ("train", "test"), {**_IMAGES, "pixels": "image"}, num_labels=100)
