"""Files of any format as one kind of records, a chunk at a time."""

from tff_tx.datasets.readers import containers, lines
from tff_tx.datasets.readers.format import Format
from tff_tx.datasets.records import FILES_PER_CHUNK

FORMATS: dict[str, Format] = {
    "csv": Format(lines.read_csv, (".csv",)),
    "tsv": Format(lines.read_tsv, (".tsv",)),
    "jsonl": Format(lines.read_jsonl, (".jsonl", ".ndjson")),
    "parquet": Format(containers.read_parquet, (".parquet",)),
    "conll": Format(lines.read_conll, (".conll", ".bio", ".iob")),
    "squad": Format(containers.read_squad),
    "leaf": Format(containers.read_leaf, (".json",), has_clients=True, one_file_a_client=True),
    "text": Format(
        lines.read_text, has_clients=True, one_file_a_client=True, named_clients=True, chunk_rows=FILES_PER_CHUNK
    ),
    "dialogue": Format(lines.read_dialogue, has_clients=True),
    "hdf5": Format(containers.read_hdf5, (".h5", ".hdf5"), has_clients=True, one_file_a_client=True),
    "sqlite": Format(
        containers.read_sqlite,
        (".sqlite", ".sqlite3", ".db"),
        has_clients=True,
        one_file_a_client=True,
        splits=containers.sqlite_splits,
    ),
}
"""The file formats; a reader and a line here make another."""
