"""TFF's own data sets, `tff.simulation.datasets`, through their real loaders."""

from __future__ import annotations

import dataclasses
import functools
import lzma
import os
from collections.abc import Iterator, Mapping
from typing import Callable

import numpy as np
import pandas as pd
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.core.errors import UserError
from tff_tx.datasets.records import Source, chunks_of

_DATASETS = tff.simulation.datasets


@dataclasses.dataclass(frozen=True)
class _Set:
    """A data set: its loader, the pools of what that returns, and record column -> feature."""

    load: Callable
    file: str
    pools: tuple
    features: Mapping[str, str]
    num_labels: int | None = None


def _emnist(only_digits: bool, num_labels: int) -> _Set:
    return _Set(
        functools.partial(_DATASETS.emnist.load_data, only_digits),
        "emnist_all.sqlite",
        ("train", "test"),
        {"pixels": "pixels", "label": "label"},
        num_labels,
    )


_SETS = {
    "tff:shakespeare": _Set(
        _DATASETS.shakespeare.load_data,
        "shakespeare.sqlite",
        ("train", "test"),
        {"text": "snippets"},
    ),
    "tff:stackoverflow": _Set(
        _DATASETS.stackoverflow.load_data,
        "stackoverflow.sqlite",
        ("train", "validation", "test"),
        {"text": "tokens"},
    ),
    "tff:emnist": _emnist(only_digits=True, num_labels=10),
    "tff:emnist_all": _emnist(only_digits=False, num_labels=62),
    "tff:cifar100": _Set(
        _DATASETS.cifar100.load_data,
        "cifar100.sqlite",
        ("train", "test"),
        {"pixels": "image", "label": "label"},
        100,
    ),
}


def tff_source(name: str, cache_dir: str | None) -> Source:
    """The records of one of TFF's data sets, downloaded if it is not in the cache directory.

    Args:
        name: "tff:shakespeare", "tff:stackoverflow", "tff:emnist" (digits), "tff:emnist_all" or
            "tff:cifar100".
        cache_dir: Where TFF keeps the file; None for `~/.tff`.

    Raises:
        UserError: If the file is not there and cannot be downloaded, or is damaged.
    """
    which = _SETS[name]
    path = os.path.join(cache_dir or os.path.join(os.path.expanduser("~"), ".tff"), which.file)
    parts = dict(zip(which.pools, _load(which, path, cache_dir)))
    labels = None
    if which.num_labels is not None:
        labels = tuple(str(number) for number in range(which.num_labels))
    return Source(
        {pool: functools.partial(_records, pool, data, which) for pool, data in parts.items()},
        functools.partial(_digest, name, path),
        True,
        lambda: frozenset([*which.features, "client"]),
        label_names=labels,
    )


def _load(which: _Set, path: str, cache_dir: str | None) -> tuple:
    there = os.path.exists(path)
    try:
        return which.load(cache_dir=cache_dir)
    except (OSError, lzma.LZMAError, tf.errors.OpError) as error:
        # TFF takes a file that an interrupted download left behind for a whole one.
        if not there and os.path.exists(path):
            os.remove(path)
        raise UserError(
            f"--dataset: {which.file} is not in {os.path.dirname(path)} and cannot be downloaded "
            f"({error}); connect to the network, or put the file there."
        ) from error
    except Exception as error:
        # What TFF raises for a bad file is of a class that it does not export.
        raise UserError(f"--dataset: {path} is damaged ({error}); delete it so that it is downloaded again.") from error


def _records(pool: str, data, which: _Set, wants: frozenset) -> Iterator[pd.DataFrame]:
    missing = wants - set(which.features) - {"client"}
    if missing:
        raise UserError(
            f"--dataset: {which.file} has no {', '.join(sorted(missing))}, only "
            f"{', '.join(which.features)}; choose another --task or data set."
        )
    return chunks_of(_rows(pool, data, which, wants - {"client"}))


def _rows(pool: str, data, which: _Set, wants: frozenset) -> Iterator[dict]:
    # One pipeline over all clients: opening a dataset for each from Python takes many times as
    # long.
    make = data.serializable_dataset_fn
    clients = tf.data.Dataset.from_tensor_slices(data.client_ids)
    examples = clients.flat_map(lambda client: make(client).map(lambda row: (client, row)))
    for number, (client, row) in enumerate(examples.as_numpy_iterator(), start=1):
        record = {column: _plain(column, row[which.features[column]]) for column in wants}
        yield {
            **record,
            "client": client.decode("utf-8"),
            "where": f"{which.file}, {pool} example {number}",
        }


def _plain(column: str, value):
    if column == "pixels":
        return np.asarray(value)
    return value.decode("utf-8") if isinstance(value, bytes) else str(np.asarray(value).item())


def _digest(name: str, path: str) -> str:
    # Up to many gigabytes that only a download writes: size and time will do for the content.
    state = os.stat(path)
    return f"{name} {state.st_size} {state.st_mtime_ns}"
