"""Which data, and who holds them."""

from __future__ import annotations

import dataclasses

from tff_tx.config.option import Section, option
from tff_tx.config.registries import DATASETS, FORMATS, PARTITIONS, SPLITS


@dataclasses.dataclass(frozen=True)
class DataConfig(Section, name="data"):
    """Data and clients."""

    dataset: str = option("stdlib", "Data set; `file` reads {data.files}.", choices=DATASETS)
    files: tuple[str, ...] = option(
        (), "Training files, folders or globs, with {data.dataset}=file.", flag="data", is_path=True
    )
    validation_files: tuple[str, ...] = option(
        (), "Validation files; nothing is split off for validation.", flag="validation_data", is_path=True
    )
    test_files: tuple[str, ...] = option(
        (), "Test files; nothing is split off for testing.", flag="test_data", is_path=True
    )
    silos: tuple[str, ...] = option(
        (),
        "Names of the silos that hold the training data: {data.files} are then paths on the node whose Ray resource is "
        "silo_NAME, with {silo} for the name, and are read only there; {data.test_files} and {data.validation_files} "
        "are read here.",
    )
    format: str | None = option(
        None, "Format of the files; default: by their names.", flag="data_format", choices=FORMATS
    )
    columns: tuple[str, ...] = option((), "Column names, for CSV and TSV files without a header line.")
    text_column: tuple[str, ...] = option(("text",), "Column of the text; several are joined by a blank.")
    label_column: str = option("label", "Column of the label.")
    target_column: str = option("target", "Column of the text that is generated from {data.text_column}.")
    question_column: str = option("question", "Column of the question.")
    context_column: str = option("context", "Column of the text in which the answer is found.")
    answer_column: str = option(
        "answer", "Column of the answer, empty for unanswerable questions; or SQuAD's `answers`."
    )
    answer_start_column: str = option("answer_start", "Column of the position of the answer's first character, from 0.")
    client_column: str | None = option(None, "Column of the client that owns an example.")
    numeric_columns: tuple[str, ...] = option((), "Numeric columns of tables and series.")
    categorical_columns: tuple[str, ...] = option((), "Categorical columns of tables.")
    partition: str = option(
        "auto",
        "Assignment of examples to clients: the data's own clients (column) or a synthetic partition; auto is "
        "column if the data have clients, else iid.",
        choices=PARTITIONS,
    )
    num_clients: int | None = option(
        None,
        "Number of clients of a synthetic partition (default 100), or how many of the data's own to use (default all).",
        least=1,
    )
    dirichlet_alpha: float = option(1.0, "Concentration of {data.partition}=dirichlet; smaller is more heterogeneous.")
    shards_per_client: int = option(2, "Shards per client of {data.partition}=shards.", least=1)
    power_law_exponent: float = option(1.5, "Exponent of client sizes of {data.partition}=power_law.")
    split: str = option(
        "auto",
        "Held-out data: whole clients, a random part of every client, the last part of every client (time), or "
        "examples before partitioning; auto is client for the data's own clients, else example.",
        choices=SPLITS,
    )
    validation_fraction: float = option(
        0.0, "Size of the validation split: a fraction, or a whole number from 1 on.", least=0.0
    )
    test_fraction: float = option(0.1, "Size of the test split: a fraction, or a whole number from 1 on.", least=0.0)
    max_train_examples_per_client: int | None = option(None, "Truncates larger training clients.", least=1)
    label_names: tuple[str, ...] = option((), "Labels in order; default: found in {data.files}.")
    cache_dir: str | None = option(
        None, "Directory for encoded data; default: tff_tx in the user's cache directory.", may_change=True
    )
