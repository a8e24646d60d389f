"""The first pass over the data: which row belongs to which client of which split."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from tff_tx.core.errors import UserError
from tff_tx.datasets import partition, splits
from tff_tx.datasets.records import Read, Source
from tff_tx.datasets.spec import DataSpec

DROPPED = -1
_DEFAULT_NUM_CLIENTS = 100


@dataclasses.dataclass(frozen=True)
class Assignment:
    """Where the rows of one pool go, in the order they are read.

    Attributes:
        codes: int8 [rows], index into `splits.NAMES`, or `DROPPED`.
        owners: int64 [rows], index into the client names of the row's split.
        client_ids: Split code -> client ids; a table may have clients that have no row in the
            split.
    """

    codes: np.ndarray
    owners: np.ndarray
    client_ids: dict[int, list[str]]


@dataclasses.dataclass(frozen=True)
class _Index:
    """Labels and clients of all rows as numbers: a few bytes a row, whatever the texts weigh."""

    num_rows: int
    labels: np.ndarray | None
    clients: np.ndarray | None
    client_ids: list


def assign(spec: DataSpec, source: Source, ordered: bool = False) -> dict[str, Assignment]:
    """Deals the rows of every pool of a source.

    Args:
        spec: How.
        source: The rows.
        ordered: Whether a client's rows mean something only together and in their order.

    Returns:
        Pool name -> assignment, pools in the order of `splits.NAMES`.

    Raises:
        UserError: If the data cannot be dealt or split as the spec asks.
    """
    how = spec.partition
    if how == "auto":
        how = "column" if source.has_clients else "iid"
    if how == "column" and not source.has_clients:
        raise UserError(
            "--partition=column needs the data to say who owns each example; name a "
            "--client_column or choose another --partition, for instance iid."
        )
    if how in ("dirichlet", "shards") and source.tagged:
        raise UserError(
            f"--partition={how} needs one label an example, and these data have one a word; choose iid or power_law."
        )
    held_out = spec.split
    if held_out == "auto":
        held_out = "client" if how == "column" else "example"
    if ordered:
        _refuse_disorder(how, held_out)
    assignments = {}
    for code, pool in enumerate(splits.NAMES):
        if pool not in source.pools:
            continue
        index = _index(source.pools[pool], how)
        rng = np.random.default_rng([spec.seed, code])
        if code == splits.TRAIN:
            validation = 0.0 if "validation" in source.pools else spec.validation_fraction
            test = 0.0 if "test" in source.pools else spec.test_fraction
            assignments[pool] = _deal_and_split(spec, how, held_out, index, validation, test, rng)
            train_rows = index.num_rows
            train = assignments[pool].codes == splits.TRAIN
            num_train_clients = len(np.unique(assignments[pool].owners[train]))
        else:
            number = _proportional(index.num_rows, train_rows, num_train_clients)
            owners, ids = _deal(spec, how, index, number, f"{pool}_client", rng)
            codes = np.full(index.num_rows, code, dtype=np.int8)
            assignments[pool] = Assignment(codes, owners, {code: ids})
    return assignments


def _refuse_disorder(how: str, held_out: str) -> None:
    if how != "column":
        raise UserError(
            f"--partition={how} deals records out one by one, and the task needs the records of a client together and "
            "in order; name a --client_column and keep to --partition=column."
        )
    if held_out not in ("client", "time"):
        raise UserError(
            f"--split={held_out} takes records from between others, and the task needs the records of a client in "
            "order; choose --split=time, which holds out the last ones, or client."
        )


def _index(read: Read, how: str) -> _Index:
    wants = {"column": {"client"}, "dirichlet": {"label"}, "shards": {"label"}}.get(how, set())
    numbers: dict[str, list] = {column: [] for column in wants}
    known: dict[str, dict] = {column: {} for column in wants}
    num_rows = 0
    for chunk in read(frozenset(wants)):
        num_rows += len(chunk)
        for column in wants:
            codes, values = pd.factorize(chunk[column])
            table = known[column]
            ids = np.array([table.setdefault(value, len(table)) for value in values], np.int32)
            numbers[column].append(ids[codes])
    arrays = {column: np.concatenate(parts) for column, parts in numbers.items()}
    return _Index(num_rows, arrays.get("label"), arrays.get("client"), list(known.get("client", ())))


def _deal_and_split(spec, how, held_out, index, validation, test, rng) -> Assignment:
    if held_out == "example":
        codes = splits.by_example(index.num_rows, validation, test, rng)
        return _deal_each_split(spec, how, index, codes, rng)
    number = _number_of_clients(spec, index.num_rows)
    owners, ids = _deal(spec, how, index, number, "client", rng)
    kept = np.ones(len(owners), dtype=bool)
    if how == "column" and spec.num_clients is not None:
        owners, ids, kept = _draw_clients(owners, ids, spec.num_clients, rng)
    codes = np.full(len(owners), DROPPED, dtype=np.int8)
    if held_out == "time":
        codes[kept] = splits.in_time(owners[kept], validation, test)
    else:
        split = splits.by_client if held_out == "client" else splits.within_client
        codes[kept] = split(owners[kept], validation, test, rng)
    return Assignment(codes, owners, dict.fromkeys(range(len(splits.NAMES)), ids))


def _deal_each_split(spec, how, index, codes, rng) -> Assignment:
    """Deals train, validation and test rows apart, each to clients of its own."""
    owners = np.empty(index.num_rows, dtype=np.int64)
    client_ids = {}
    rows_of = {code: np.flatnonzero(codes == code) for code in np.unique(codes)}
    num_train = len(rows_of[splits.TRAIN])
    number = _number_of_clients(spec, num_train)
    for code, rows in rows_of.items():
        part = _Index(
            len(rows),
            None if index.labels is None else index.labels[rows],
            None if index.clients is None else index.clients[rows],
            index.client_ids,
        )
        prefix = "client" if code == splits.TRAIN else f"{splits.NAMES[code]}_client"
        share = number if code == splits.TRAIN else _proportional(len(rows), num_train, number)
        owners[rows], client_ids[int(code)] = _deal(spec, how, part, share, prefix, rng)
    if how == "column":
        client_ids = dict.fromkeys(range(len(splits.NAMES)), index.client_ids)
    return Assignment(codes, owners, client_ids)


def _deal(spec: DataSpec, how: str, index: _Index, number: int, prefix: str, rng) -> tuple:
    if how == "column":
        return index.clients.astype(np.int64), index.client_ids
    if how == "iid":
        owners = partition.iid(index.num_rows, number, rng)
    elif how == "power_law":
        owners = partition.power_law(index.num_rows, number, spec.power_law_exponent, rng)
    elif how == "dirichlet":
        owners = partition.dirichlet(index.labels, number, spec.dirichlet_alpha, rng)
    else:
        owners = partition.shards(index.labels, number, spec.shards_per_client, rng)
    width = len(str(number - 1))
    return owners, [f"{prefix}_{client:0{width}d}" for client in range(number)]


def _number_of_clients(spec: DataSpec, num_rows: int) -> int:
    if spec.num_clients is not None:
        return spec.num_clients
    return min(_DEFAULT_NUM_CLIENTS, num_rows)


def _proportional(rows: int, train_rows: int, train_clients: int) -> int:
    """As many clients that they are, on average, the size of the training clients."""
    return max(1, round(train_clients * rows / train_rows))


def _draw_clients(owners, ids, number, rng) -> tuple:
    if number > len(ids):
        raise UserError(
            f"--num_clients={number} is more than the {len(ids)} clients the data have; give at "
            f"most {len(ids)}, or deal the examples with --partition=iid."
        )
    drawn = np.sort(rng.choice(len(ids), size=number, replace=False))
    new_index = np.full(len(ids), -1, dtype=np.int64)
    new_index[drawn] = np.arange(number)
    owners = new_index[owners]
    return owners, [ids[client] for client in drawn], owners >= 0
