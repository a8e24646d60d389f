"""What to load: the one description of a data set that programs make from flags."""

from __future__ import annotations

import dataclasses

from tff_tx.config.registries import DATASETS, PARTITIONS, SPLITS
from tff_tx.core.errors import UserError, setting
from tff_tx.datasets import splits


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """What to load, and how to deal it to clients.

    Attributes:
      dataset: One of `DATASETS`; "file" reads `files`.
      files: Training files, folders or globs.
      silos: Names of the silos that hold the training files, each its own; see `silos`. Empty: they are here.
      validation_files: Validation files; if any, nothing is split off for validation.
      test_files: Test files; if any, nothing is split off for testing.
      format: A format of `readers.FORMATS`, or None to go by the file name.
      columns: Column names of files without a header line.
      text_column: The column that holds the text; several are joined by a blank.
      label_column: The column that holds the label.
      target_column: The column that holds the text that is to be made of the text.
      question_column: The column that holds a question.
      context_column: The column that holds the text in which the answer is.
      answer_column: The column that holds the answer, empty where there is none, or several as SQuAD has them.
      answer_start_column: The column that says at which character of the context the answer starts, from 0.
      client_column: The column that holds the owner, if there is one.
      numeric_columns: The columns that hold numbers, of tables and series.
      categorical_columns: The columns that hold one of a few values each, of tables.
      partition: Who owns an example: the data's own clients ("column"), or a way of dealing;
        "auto" is the data's own clients if there are any, else "iid".
      num_clients: How many clients; None for all of the data's own, or 100 (at most one an
        example) if examples are dealt. With "column", a smaller number than the data have draws
        some of them at random.
      dirichlet_alpha: Concentration of "dirichlet".
      shards_per_client: Shards a client of "shards".
      power_law_exponent: Exponent of "power_law".
      split: What is held out: whole clients, a part of every client drawn at random, the last
        part of every client in the order of its records ("time"), or examples before they are
        dealt; "auto" is "client" for the data's own clients, else "example".
      validation_fraction: What to hold out for validation: a fraction, or a number of clients or
        examples (a client, with "within_client" and "time").
      test_fraction: The same for testing. Data with a test split of their own keep that instead.
      max_train_examples_per_client: Where a training client is cut off.
      label_names: The labels in their order; found in the training data if empty.
      cache_dir: Where the encoded data are kept, see `cache.default_cache_dir`.
      seed: Decides dealing and splitting.
    """

    dataset: str = "stdlib"
    files: tuple = ()
    silos: tuple = ()
    validation_files: tuple = ()
    test_files: tuple = ()
    format: str | None = None
    columns: tuple = ()
    text_column: tuple = ("text",)
    label_column: str = "label"
    target_column: str = "target"
    question_column: str = "question"
    context_column: str = "context"
    answer_column: str = "answer"
    answer_start_column: str = "answer_start"
    client_column: str | None = None
    numeric_columns: tuple = ()
    categorical_columns: tuple = ()
    partition: str = "auto"
    num_clients: int | None = None
    dirichlet_alpha: float = 1.0
    shards_per_client: int = 2
    power_law_exponent: float = 1.5
    split: str = "auto"
    validation_fraction: float = 0.0
    test_fraction: float = 0.1
    max_train_examples_per_client: int | None = None
    label_names: tuple = ()
    cache_dir: str | None = None
    seed: int = 0

    def __post_init__(self):
        """Refuses what is wrong whatever the data are.

        Raises:
          UserError: If a field has a value that it cannot have.
        """
        for name, value, choices in (
            ("dataset", self.dataset, DATASETS),
            ("partition", self.partition, PARTITIONS),
            ("split", self.split, SPLITS),
        ):
            if value not in choices:
                raise UserError(f"{setting(f'data.{name}')}={value}: must be one of {', '.join(choices)}.")
        if self.dataset == "file" and not self.files:
            raise UserError(
                f"{setting('data.dataset')}=file needs {setting('data.files')}, the training files; name at least one."
            )
        if self.dataset != "file" and (self.files or self.validation_files or self.test_files):
            raise UserError(
                f"{setting('data.files')} is read with {setting('data.dataset')}=file only, and "
                f"{setting('data.dataset')} is {self.dataset}; drop one of them."
            )
        if self.silos and self.dataset != "file":
            raise UserError(
                f"{setting('data.silos')} hold files, and {setting('data.dataset')} is {self.dataset}; drop one, or "
                f"set {setting('data.dataset')}=file."
            )
        named = (*self.numeric_columns, *self.categorical_columns)
        if twice := [name for name in named if named.count(name) > 1]:
            raise UserError(
                f"{setting('data.numeric_columns')} and {setting('data.categorical_columns')} name the column "
                f"{twice[0]!r} twice; name it once."
            )
        if self.dataset != "file" and named:
            raise UserError(
                f"{setting('data.numeric_columns')} and {setting('data.categorical_columns')} are columns of files, "
                f"and {setting('data.dataset')} is {self.dataset}; "
                "drop them."
            )
        splits.check_part("validation_fraction", self.validation_fraction)
        splits.check_part("test_fraction", self.test_fraction)
        for name in ("num_clients", "max_train_examples_per_client"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{setting(f'data.{name}')}={value}: must be 1 or more.")
        if len(set(self.label_names)) < len(self.label_names):
            raise UserError(
                f"{setting('data.label_names')} names a label twice: {', '.join(self.label_names)}; name each once."
            )
