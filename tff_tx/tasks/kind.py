"""A task as one object, which has everything that differs between tasks."""

from __future__ import annotations

import abc
import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tff_tx import datasets, models
from tff_tx.config.registries import TASKS
from tff_tx.core.errors import UserError, setting
from tff_tx.tasks.model_spec import ModelSpec
from tff_tx.tasks.recipe import Recipe, TextRecipe


@dataclasses.dataclass(frozen=True)
class Facts:
    """Data and model of a task, with what was found out about the training data.

    Attributes:
      data: Which data.
      model: Which model.
      tokenizer: Of a task that needs one, else None.
      processor: Of pictures or recordings, see `TaskKind.load_processor`, else None.
      label_names: Of a task that needs them, in order, else empty.
      image_shape: (channels, height, width) of what the model is given, of a task that needs it, else None.
      features: The columns of the table, of a task that needs them, else None.
      new_outputs: Whether the checkpoint is a classifier of other labels.
      note: What is to be said of the labels; empty: nothing.
    """

    data: datasets.DataSpec
    model: ModelSpec
    tokenizer: Any = None
    processor: Any = None
    label_names: tuple[str, ...] = ()
    image_shape: tuple[int, int, int] | None = None
    features: datasets.Features | None = None
    new_outputs: bool = False
    note: str = ""


class TaskKind(abc.ABC):
    """A task. Subclasses say what is particular to it; nothing outside of them goes by a task's name.

    Attributes:
      name: In settings, such as "causal_lm".
      title: For people.
      example: What an example is, for statements on privacy: a record of the data may be in several.
      auto_class: The automatic class of its models, see `tff_tx.models.from_config`.
      predictor: "module:attribute" of its `tff_tx.inference.Predictor`; None: models of the task do not predict.
      needs_tokenizer: Whether examples are made with a tokenizer.
      needs_label_names: Whether the names of labels are decided by the training data.
      needs_image_shape: Whether the size of images is.
      needs_features: Whether the columns of a table are.
      tagged: Whether labels are tags of words.
      limited_lengths: Fields of `ModelSpec` that must not exceed the model's positions.
      score_metrics: Of texts that a model writes, the columns of its predictor's `score`; empty: it writes none.
      scored_columns: Columns of the records that these are scored against.
      capabilities: Names out of those below.
      trigger_feature: With "one_class", the input that a backdoor's trigger is put on: "input_ids" or "pixel_values".
      architecture: The one to suggest for a task whose models are trained without a checkpoint as a rule.

    Capabilities, by which settings and programs suit a task or not:
      activation_cache: Inputs are the same in every epoch, so that activations of them can be cached.
      class_probabilities: Predictions are logits of classes, by which membership is inferred.
      classes: Labels are places in the label names, which an attacker can flip.
      in_time: Records are read in the order of time.
      one_class: An example has one class, which a backdoor can open to.
      packs: Several texts can be one example.
      silos: No exact statistics are made of all training data together, which silos do not give out and no noise hides.
      text_pairs: An example may be several texts.
      texts: Any sequence of tokens is an example, so that canaries are.
      thresholds: Validation data decide from which probability on a label applies.
    """

    name: str
    title: str
    auto_class: str
    example: str = "one record of the data"
    predictor: str | None = None
    needs_tokenizer: bool = False
    needs_label_names: bool = False
    needs_image_shape: bool = False
    needs_features: bool = False
    tagged: bool = False
    limited_lengths: tuple[str, ...] = ()
    score_metrics: tuple[models.Metric, ...] = ()
    scored_columns: tuple[str, ...] = ()
    capabilities: frozenset[str] = frozenset({"activation_cache", "silos"})
    trigger_feature: str | None = None
    architecture: str | None = None

    @abc.abstractmethod
    def encoder(self, facts: Facts) -> datasets.Encoder:
        """From records to stored examples.

        Raises:
          UserError: If data and model allow none.
        """

    @abc.abstractmethod
    def recipe(self, tokenizer: Any, num_labels: int, config: Any) -> Recipe:
        """From stored examples to batches.

        Args:
          tokenizer: A Hugging Face tokenizer or None.
          num_labels: How many label names there are.
          config: The model's configuration.
        """

    @abc.abstractmethod
    def objective(self, label_names: Sequence[str], model: ModelSpec) -> models.Objective:
        """The loss and the metrics.

        Args:
          label_names: The classes in order.
          model: Has the horizons of forecasts and the longest answer.
        """

    def load_tokenizer(self, model: ModelSpec, of_words: bool = False) -> Any:
        """The tokenizer of the model; `of_words` is as of `tff_tx.models.load_tokenizer`.

        Raises:
          UserError: If there is none that suits the task.
        """
        name = model.tokenizer or model.pretrained
        if name is None:
            raise UserError(
                f"{setting('task.kind')}={self.name} needs a tokenizer, and without {setting('model.pretrained')} "
                f"there is none: set {setting('model.tokenizer')} to a "
                "model directory, a hub id or bytes."
            )
        return models.load_tokenizer(name, of_words)

    def load_processor(self, model: ModelSpec) -> Any:
        """What makes the model's inputs of pictures (`tff_tx.models.ImageProcessor`, None: as they are) or recordings.

        Raises:
          UserError: If it cannot be loaded.
        """
        if model.pretrained is None or not self.needs_image_shape:
            return None
        return models.load_processor(self.auto_class, model.pretrained, model.config)

    def new_config(self, facts: Facts, train: Any) -> Mapping[str, Any]:
        """Fields of a new model's configuration that the data decide, where `ModelSpec.config` does not.

        Args:
          facts: Data and model.
          train: The ClientData of training.
        """
        del facts, train
        return {}

    def config_changes(self, facts: Facts) -> Mapping[str, Any]:
        """Fields of the configuration that the task decides, of a new model and of a checkpoint."""
        del facts
        return {}

    def check_config(self, config: Any, element_spec: Mapping[str, Any]) -> None:
        """Checks that a model takes examples of that spec; number of classes and vocabulary have been checked.

        Raises:
          UserError: If not; the message says in what they differ.
        """
        del config, element_spec


SEVERAL = "what is in k of them has k times this epsilon, at a larger delta"
"""Of examples that share records, in `TaskKind.example`."""


class TextTask(TaskKind):
    """A task on token ids.

    Attributes:
      recipe_class: Makes the recipe from the tokenizer, where `recipe` is not overridden.
    """

    needs_tokenizer = True
    limited_lengths = ("max_length",)
    recipe_class: type[TextRecipe]

    def recipe(self, tokenizer, num_labels, config):
        return self.recipe_class(tokenizer)

    def new_config(self, facts, train):
        fields = collections.OrderedDict(vocab_size=len(facts.tokenizer))
        for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
            fields[name] = getattr(facts.tokenizer, name)
        return fields

    def check_config(self, config, element_spec):
        """Checks that predictions for a text do not depend on the padding behind it."""
        if reason := models.padding_fault(self.auto_class, config.model_type):
            raise UserError(
                f"{config.model_type}: its predictions for a text depend on the other texts of a batch, as {reason}; "
                f"choose another {setting('model.pretrained')} or {setting('model.architecture')}."
            )


def task_kind(name: str) -> TaskKind:
    """The task of that name.

    Raises:
      UserError: If there is none.
    """
    if name not in TASKS:
        raise UserError(f"{setting('task.kind')}={name}: must be one of {', '.join(TASKS)}.")
    return TASKS[name]
