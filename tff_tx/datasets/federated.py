"""From a `DataSpec` and an encoder to clients: read, deal, encode and store, once a content."""

from __future__ import annotations

import collections
import dataclasses
import logging
import os
from collections.abc import Iterator

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from tff_tx.config.registries import SPLITS
from tff_tx.core.errors import UserError, setting, shown
from tff_tx.datasets import splits, store
from tff_tx.datasets.assignment import DROPPED, Assignment, assign
from tff_tx.datasets.encoders.encoder import Encoder
from tff_tx.datasets.sources import LeftOut, open_source
from tff_tx.datasets.spec import DataSpec, cache_path, locked
from tff_tx.datasets.store import SqliteClientData
from tff_tx.datasets.survey_pass import survey as make_survey
from tff_tx.datasets.surveys import Survey
from tff_tx.datasets.times import Order

# Fields of the spec that name things whose content counts, not the name, or that change nothing.
_NOT_CONTENT = (
    "files",
    "silos",
    "validation_files",
    "test_files",
    "cache_dir",
    "label_names",
    "label_file",
    "categories",
)


@dataclasses.dataclass(frozen=True)
class FederatedDataset:
    """Encoded clients, by split.

    Attributes:
      train: The training clients; `validation` and `test` likewise, or None.
      label_names: The label names; empty if the kind has no labels.
      kind: The kind of task that the encoder was for.
      path: The store.
      notes: Clients that were left out, in lines.
    """

    train: SqliteClientData
    validation: SqliteClientData | None
    test: SqliteClientData | None
    label_names: tuple
    kind: str
    path: str
    notes: tuple[str, ...] = ()

    def summary(self) -> dict[str, dict[str, int]]:
        """Split name -> {"clients": number, "examples": number}, for the splits there are."""
        parts = ((name, getattr(self, name)) for name in splits.NAMES)
        return {
            name: {"clients": len(data.client_ids), "examples": sum(data.sizes().values())}
            for name, data in parts
            if data is not None
        }


def load(spec: DataSpec, encoder: Encoder, progress: bool = True, survey: Survey | None = None) -> FederatedDataset:
    """Opens the clients of a data set, encoding them first if that was not done before.

    The store lies in the cache directory under a name made of the data's content, the spec and the encoder's
    fingerprint. Two runs at once are safe: the second waits and opens what the first wrote.

    Args:
      spec: What to load.
      encoder: What to make of the records.
      progress: Whether to show progress on stderr if it takes more than two seconds.
      survey: That of the data if it was made already.

    Raises:
      UserError: If the data or the spec are wrong, or the cache directory cannot be written.
    """
    found = (survey or make_survey(spec)).having(encoder.columns)
    digests = {name: pool.digest for name, pool in found.pools.items()}
    path = cache_path(spec, ".sqlite", _NOT_CONTENT, digests, encoder.fingerprint)
    if not store.is_whole(path):
        with locked(path):
            if not store.is_whole(path):
                if os.path.exists(path):
                    logging.warning("%s is damaged: the data are encoded again", path)
                _write(path, spec, found, encoder, progress)
    return open_store(path)


def open_store(path: str) -> FederatedDataset:
    """Opens a store that `load` wrote, by its path alone.

    Raises:
      UserError: If the file is no store.
    """
    meta = store.read_meta(path)
    there = store.splits(path)
    parts = {name: SqliteClientData(path, name) if name in there else None for name in splits.NAMES}
    notes = tuple(map(shown, meta.get("notes", ())))
    return FederatedDataset(label_names=tuple(meta["label_names"]), kind=meta["kind"], path=path, notes=notes, **parts)


def dealt_records(spec: DataSpec, split: str, *columns: str) -> Iterator[pd.DataFrame]:
    """The records of a split in chunks, dealt as `load` deals them before it encodes them.

    They have these columns, see `sources`, and "client", the id of the client of the split.

    Raises:
      UserError: If the data cannot be read or dealt.
    """
    source, code = open_source(spec), splits.NAMES.index(split)
    for pool, assignment in assign(spec, make_survey(spec).having(columns)).items():
        for chunk, codes, owners in assignment.dealt(source.pools[pool], columns):
            owners = owners[codes == code]
            if len(owners):
                yield chunk[codes == code].assign(client=[assignment.client_ids[code][owner] for owner in owners])


def _write(path: str, spec: DataSpec, survey: Survey, encoder: Encoder, progress: bool) -> None:
    assignments = assign(spec, survey, encoder.ordered)
    source = open_source(spec)
    meta = {
        "kind": encoder.kind,
        "label_names": list(encoder.label_names),
        "fingerprint": encoder.fingerprint,
        "dataset": spec.dataset,
    }
    total = sum(len(assignment.codes) for assignment in assignments.values())
    bar = tqdm(total=total, desc="Encoding", unit=" records", delay=2, disable=not progress, leave=False)
    for pool, assignment in assignments.items() if encoder.observes else ():
        for chunk, codes, owners in assignment.dealt(source.pools[pool], encoder.columns):
            keep = codes != DROPPED
            encoder.observe(list(zip(codes[keep].tolist(), owners[keep].tolist())), chunk[keep])
    with bar, store.StoreWriter(path, encoder.element_spec, meta) as writer:
        for pool, assignment in assignments.items():
            left_out = _write_pool(writer, spec, source.pools[pool], assignment, encoder, bar)
            for code, number in left_out.items():
                writer.notes.append(
                    f"{number:,} {splits.NAMES[code]} clients have too few records for an example, and are left out."
                )
        writer.notes += [*survey.notes_without_labels, *encoder.notes()]


def _write_pool(writer, spec, pool, assignment: Assignment, encoder: Encoder, bar) -> collections.Counter:
    """Writes the examples of a pool; returns how many clients have none, by the code of the split."""
    limit = spec.max_train_examples_per_client
    stream, unusable = encoder.stream(), LeftOut()
    stream.left_out = unusable if spec.on_bad_rows == "skip" else None

    def write(pairs) -> None:
        for (code, owner), example in pairs:
            client = assignment.client_ids[code][owner]
            split = splits.NAMES[code]
            if code == splits.TRAIN and limit and writer.count(split, client) >= limit:
                continue
            writer.add(split, client, example)

    is_in_time = encoder.ordered or spec.split != "auto" and SPLITS[spec.split].is_in_time
    is_series = encoder.ordered and "numbers" in encoder.columns
    is_checked = is_in_time and spec.dataset == "file" and (is_series or not spec.time_column)
    order = Order(spec.client_per_column) if is_checked else None
    for chunk, codes, owners in assignment.dealt(pool, (*encoder.columns, *(["row"] if order else []))):
        if order:
            (order.find if spec.time_column else order.check)(owners, zip(chunk["where"], chunk["row"]))
        keep = codes != DROPPED
        keys = list(zip(codes[keep].tolist(), owners[keep].tolist()))
        write(stream.add(keys, chunk[keep]))
        bar.update(len(chunk))
    write(stream.finish())
    if order and is_series:
        writer.notes += order.notes()
    if unusable.rows:
        writer.notes.append(
            f"{unusable.rows:,} more rows cannot be used and are skipped, the first: {' '.join(unusable.first)}"
        )
    written, left_out = set(), collections.Counter()
    kept = assignment.codes != DROPPED
    for code, owner in np.unique(np.stack([assignment.codes[kept], assignment.owners[kept]], axis=1), axis=0).tolist():
        client = assignment.client_ids[code][owner]
        if writer.count(splits.NAMES[code], client):
            written.add(code)
        else:
            left_out[code] += 1
    for code in sorted(left_out.keys() - written):
        raise UserError(_without_examples(spec, splits.NAMES[code]))
    return left_out


def _without_examples(spec: DataSpec, split: str) -> str:
    """What is wrong if no client of a split has an example."""
    if split == "train":
        return f"{setting('data.files')}: no client has enough records for an example; join clients or give more data."
    horizons = f"or use shorter {setting('task.horizons')} if these are series"
    what = f"no {split} client has enough records for an example"
    if getattr(spec, f"{split}_files"):
        return f"{setting(f'data.{split}_files')}: {what}; give more data, {horizons}."
    if spec.borders:
        return f"{setting('data.borders')}={','.join(map(str, spec.borders))}: {what}; enlarge its part, {horizons}."
    name = f"{split}_fraction"
    part = f"{setting(f'data.{name}')}={getattr(spec, name):g} with {setting('data.split')}={spec.split}"
    return f"{part}: {what}; raise the fraction, set it to 0 to hold nothing out, {horizons}."
