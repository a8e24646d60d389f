"""From a `DataSpec` and an encoder to clients: read, deal, encode and store, once a content."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator

import numpy as np
import tqdm

from tff_tx.core.errors import UserError
from tff_tx.datasets import splits, store
from tff_tx.datasets.assignment import DROPPED, Assignment, assign
from tff_tx.datasets.encoding import Encoder
from tff_tx.datasets.records import Source
from tff_tx.datasets.sources import open_source
from tff_tx.datasets.spec import DataSpec
from tff_tx.datasets.store import SqliteClientData

# Raised when the same spec, data and encoder would give other examples than before.
_RECIPE_VERSION = 1
# Fields of the spec that name things whose content counts, not the name, or that change nothing.
_NOT_CONTENT = ("files", "silos", "validation_files", "test_files", "cache_dir", "label_names")


@dataclasses.dataclass(frozen=True)
class FederatedDataset:
    """Encoded clients, by split.

    Attributes:
        train: The training clients.
        validation: The validation clients, or None.
        test: The test clients, or None.
        label_names: The label names; empty if the kind has no labels.
        kind: The kind of task that the encoder was for.
        path: The store.
    """

    train: SqliteClientData
    validation: SqliteClientData | None
    test: SqliteClientData | None
    label_names: tuple
    kind: str
    path: str

    def summary(self) -> dict[str, dict[str, int]]:
        """Split name -> {"clients": number, "examples": number}, for the splits there are."""
        parts = ((name, getattr(self, name)) for name in splits.NAMES)
        return {
            name: {"clients": len(data.client_ids), "examples": sum(data.sizes().values())}
            for name, data in parts
            if data is not None
        }


def default_cache_dir() -> str:
    """Where encoded data are kept: `$XDG_CACHE_HOME/tff_tx`, or `~/.cache/tff_tx`."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "tff_tx")


def label_names(spec: DataSpec) -> tuple:
    """The label names of a data set, which a model needs before the data can be encoded.

    One pass over the training files, whatever part of them is held out later. Numbers come in the
    order of their value, other names in alphabetical order; word tags with "O" first and B- before
    I-.

    Raises:
        UserError: If the data cannot be read or have no labels.
    """
    if spec.label_names:
        return tuple(spec.label_names)
    source = open_source(spec)
    if source.label_names is not None:
        return tuple(source.label_names)
    found: set = set()
    column = "tags" if source.tagged else "label"
    for chunk in source.pools["train"](frozenset([column])):
        if source.tagged:
            found.update(*chunk[column])
        else:
            found.update(chunk[column].unique())
    return ordered_label_names(found, source.tagged)


def ordered_label_names(found: Iterable[str], tagged: bool) -> tuple:
    """Label names in the order in which a model has them, see `label_names`.

    Args:
        found: The names.
        tagged: Whether they are tags of words.
    """
    return tuple(sorted(found, key=_tag_order if tagged else _label_order))


def _label_order(label: str) -> tuple:
    try:
        return (0, float(label), label)
    except ValueError:
        return (1, 0.0, label)


def _tag_order(tag: str) -> tuple:
    prefix, _, entity = tag.partition("-")
    return (tag != "O", entity, prefix)


def image_shape(spec: DataSpec) -> tuple:
    """(channels, height, width) of the first training image, for a model made to measure.

    Raises:
        UserError: If the data cannot be read or have no images.
    """
    chunk = next(iter(open_source(spec).pools["train"](frozenset(["pixels"]))))
    return _channels_height_width(np.asarray(chunk["pixels"].iloc[0]).shape)


def _channels_height_width(shape: tuple) -> tuple:
    if len(shape) == 1:
        for channels in (1, 3, 4):
            side = int(round((shape[0] / channels) ** 0.5))
            if channels * side * side == shape[0]:
                return (channels, side, side)
    if len(shape) == 2:
        return (1, *shape)
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return tuple(shape)
    if len(shape) == 3 and shape[2] in (1, 3, 4):
        return (shape[2], *shape[:2])
    raise UserError(
        f"--data: an image of the shape {list(shape)} is neither [H, W], [H, W, C], [C, H, W] "
        "with 1, 3 or 4 channels, nor a flat square; convert the images."
    )


def load(spec: DataSpec, encoder: Encoder, progress: bool = True) -> FederatedDataset:
    """Opens the clients of a data set, encoding them first if that was not done before.

    The store lies in the cache directory under a name made of the data's content, the spec and the
    encoder's fingerprint. Two runs at once are safe: the second waits and opens what the first
    wrote.

    Args:
        spec: What to load.
        encoder: What to make of the records.
        progress: Whether to show progress on stderr if it takes more than two seconds.

    Raises:
        UserError: If the data or the spec are wrong, or the cache directory cannot be written.
    """
    source = open_source(spec)
    directory = os.path.abspath(os.path.expanduser(spec.cache_dir or default_cache_dir()))
    path = os.path.join(directory, f"{_key(spec, source, encoder)}.sqlite")
    if not os.path.exists(path):
        with _locked(path):
            if not os.path.exists(path):
                _write(path, spec, source, encoder, progress)
    return open_store(path)


def open_store(path: str) -> FederatedDataset:
    """Opens a store that `load` wrote, by its path alone.

    Raises:
        UserError: If the file is no store.
    """
    meta = store.read_meta(path)
    parts = {name: store.open_split(path, name) for name in splits.NAMES}
    return FederatedDataset(label_names=tuple(meta["label_names"]), kind=meta["kind"], path=path, **parts)


def _key(spec: DataSpec, source: Source, encoder: Encoder) -> str:
    settings = {name: value for name, value in dataclasses.asdict(spec).items() if name not in _NOT_CONTENT}
    versions = [_RECIPE_VERSION, store.FORMAT_VERSION]
    recipe = json.dumps(
        [versions, settings, sorted(source.pools), source.digest(), encoder.fingerprint],
        sort_keys=True,
    )
    return hashlib.sha256(recipe.encode()).hexdigest()[:32]


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    # The system drops the lock when its holder ends, however it ends.
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        lock = open(path + ".lock", "w")  # noqa: SIM115
    except OSError as error:
        raise UserError(
            f"--cache_dir: cannot write to {os.path.dirname(path)} ({error.strerror}); name a "
            "directory that can be written."
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(path: str, spec: DataSpec, source: Source, encoder: Encoder, progress: bool) -> None:
    assignments = assign(spec, source, encoder.ordered)
    meta = {
        "kind": encoder.kind,
        "label_names": list(encoder.label_names),
        "fingerprint": encoder.fingerprint,
        "dataset": spec.dataset,
    }
    total = sum(len(assignment.codes) for assignment in assignments.values())
    bar = tqdm.tqdm(total=total, desc="Encoding", unit=" records", delay=2, disable=not progress, leave=False)
    with bar, store.StoreWriter(path, encoder.element_spec, meta) as writer:
        for pool, assignment in assignments.items():
            _write_pool(writer, spec, source.pools[pool], assignment, encoder, bar)


def _write_pool(writer, spec, read, assignment: Assignment, encoder: Encoder, bar) -> None:
    limit = spec.max_train_examples_per_client
    stream = encoder.stream()
    codes, owners = assignment.codes, assignment.owners

    def write(pairs) -> None:
        for (code, owner), example in pairs:
            client = assignment.client_ids[code][owner]
            split = splits.NAMES[code]
            if code == splits.TRAIN and limit and writer.count(split, client) >= limit:
                continue
            writer.add(split, client, example)

    start = 0
    for chunk in read(frozenset(encoder.columns)):
        rows = slice(start, start + len(chunk))
        start += len(chunk)
        keep = codes[rows] != DROPPED
        keys = list(zip(codes[rows][keep].tolist(), owners[rows][keep].tolist()))
        write(stream.add(keys, chunk[keep]))
        bar.update(len(chunk))
    write(stream.finish())
    written = set()
    for code, owner in _clients(assignment):
        client = assignment.client_ids[code][owner]
        if writer.count(splits.NAMES[code], client):
            written.add(code)
        elif not encoder.may_skip:
            raise UserError(
                f"The client {client!r} of the {splits.NAMES[code]} split has no example, as its "
                "records are too short to make one; remove them from the data."
            )
    if splits.TRAIN in assignment.client_ids and splits.TRAIN not in written:
        raise UserError("--data: no client has enough records for an example; join clients or give more data.")


def _clients(assignment: Assignment) -> Iterator[tuple]:
    kept = assignment.codes != DROPPED
    pairs = np.stack([assignment.codes[kept], assignment.owners[kept]], axis=1)
    return map(tuple, np.unique(pairs, axis=0).tolist())
