"""One interface for the predictions of all tasks: inputs in, JSON-ready dicts out."""

from __future__ import annotations

import abc
import dataclasses
import functools
import itertools
import os
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from tff_tx import datasets, models, tasks
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting
from tff_tx.core.text import cell, json_text


@dataclasses.dataclass(frozen=True)
class Options:
    """How predictions are made; each predictor goes by those that concern it.

    Attributes:
      batch_size: Inputs a batch.
      top_k: Labels, words or items listed for each input.
      max_new_tokens: Length of generated text; None: 100, or that of targets in training.
      num_beams: Beams of the search for a text; 1 takes the likeliest token each time.
      temperature: Sampling temperature; 0: nothing is sampled.
      seed: Of sampling.
      on_bad_rows: Whether what cannot be predicted from is an error ("refuse"), or left out and counted ("skip").
    """

    batch_size: int = 32
    top_k: int = 3
    max_new_tokens: int | None = None
    num_beams: int = 1
    temperature: float = 0.0
    seed: int = 0
    on_bad_rows: str = "refuse"


_INPUTS = ("text", "question")
"""What of a prediction is its input, which a row has in columns of its own."""


class TableRow(NamedTuple):
    """An input from a table, the whole row that it is of, by the table's own column names, and the row's place.

    The place is None in a single file of which no row is left out: there the rows and the predictions are as many.
    """

    value: Any
    row: Mapping[str, Any]
    where: str | None = None

    def joined(self, prediction: Mapping[str, Any]) -> dict:
        """The row with a prediction, whose names are preceded by `predicted_` where the row has them already."""
        paths = {name: value["path"] for name, value in self.row.items() if _is_path(value)}
        row = {**self.row, **paths}
        for name in {"image", "audio"} & paths.keys():  # which a reader adds to the column that names the file
            if list(paths.values()).count(paths[name]) > 1:
                del row[name]
        values = {name: _plain(value) for name, value in row.items() if not _is_binary(value)}
        found = {name: value for name, value in prediction.items() if name not in _INPUTS}
        found |= {} if self.where is None else {"where": self.where}
        return {**values, **{f"predicted_{name}" if name in values else name: v for name, v in found.items()}}


class Predictor(abc.ABC):
    """Predictions of one model. This class reads texts; subclasses for other inputs have a `read` of their own.

    Attributes:
      record_column: What of records is an input.
      left_out: Counts what was left out.

    Args:
      definition: The task.
      model: A model directory, which is read when the model is first needed, or a Keras model.
      spec: The lengths that the model was trained with.
      data: The data that it was trained on, for the names of their columns.
      tokenizer: Its tokenizer; None: that of the directory.
      options: How predictions are made.
    """

    record_column = "text"

    def __init__(
        self,
        definition: tasks.TaskKind,
        model: Any,
        spec: tasks.ModelSpec,
        data: datasets.DataSpec,
        tokenizer: Any,
        options: Options,
    ):
        self.definition, self._model, self._tokenizer = definition, model, tokenizer
        self.spec, self.data, self.options = spec, data, options
        self.left_out, self._shows_where = datasets.LeftOut(), False

    @functools.cached_property
    def model(self) -> Any:
        """The Keras model."""
        if not isinstance(self._model, str):
            return self._model
        return models.from_pretrained(self.definition.auto_class, self._model)

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        if self._tokenizer is not None:
            return self._tokenizer
        return self.definition.load_tokenizer(tasks.ModelSpec(pretrained=self._model))

    def read(self, *, texts: Sequence[str] = (), question: str | None = None, files: Sequence[str] = ()) -> Iterable:
        """The inputs for `predict` that a command line names.

        Args:
          texts: Texts.
          question: A question about each text.
          files: Paths: of texts, one a line, or of what else the model takes; tables with the columns of `data`;
            folders of texts, one a file, or of tables.

        Raises:
          UserError: If they are not what the model takes, or a file cannot be read.
        """
        del question
        require_inputs(texts, files)
        return [*texts, *(value for path in files for value in self._read_file(path))]

    def _read_file(self, path: str) -> Iterable:
        name = datasets.format_of_table(path, self.data)
        if name is None and not os.path.isdir(path):
            return _read_lines(path)
        spec = dataclasses.replace(self.files_spec([path]), format=name or self.data.format)
        chunks = self.records(spec, self.record_column, "row")
        return (row for chunk in chunks for row in self.table_rows(chunk[self.record_column], chunk))

    def records(self, spec: datasets.DataSpec, *columns: str) -> Iterator[pd.DataFrame]:
        """Records of files in chunks; those that lack one of these columns are left out if bad rows are."""
        self._shows_where = self._skips or any(map(os.path.isdir, spec.files))
        return datasets.read_files(spec, *columns, left_out=self.left_out)

    def table_rows(self, inputs: Iterable, chunk: pd.DataFrame) -> Iterator[TableRow]:
        """Inputs with their rows of a chunk."""
        return map(TableRow, inputs, chunk["row"], chunk["where"] if self._shows_where else itertools.repeat(None))

    @property
    def _skips(self):
        return self.options.on_bad_rows == "skip"

    def predict(self, inputs: Iterable) -> Iterator[dict]:
        """Yields a prediction for each input.

        Args:
          inputs: Such as `read` gives.

        Raises:
          UserError: If an input cannot be predicted from.
        """
        inputs = list(inputs)
        for start in range(0, len(inputs), self.options.batch_size):
            yield from self._predicted(inputs[start : start + self.options.batch_size])

    def _predicted(self, batch: Sequence) -> Iterator[dict]:
        """The predictions for a batch; if bad rows are skipped, for those of its inputs that can be predicted from."""
        try:
            results = list(self.predict_batch([one.value if isinstance(one, TableRow) else one for one in batch]))
        except UserError as error:
            if not self._skips:
                raise
            if len(batch) == 1:
                where = getattr(batch[0], "where", None)
                self.left_out.add(error if where is None else UserError(f"{where}: {error.args[0]}"))
                return
            for one in batch:
                yield from self._predicted([one])
            return
        for one, result in zip(batch, results):
            yield one.joined(result) if isinstance(one, TableRow) else result

    def files_spec(self, files: Sequence[str]) -> datasets.DataSpec:
        """Files of records whose columns are named as those of `data`."""
        here = {"silos": (), "validation_files": (), "test_files": (), "on_bad_rows": self.options.on_bad_rows}
        return dataclasses.replace(self.data, dataset="file", files=tuple(files), **here)

    @abc.abstractmethod
    def predict_batch(self, inputs: Sequence) -> Iterable[dict]:
        """Predictions for a batch of inputs."""

    def score(self, records: pd.DataFrame) -> pd.DataFrame:
        """Scores of the texts that the model writes for records.

        Args:
          records: With the task's `scored_columns`.

        Returns:
          A row a record, in their order, with a column for each of the task's `score_metrics`, or for what `pooled`
          makes them of.
        """
        raise NotImplementedError(type(self).__name__)

    def pooled(self, means: pd.DataFrame | pd.Series) -> pd.DataFrame | pd.Series:
        """The task's `score_metrics` over several records, of the means of what `score` gives."""
        return means

    def score_split(self, split: str) -> pd.DataFrame:
        """Scores for all records of a split of the data, with the column `client`.

        Args:
          split: "train", "validation" or "test".
        """
        chunks = datasets.dealt_records(self.data, split, *self.definition.scored_columns)
        return pd.concat([self.score(chunk).assign(client=chunk["client"]) for chunk in chunks])


def build_predictor(
    kind: str,
    model: Any,
    spec: tasks.ModelSpec,
    *,
    data: datasets.DataSpec | None = None,
    tokenizer: Any = None,
    **options: Any,
) -> Predictor:
    """The predictor of a task's models.

    Args:
      kind: The task's name.
      model: See `Predictor`, likewise `spec`, `data` and `tokenizer`.
      spec: Likewise.
      data: Likewise; None: of the default names.
      tokenizer: Likewise.
      **options: Fields of `Options`.

    Raises:
      UserError: If there is no such task, or its models do not predict.
    """
    definition = tasks.task_kind(kind)
    if definition.predictor is None:
        raise UserError(f"there is no predictor for models of {kind}.")
    predictor_class = pkgutil.resolve_name(definition.predictor)
    return predictor_class(definition, model, spec, data or datasets.DataSpec(), tokenizer, Options(**options))


def as_text(predictions: Iterable[Mapping], path: str | None = None) -> str:
    """Predictions as a table, for a path that ends in .csv or .tsv, else as JSON lines."""
    separator = {".csv": ",", ".tsv": "\t"}.get(os.path.splitext(path or "")[1].lower())
    if separator is not None:
        table = pd.json_normalize(list(map(dict, predictions))).rename(columns=cell)
        return table.apply(lambda column: column.map(_cell)).to_csv(index=False, sep=separator)
    return "".join(json_text(files.plain(one)) + "\n" for one in predictions)


def _cell(value):
    """A value in a table; lists, as of words and tags, as JSON."""
    return cell(json_text(files.plain(value)) if isinstance(value, (list, dict)) else value)


def stacked(rows: Sequence[np.ndarray], fill: Any) -> np.ndarray:
    """Rows of different lengths as one array, filled up at their ends."""
    result = np.full([len(rows), max(map(len, rows))], fill, rows[0].dtype)
    for row, values in zip(result, rows):
        row[: len(values)] = values
    return result


def _is_binary(value):
    return isinstance(value, bytes) or isinstance(value, dict) and any(map(_is_binary, value.values()))


def _is_path(value):
    return isinstance(value, dict) and value.keys() == {"path"}


def _plain(value):
    """A value of a file as JSON has it, of other kinds (times, decimal numbers) as text."""
    value = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    return value if value is None or isinstance(value, (str, int, float, list, dict)) else str(value)


def require_inputs(texts: Sequence[str], files: Sequence[str]) -> None:
    """Rejects having nothing to predict from."""
    if not texts and not files:
        raise UserError(f"there is nothing to predict: set {setting('predict.text')} or {setting('predict.data')}.")


def _read_lines(path: str) -> list[str]:
    """The lines of a file that are not blank."""
    try:
        with open(path, encoding="utf-8") as file:
            return [line.rstrip("\n") for line in file if line.strip()]
    except OSError as error:
        raise UserError(
            f"{setting('predict.data')}={path} cannot be read ({error.strerror}): check the path."
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{setting('predict.data')}={path} is not UTF-8 (byte {error.start}): convert it to UTF-8."
        ) from None
