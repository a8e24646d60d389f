"""One interface for the predictions of all tasks: inputs in, JSON-ready dicts out."""

from __future__ import annotations

import abc
import dataclasses
import functools
import pkgutil
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pandas as pd

from tff_tx import datasets, models, tasks
from tff_tx.core.errors import UserError, setting


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
    """

    batch_size: int = 32
    top_k: int = 3
    max_new_tokens: int | None = None
    num_beams: int = 1
    temperature: float = 0.0
    seed: int = 0


class Predictor(abc.ABC):
    """Predictions of one model. This class reads texts; subclasses for other inputs have a `read` of their own.

    Args:
      definition: The task.
      model: A model directory, which is read when the model is first needed, or a Keras model.
      spec: The lengths that the model was trained with.
      data: The data that it was trained on, for the names of their columns.
      tokenizer: Its tokenizer; None: that of the directory.
      options: How predictions are made.
    """

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

    @functools.cached_property
    def model(self) -> Any:
        """The Keras model."""
        if not isinstance(self._model, str):
            return self._model
        return models.from_pretrained(self.definition.auto_class, self._model)

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return models.load_tokenizer(self._model) if self._tokenizer is None else self._tokenizer

    def read(self, *, texts: Sequence[str] = (), question: str | None = None, files: Sequence[str] = ()) -> Iterable:
        """The inputs for `predict` that a command line names.

        Args:
          texts: Texts.
          question: A question about each text.
          files: Paths: of texts, one a line, or of what else the model takes.

        Raises:
          UserError: If they are not what the model takes, or a file cannot be read.
        """
        del question
        require_inputs(texts, files)
        return [*texts, *(line for path in files for line in _read_lines(path))]

    def predict(self, inputs: Iterable) -> Iterator[dict]:
        """Yields a prediction for each input.

        Args:
          inputs: Such as `read` gives.

        Raises:
          UserError: If an input cannot be predicted from.
        """
        inputs = list(inputs)
        for start in range(0, len(inputs), self.options.batch_size):
            yield from self.predict_batch(inputs[start : start + self.options.batch_size])

    def files_spec(self, files: Sequence[str]) -> datasets.DataSpec:
        """Files of records whose columns are named as those of `data`."""
        here = {"silos": (), "validation_files": (), "test_files": ()}
        return dataclasses.replace(self.data, dataset="file", files=tuple(files), **here)

    @abc.abstractmethod
    def predict_batch(self, inputs: Sequence) -> Iterable[dict]:
        """Predictions for a batch of inputs."""

    def score(self, records: pd.DataFrame) -> pd.DataFrame:
        """Scores of the texts that the model writes for records.

        Args:
          records: With the task's `scored_columns`.

        Returns:
          A row a record, in their order, with a column for each of the task's `score_metrics`.
        """
        raise NotImplementedError(type(self).__name__)

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


def require_inputs(texts: Sequence[str], files: Sequence[str]) -> None:
    """Rejects having nothing to predict from."""
    if not texts and not files:
        raise UserError(f"there is nothing to predict: set {setting('predict.text')} or {setting('predict.input')}.")


def _read_lines(path: str) -> list[str]:
    """The lines of a file that are not blank."""
    try:
        with open(path, encoding="utf-8") as file:
            return [line.rstrip("\n") for line in file if line.strip()]
    except OSError as error:
        raise UserError(
            f"{setting('predict.input')}={path} cannot be read ({error.strerror}): check the path."
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{setting('predict.input')}={path} is not UTF-8 (byte {error.start}): convert it to UTF-8."
        ) from None
