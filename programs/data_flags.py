"""The flags that say which data to use; `data_spec` turns them into a `DataSpec`."""

from __future__ import annotations

import dataclasses
import os

from absl import flags

from tff_tx.datasets import DATASETS, FORMATS, PARTITIONS, SPLITS, DataSpec

FLAGS = flags.FLAGS

flags.DEFINE_enum("dataset", "stdlib", DATASETS, "The data set; `file` reads --data.")
flags.DEFINE_list("data", [], "Training files, folders or globs, with --dataset=file.")
flags.DEFINE_list("validation_data", [], "Validation files; nothing is split off for validation.")
flags.DEFINE_list("test_data", [], "Test files; nothing is split off for testing.")
flags.DEFINE_enum("data_format", None, list(FORMATS), "The files' format; default: by their names.")
flags.DEFINE_list("columns", [], "Column names, for CSV and TSV files without a header line.")
flags.DEFINE_list("text_column", ["text"], "The text's column; several are joined by a blank.")
flags.DEFINE_string("label_column", "label", "The label's column.")
flags.DEFINE_string("target_column", "target", "The column of the text that is to be made of --text_column.")
flags.DEFINE_string("question_column", "question", "The question's column.")
flags.DEFINE_string("context_column", "context", "The column of the text in which the answer is.")
flags.DEFINE_string("answer_column", "answer", "The answer's column, empty where there is none; or SQuAD's `answers`.")
flags.DEFINE_string("answer_start_column", "answer_start", "The column of the place of its first character, from 0.")
flags.DEFINE_string("client_column", None, "The column that says who owns an example.")
flags.DEFINE_list("numeric_columns", [], "The columns with numbers, of tables and series.")
flags.DEFINE_list("categorical_columns", [], "The columns with one of a few values each, of tables.")
flags.DEFINE_enum(
    "partition",
    "auto",
    PARTITIONS,
    "Who owns an example: the data's own clients (column), or dealt out; "
    "auto is column if the data have clients, else iid.",
)
flags.DEFINE_integer(
    "num_clients",
    None,
    "Clients to deal to (default 100), or how many of the data's own to keep (default all).",
    lower_bound=1,
)
flags.DEFINE_float("dirichlet_alpha", 1.0, "Concentration of --partition=dirichlet; small is uneven.")
flags.DEFINE_integer("shards_per_client", 2, "Shards a client of --partition=shards.", lower_bound=1)
flags.DEFINE_float("power_law_exponent", 1.5, "Exponent of the sizes of --partition=power_law.")
flags.DEFINE_enum(
    "split",
    "auto",
    SPLITS,
    "What is held out: whole clients, a part of every client, the last part of every client (time), or examples "
    "before dealing; "
    "auto is client for the data's own clients, else example.",
)
flags.DEFINE_float("validation_fraction", 0.0, "Held out for validation: a fraction, or a whole number from 1 on.")
flags.DEFINE_float("test_fraction", 0.1, "Held out for testing: a fraction, or a whole number from 1 on.")
flags.DEFINE_integer("max_train_examples_per_client", None, "Cuts larger training clients off.", lower_bound=1)
flags.DEFINE_list("label_names", [], "The labels in their order; default: found in --data.")
flags.DEFINE_string("cache_dir", None, "Where encoded data are kept; default: tff_tx in the user's cache directory.")


def data_spec(seed: int) -> DataSpec:
    """The data set that the flags describe.

    Raises:
        UserError: If the flags contradict each other.
    """
    return DataSpec(
        dataset=FLAGS.dataset,
        files=tuple(FLAGS.data),
        validation_files=tuple(FLAGS.validation_data),
        test_files=tuple(FLAGS.test_data),
        format=FLAGS.data_format,
        columns=tuple(FLAGS.columns),
        text_column=tuple(FLAGS.text_column),
        label_column=FLAGS.label_column,
        target_column=FLAGS.target_column,
        question_column=FLAGS.question_column,
        context_column=FLAGS.context_column,
        answer_column=FLAGS.answer_column,
        answer_start_column=FLAGS.answer_start_column,
        client_column=FLAGS.client_column,
        numeric_columns=tuple(FLAGS.numeric_columns),
        categorical_columns=tuple(FLAGS.categorical_columns),
        partition=FLAGS.partition,
        num_clients=FLAGS.num_clients,
        dirichlet_alpha=FLAGS.dirichlet_alpha,
        shards_per_client=FLAGS.shards_per_client,
        power_law_exponent=FLAGS.power_law_exponent,
        split=FLAGS.split,
        validation_fraction=FLAGS.validation_fraction,
        test_fraction=FLAGS.test_fraction,
        max_train_examples_per_client=FLAGS.max_train_examples_per_client,
        label_names=tuple(FLAGS.label_names),
        cache_dir=FLAGS.cache_dir,
        seed=seed,
    )


def with_absolute_paths(data: DataSpec) -> DataSpec:
    """The same files wherever on this machine they are opened from; those of silos are elsewhere."""
    here = ("validation_files", "test_files") if data.silos else ("files", "validation_files", "test_files")
    paths = {name: tuple(os.path.abspath(f) for f in getattr(data, name)) for name in here}
    return dataclasses.replace(data, **paths)
