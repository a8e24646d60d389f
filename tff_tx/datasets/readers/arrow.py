"""Parquet in pieces of bounded size: a dictionary of one long text may stand for gigabytes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tff_tx.core.errors import UserError
from tff_tx.datasets.readers.limits import CHUNK_BYTES, ROW_BYTES, require_bounded
from tff_tx.datasets.sources import CHUNK_ROWS

if TYPE_CHECKING:
    import pyarrow

_VALUES_PER_CHUNK = 10**6


def bounded_batches(path: str) -> Iterator[pyarrow.RecordBatch]:
    """The record batches of a Parquet file, of at most `CHUNK_ROWS` rows and fewer of long ones.

    Raises:
      UserError: If the file becomes larger than a file of its size may, before that happens.
      pyarrow.ArrowException: If it is no Parquet file.
    """
    from pyarrow import parquet

    with contextlib.ExitStack() as stack:
        file = stack.enter_context(parquet.ParquetFile(path))
        rows, schema = _rows_per_batch(path, file.metadata), file.metadata.schema
        columns = map(schema.column, range(len(schema)))
        texts = {n: c.path for n, c in enumerate(columns) if c.physical_type == "BYTE_ARRAY"}
        texts = {n: name for n, name in texts.items() if schema.column(n).logical_type.type in ("STRING", "NONE")}
        # Read twice: with the dictionaries that it is stored by, to learn its size, before it is written out.
        short = stack.enter_context(parquet.ParquetFile(path, read_dictionary=[*texts]))
        sizes = short.iter_batches(batch_size=rows, columns=[*texts.values()]) if texts else iter(())
        batches = file.iter_batches(batch_size=rows)
        done, measured, total = 0, 0, 0
        while done < file.metadata.num_rows:
            while measured < done + rows and (stored := next(sizes, None)) is not None:
                num_bytes = sum(map(_written_out, stored.columns))
                total, measured = total + num_bytes, measured + stored.num_rows
                require_bounded(path, total)
                if num_bytes > ROW_BYTES:
                    raise UserError(f"{path}: rows {done + 1} to {measured} take {num_bytes / 1e6:.0f} MB; split them.")
            batch = next(batches)
            done += batch.num_rows
            yield batch


def _rows_per_batch(path, metadata):
    # What it says of single columns is not asked for: Arrow ends the process where that is damaged.
    values = metadata.num_rows * metadata.num_columns
    content = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    require_bounded(path, max(content, 8 * values))
    chunks = max(content / CHUNK_BYTES, values / _VALUES_PER_CHUNK)
    return max(1, int(min(CHUNK_ROWS, metadata.num_rows / chunks))) if chunks else CHUNK_ROWS


def _written_out(array) -> int:
    """Bytes of the texts of an Arrow array without its dictionaries."""
    from pyarrow import compute, types

    if types.is_dictionary(array.type):
        return compute.sum(compute.take(compute.binary_length(array.dictionary), array.indices)).as_py() or 0
    if types.is_map(array.type):
        return _written_out(array.keys) + _written_out(array.items)
    if types.is_struct(array.type):
        return sum(map(_written_out, array.flatten()))
    return _written_out(array.flatten()) if types.is_nested(array.type) else 0
