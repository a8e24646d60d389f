"""What is learned, with which model, and which of its weights."""

from __future__ import annotations

import dataclasses
from typing import Any

from tff_tx.config.option import Section, option
from tff_tx.config.registries import TASKS

DTYPES = ("float32", "bfloat16")
LORA_AGGREGATIONS = ("average", "residual", "stack", "svd")


@dataclasses.dataclass(frozen=True)
class TaskConfig(Section, name="task"):
    """Task."""

    kind: str | None = option(None, "Task; default: the usual one of an embedded data set.", flag="task", choices=TASKS)
    max_length: int = option(64, "Maximum number of tokens or items of an example.", least=2)
    max_target_length: int = option(32, "Maximum number of tokens of a generated text.", least=2)
    context_overlap: int = option(16, "Tokens shared by two windows of a context that is too long for one.", least=0)
    max_answer_length: int = option(30, "Maximum number of tokens of an answer.", least=1)
    standardize: bool = option(
        True, "Standardizes the numeric columns of tables by mean and deviation over all training clients."
    )
    context_length: int = option(12, "Steps of a series that a forecast is made from.", least=1)
    horizons: tuple[int, ...] = option(
        (3, 6, 12),
        "Horizons at which forecasts are evaluated, in steps; the largest is the forecast's length.",
        least=1,
    )


@dataclasses.dataclass(frozen=True)
class ModelConfig(Section, name="model"):
    """Model."""

    pretrained: str | None = option(None, "Model directory or hub id to start from.")
    architecture: str | None = option(None, "Hugging Face model type, such as bert, for a model with random weights.")
    config: dict[str, Any] = option(
        {}, 'Fields of the model\'s configuration, as JSON: {"hidden_size": 128}.', flag="model_config"
    )
    tokenizer: str | None = option(
        None, "Model directory, hub id or bytes; default: the tokenizer of {model.pretrained}."
    )
    trainable: str = option(
        "all",
        "Trained weights: all; head; bias (with the head); layers:RE, those whose name matches the regular expression "
        "RE; or lora: low-rank adapters (with a classifier's head). Frozen weights are sent once.",
    )
    frozen_dtype: str = option(
        "float32",
        "dtype in which frozen weights are stored and sent; they are cast where they are used, and the model is saved "
        "in float32.",
        choices=DTYPES,
    )
    gradient_checkpointing: bool = option(
        False, "Recomputes Transformer blocks in the backward pass: less memory, a third more time, the same numbers."
    )
    cache_features: bool = option(
        False,
        "Computes the activations below the lowest trained weight once per client, without dropout there, and stores "
        "them in features/ of the run.",
    )
    feature_cache_bytes: int = option(
        4_000_000_000,
        "Maximum size of the activation cache; least recently used clients are evicted first.",
        least=1,
        may_change=True,
    )


@dataclasses.dataclass(frozen=True)
class LoraConfig(Section, name="lora", prefix="lora_"):
    """Low-rank adapters."""

    rank: tuple[int, ...] = option(
        (8,), "Rank of the adapters; with several, as in 2,4,8, each client has one of them.", least=1
    )
    alpha: float = option(16.0, "The product A B is scaled by alpha over the largest rank.")
    targets: str | None = option(
        None, "Regular expression searched in the names of adapted weights; default: queries and values."
    )
    dropout: float = option(0.0, "Dropout rate of the adapters' inputs.", least=0.0, below=1.0)
    freeze_a: bool = option(False, "FFA-LoRA: A keeps its random values and is sent once; half the traffic.")
    aggregation: str = option(
        "average",
        "Aggregation of the clients' A and B: averages of the factors (FedIT; HetLoRA with several ranks); averages "
        "and the residual to the average product (FedEx-LoRA); the average product, added to the weight, and new A "
        "and B (FLoRA's stack); or its best approximation of the rank (FlexLoRA's svd).",
        choices=LORA_AGGREGATIONS,
    )
