"""Which model a task trains."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tff_tx import models


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """Which model.

    Attributes:
      pretrained: Directory, hub id or "ID@REVISION" of a checkpoint, or None for random weights.
      architecture: Hugging Face model type where there is no checkpoint, such as "bert".
      config: Fields of the configuration to set.
      tokenizer: Directory, hub id or "bytes"; None for the checkpoint's own.
      max_length: Tokens an example at most.
      packing: Whether several short texts are one example, as far as they fit.
      max_target_length: Tokens of the target of a text at most.
      context_overlap: Tokens that two windows of a long context share, see `tff_tx.datasets.ContextWindows`.
      max_answer_length: Tokens of an answer at most.
      standardize: Whether the numbers of tables are standardized, with the means and deviations of all training
        clients, see `tff_tx.datasets.federated_mean_and_deviation`.
      balance_classes: Whether classes count alike in the loss, however many training examples they have.
      class_weights: Weights in the loss by the class's name, 1 where there is none.
      focal_gamma: Of the focal loss, see `tff_tx.models.rebalanced`.
      context_length: Steps of a series that a forecast is made from.
      series_protocol: How forecasts are evaluated: "within" or "standardized".
      horizons: How far ahead forecasts are evaluated, in steps; the largest is how far they go.
      max_seconds: The longest recording, s.
      sampling_rate: Samples a second that recordings are brought to for a new model, Hz; checkpoints have their own.
      trainable: Which weights are trained, see `tff_tx.models.functional_model`.
      personal: Which of them are personal, see `tff_tx.models.functional_model`; None: none.
      lora: With trainable "lora", how the model is adapted.
      gradient_checkpointing: Whether training computes Transformer blocks again instead of keeping what is in them.
      dropout: Rate of all dropout layers; None: their own.
      frozen_dtype: In which weights that are not trained are held, "float32" or "bfloat16".
      frozen_dropout: Whether dropout also drops what no trained weight has touched.
    """

    pretrained: str | None = None
    architecture: str | None = None
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tokenizer: str | None = None
    max_length: int = 128
    max_target_length: int = 32
    packing: bool = False
    context_overlap: int = 16
    max_answer_length: int = 30
    standardize: bool = True
    balance_classes: bool = False
    class_weights: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    focal_gamma: float = 0.0
    context_length: int = 12
    horizons: tuple[int, ...] = (3, 6, 12)
    series_protocol: str = "within"
    max_seconds: float = 30.0
    sampling_rate: int = 16_000
    trainable: str = "all"
    personal: str | None = None
    lora: models.Lora | None = None
    gradient_checkpointing: bool = False
    dropout: float | None = None
    frozen_dtype: str = "float32"
    frozen_dropout: bool = True
