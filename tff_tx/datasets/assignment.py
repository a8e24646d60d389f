"""Which row belongs to which client of which split."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator

import numpy as np

from tff_tx.config.registries import PARTITIONS, SPLITS
from tff_tx.core.errors import UserError, setting
from tff_tx.datasets import splits
from tff_tx.datasets.sources import Pool
from tff_tx.datasets.spec import DataSpec
from tff_tx.datasets.surveys import PoolSurvey, Survey

DROPPED = -1
_DEFAULT_NUM_CLIENTS = 100


@dataclasses.dataclass(frozen=True)
class Assignment:
    """Where the rows of one pool go, in the order they are read.

    Attributes:
      codes: int8 [rows], index into `splits.NAMES`, or `DROPPED`.
      owners: int64 [rows], index into the client names of the row's split.
      client_ids: Split code -> client ids; a table may have clients that have no row in the split.
    """

    codes: np.ndarray
    owners: np.ndarray
    client_ids: dict[int, list[str]]

    def dealt(self, pool: Pool, columns: Iterable[str]) -> Iterator[tuple]:
        """Yields the pool's chunks, DataFrames of these record columns, with the codes and the owners of their rows."""
        start = 0
        for chunk in pool(columns):
            rows = slice(start, start + len(chunk))
            start += len(chunk)
            yield chunk, self.codes[rows], self.owners[rows]


def assign(spec: DataSpec, survey: Survey, ordered: bool = False) -> dict[str, Assignment]:
    """Deals the rows of every pool of a data set: pool name -> assignment, in the order of `splits.NAMES`.

    With `ordered`, a client's rows mean something only together and in their order.

    Raises:
      UserError: If the data cannot be dealt or split as the spec asks.
    """
    how = spec.partition
    if how == "auto":
        how = "column" if survey.source.has_clients else "iid"
    if how == "column" and not survey.source.has_clients:
        raise UserError(
            f"{setting('data.partition')}=column needs the data to say who owns each example; name a "
            f"{setting('data.client_column')} or choose another {setting('data.partition')}, for instance iid."
        )
    if PARTITIONS[how].by_label and survey.label_column != "label":
        raise UserError(
            f"{setting('data.partition')}={how} needs one label an example, and these data have several; "
            "choose iid or power_law."
        )
    held_out = spec.split
    if held_out == "auto":
        held_out = "client" if how == "column" else "example"
    if ordered:
        _refuse_disorder(how, held_out)
    assignments = {}
    for code, pool in enumerate(splits.NAMES):
        if pool not in survey.pools:
            continue
        index = _readable(survey, pool, how)
        rng = np.random.default_rng([spec.seed, code])
        if code == splits.TRAIN:
            validation = 0.0 if "validation" in survey.pools else spec.validation_fraction
            test = 0.0 if "test" in survey.pools else spec.test_fraction
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
            f"{setting('data.partition')}={how} deals records out one by one, and the task needs the records of a "
            f"client together and in order; name a {setting('data.client_column')}, or set "
            f"{setting('data.client_per_column')} where each column is a series, and keep to "
            f"{setting('data.partition')}=column."
        )
    if not SPLITS[held_out].keeps_order:
        raise UserError(
            f"{setting('data.split')}={held_out} takes records from between others, and the task needs the records of "
            f"a client in order; choose {setting('data.split')}=time, which holds out the last ones, or client."
        )


def _readable(survey: Survey, name: str, how: str) -> PoolSurvey:
    """A pool, of which what it is to be dealt by can be read."""
    if how == "column":
        survey.require(name, "client")
    elif PARTITIONS[how].by_label:
        survey.require(name, "label")
    return survey.pools[name]


def _deal_and_split(spec, how, held_out, index, validation, test, rng) -> Assignment:
    split = SPLITS[held_out]
    if split.before_dealing:
        codes = split.draw(np.arange(index.num_rows), validation, test, rng)
        return _deal_each_split(spec, how, index, codes, rng)
    number = _number_of_clients(spec, index.num_rows)
    owners, ids = _deal(spec, how, index, number, "client", rng)
    kept = np.ones(len(owners), dtype=bool)
    if how == "column" and spec.num_clients is not None:
        owners, ids, kept = _draw_clients(owners, ids, spec.num_clients, rng)
    codes = np.full(len(owners), DROPPED, dtype=np.int8)
    borders = spec.borders and functools.partial(splits.by_borders, borders=spec.borders)
    codes[kept] = borders(owners[kept]) if borders else split.draw(owners[kept], validation, test, rng)
    return Assignment(codes, owners, dict.fromkeys(range(len(splits.NAMES)), ids))


def _deal_each_split(spec, how, index, codes, rng) -> Assignment:
    """Deals train, validation and test rows apart, each to clients of its own."""
    owners = np.empty(index.num_rows, dtype=np.int64)
    client_ids = {}
    rows_of = {code: np.flatnonzero(codes == code) for code in np.unique(codes)}
    num_train = len(rows_of[splits.TRAIN])
    number = _number_of_clients(spec, num_train)
    for code, rows in rows_of.items():
        # What the rows are not dealt by may be missing, or there for the first rows alone.
        numbers = {field: getattr(index, field) for field in ("labels", "clients")}
        own = {field: found[rows] for field, found in numbers.items() if len(found) == index.num_rows}
        part = dataclasses.replace(index, num_rows=len(rows), **own)
        prefix = "client" if code == splits.TRAIN else f"{splits.NAMES[code]}_client"
        share = number if code == splits.TRAIN else _proportional(len(rows), num_train, number)
        owners[rows], client_ids[int(code)] = _deal(spec, how, part, share, prefix, rng)
    if how == "column":
        client_ids = dict.fromkeys(range(len(splits.NAMES)), index.client_ids)
    return Assignment(codes, owners, client_ids)


def _deal(spec: DataSpec, how: str, index: PoolSurvey, number: int, prefix: str, rng) -> tuple:
    owners = PARTITIONS[how].deal(index, number, spec, rng)
    if how == "column":
        return owners, index.client_ids
    width = len(str(number - 1))
    return owners, [f"{prefix}_{client:0{width}d}" for client in range(number)]


def _number_of_clients(spec: DataSpec, num_rows: int) -> int:
    return min(_DEFAULT_NUM_CLIENTS, num_rows) if spec.num_clients is None else spec.num_clients


def _proportional(rows: int, train_rows: int, train_clients: int) -> int:
    """As many clients that they are, on average, the size of the training clients."""
    return max(1, round(train_clients * rows / train_rows))


def _draw_clients(owners, ids, number, rng) -> tuple:
    if number > len(ids):
        raise UserError(
            f"{setting('data.num_clients')}={number} is more than the {len(ids)} clients the data have; give at "
            f"most {len(ids)}, or deal the examples with {setting('data.partition')}=iid."
        )
    drawn = np.sort(rng.choice(len(ids), size=number, replace=False))
    new_index = np.full(len(ids), -1, dtype=np.int64)
    new_index[drawn] = np.arange(number)
    owners = new_index[owners]
    return owners, [ids[client] for client in drawn], owners >= 0
