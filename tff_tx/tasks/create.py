"""A task from what to load: data, tokenizer, encoding, model."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any, Callable

from tff_tx import datasets, models
from tff_tx.core.errors import UserError
from tff_tx.tasks.federated_task import FederatedTask, build_objective, check_config
from tff_tx.tasks.preprocessing import KINDS, LocalTraining, Preprocessing

_TOKENIZED = (
    *("sequence_classification", "token_classification", "masked_lm", "causal_lm"),
    *("sequence_to_sequence", "question_answering"),
)
_LABELLED = (
    *("sequence_classification", "token_classification", "image_classification"),
    *("next_item", "tabular_classification"),
)
_BYTES_MASK = "<mask>"
"""The byte tokenizer has no mask token of its own: ByT5 needs none."""


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """Which model.

    Attributes:
      pretrained: Directory or hub id of a checkpoint, or None for random weights.
      architecture: Hugging Face model type where there is no checkpoint, such as "bert".
      config: Fields of the configuration to set.
      tokenizer: Directory, hub id or "bytes"; None for the checkpoint's own.
      max_length: Tokens an example at most.
      max_target_length: Tokens of the target of a text at most.
      context_overlap: Tokens that two windows of a long context share, see `tff_tx.datasets.ContextWindows`.
      max_answer_length: Tokens of an answer at most.
      standardize: Whether the numbers of tables are standardized, with the means and deviations of all training
        clients, see `tff_tx.datasets.federated_mean_and_deviation`.
      context_length: Steps of a series that a forecast is made from.
      horizons: How far ahead forecasts are evaluated, in steps; the largest is how far they go.
      trainable: Which weights are trained, see `tff_tx.models.functional_model`.
      lora: With trainable "lora", how the model is adapted.
      gradient_checkpointing: Whether training computes Transformer blocks again instead of keeping what is in them.
      frozen_dtype: In which weights that are not trained are held, "float32" or "bfloat16".
      frozen_dropout: Whether dropout also drops what no trained weight has touched.
    """

    pretrained: str | None = None
    architecture: str | None = None
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tokenizer: str | None = None
    max_length: int = 128
    max_target_length: int = 32
    context_overlap: int = 16
    max_answer_length: int = 30
    standardize: bool = True
    context_length: int = 12
    horizons: tuple[int, ...] = (3, 6, 12)
    trainable: str = "all"
    lora: models.Lora | None = None
    gradient_checkpointing: bool = False
    frozen_dtype: str = "float32"
    frozen_dropout: bool = True


def create_task(
    kind: str,
    data: datasets.DataSpec,
    model: ModelSpec,
    local: LocalTraining,
    *,
    eval_batch_size: int = 32,
    seed: int = 0,
    progress: bool = True,
    on_silos: Callable[..., Mapping[str, Any]] | None = None,
) -> FederatedTask:
    """Loads data and model and joins them.

    Args:
      kind: One of `KINDS`.
      data: Which data, and how they are divided.
      model: Which model.
      local: How much a client computes a round.
      eval_batch_size: Examples a batch in evaluation.
      seed: Of random initial weights.
      progress: Whether to show a bar while data are encoded.
      on_silos: If the training data are in silos: from a function of a silo's name and further arguments, and these, to
        what it returned where each silo's data are, by the silo's name; such as `RayCluster.on_silos`.

    Raises:
      UserError: If something cannot be loaded, or data and model do not fit.
    """
    if kind not in KINDS:
        raise UserError(f"--task={kind} is none of {', '.join(KINDS)}.")
    if data.silos and on_silos is None:
        raise UserError(f"the training data are with the silos {', '.join(data.silos)}, and read on a cluster only.")
    if data.silos and kind == "tabular_classification":
        raise UserError(
            f"--task={kind} takes statistics of all training data together, which the silos {', '.join(data.silos)} do "
            "not give out: choose another task, or files that this machine sees."
        )
    tokenizer = _load_tokenizer(kind, model) if kind in _TOKENIZED else None
    survey = None if data.silos else datasets.survey(data)
    label_names = _label_names(kind, data, survey, on_silos) if kind in _LABELLED else ()
    shape = _image_shape(data, survey, on_silos) if kind == "image_classification" else None
    encoder = _build_encoder(kind, data, survey, tokenizer, label_names, shape, model)
    if data.silos:
        dataset = datasets.join_silos(on_silos(datasets.load_silo, data, encoder), data, encoder, progress)
    else:
        dataset = datasets.load(data, encoder, progress, survey)
    ranks = model.lora.ranks if model.lora is not None else ()
    keras_model = _build_model(kind, survey, model, tokenizer, label_names, dataset, seed)
    preprocessing = Preprocessing(
        kind, dataset.train.element_type_structure, tokenizer, ranks, len(label_names), keras_model.config
    )
    functional = models.functional_model(
        keras_model,
        build_objective(kind, label_names, model.horizons, model.max_answer_length),
        preprocessing.x_spec,
        trainable=model.trainable,
        lora=model.lora,
        gradient_checkpointing=model.gradient_checkpointing,
        frozen_dtype=model.frozen_dtype,
        frozen_dropout=model.frozen_dropout,
    )
    return FederatedTask(
        kind=kind,
        train=dataset.train,
        validation=dataset.validation,
        test=dataset.test,
        model=functional,
        preprocessing=preprocessing,
        local=local,
        label_names=label_names,
        tokenizer=tokenizer,
        eval_batch_size=eval_batch_size,
    )


def _load_tokenizer(kind, model):
    name = model.tokenizer or model.pretrained
    if name is None:
        raise UserError(
            f"--task={kind} needs a tokenizer, and without --pretrained there is none: set --tokenizer to a model "
            "directory, a hub id or bytes."
        )
    tokenizer = models.load_tokenizer(name)
    if kind == "masked_lm" and name == "bytes":
        tokenizer.add_special_tokens({"mask_token": _BYTES_MASK})
    if kind == "masked_lm" and tokenizer.mask_token_id is None:
        raise UserError(
            f"--tokenizer={name} has no mask token, which masked_lm needs: choose one that has, or train causal_lm."
        )
    return tokenizer


def _label_names(kind, data, survey, on_silos):
    if data.label_names:
        return tuple(data.label_names)
    if survey is not None:
        return survey.label_names
    found = on_silos(datasets.in_silo, datasets.label_names, data).values()
    return datasets.ordered_label_names(set().union(*found), tagged=kind == "token_classification")


def _image_shape(data, survey, on_silos):
    if survey is not None:
        return survey.image_shape
    shapes = on_silos(datasets.in_silo, datasets.image_shape, data)
    if len(set(shapes.values())) > 1:
        raise UserError(f"the silos' images have different shapes, {shapes}: make them alike.")
    return next(iter(shapes.values()))


def _build_encoder(kind, data, survey, tokenizer, label_names, image_shape, model):
    max_length = model.max_length
    if kind == "forecasting":
        _check_windows(data, model)
        return datasets.ForecastingEncoder(model.context_length, max(model.horizons))
    if kind == "tabular_classification":
        return datasets.TabularClassificationEncoder(label_names, _features(survey, model))
    if kind == "next_item":
        if len(label_names) < 2:
            raise UserError(
                f"--label_column={data.label_column} has {len(label_names)} item: to recommend one needs others."
            )
        return datasets.NextItemEncoder(label_names, max_length)
    if kind == "sequence_classification":
        return datasets.SequenceClassificationEncoder(tokenizer, label_names, max_length)
    if kind == "token_classification":
        return datasets.TokenClassificationEncoder(tokenizer, label_names, max_length)
    if kind == "sequence_to_sequence":
        return datasets.SequenceToSequenceEncoder(tokenizer, max_length, model.max_target_length)
    if kind == "question_answering":
        return datasets.QuestionAnsweringEncoder(tokenizer, max_length, model.context_overlap)
    if kind == "masked_lm":
        return datasets.LanguageModelingEncoder(tokenizer, max_length, masked=True)
    if kind == "causal_lm":  # inputs and labels are the block without its last and its first token
        return datasets.LanguageModelingEncoder(tokenizer, max_length + 1)
    return datasets.ImageClassificationEncoder(label_names, image_shape)


def _check_windows(data, model):
    if not data.numeric_columns:
        raise UserError(
            "--task=forecasting needs --numeric_columns, the columns of the series that are to be forecast: name them."
        )
    if model.context_length < 1:
        raise UserError(f"--context_length={model.context_length} is less than 1: give the steps to look at.")
    if not model.horizons or min(model.horizons) < 1:
        raise UserError(
            f"--horizons={','.join(map(str, model.horizons))}: a forecast is 1 step ahead or more; give for instance "
            "3,6,12."
        )


def _features(survey, spec):
    """The columns of a table; a model that is trained already knows its values."""
    found = survey.features
    if spec.pretrained is None:
        return found
    config = models.read_config("tabular_classification", spec.pretrained)
    trained_on = tuple(config.numeric_features), tuple(config.categorical_features)
    if (found.numeric, found.categorical) != trained_on:
        raise UserError(
            f"--numeric_columns={','.join(found.numeric)} and --categorical_columns={','.join(found.categorical)} are "
            f"not what the model in {spec.pretrained} was trained on: give {','.join(trained_on[0]) or 'none'} and "
            f"{','.join(trained_on[1]) or 'none'}, in that order."
        )
    return datasets.Features(*trained_on, tuple(map(tuple, config.categories)))


def _build_model(kind, survey, spec, tokenizer, label_names, dataset, seed):
    if (spec.pretrained is None) == (spec.architecture is None):
        raise UserError(
            f"--pretrained={spec.pretrained} and --architecture={spec.architecture}: set exactly one, the checkpoint "
            "to start from or the type of a model with random weights."
        )
    config = dict(spec.config)
    if label_names:
        config["id2label"] = dict(enumerate(label_names))
        config["label2id"] = {name: i for i, name in enumerate(label_names)}
    if kind == "question_answering":
        config["num_labels"] = 2  # the logits of starts and of ends, whatever a checkpoint was a classifier of
    if spec.pretrained is not None:
        if kind == "sequence_classification" and models.read_config(kind, spec.pretrained).pad_token_id is None:
            # GPT-2 and others look for a text's last token, which is before the padding if they know that.
            config.setdefault("pad_token_id", tokenizer.pad_token_id)
        model = models.from_pretrained(kind, spec.pretrained, config, seed)
    else:
        defaults = _data_config(kind, survey, tokenizer, dataset, spec)
        model = models.from_config(kind, spec.architecture, {**defaults, **config}, seed)
    check_config(model.config, kind, dataset.train.element_type_structure, label_names, tokenizer)
    if tokenizer is not None or kind == "next_item":
        limit = models.max_positions(model.config)
        for name in ("max_length", *(("max_target_length",) if kind == "sequence_to_sequence" else ())):
            if limit is not None and getattr(spec, name) > limit:
                raise UserError(
                    f"--{name}={getattr(spec, name)} is more than the {limit} positions of the model: lower it"
                    + ("." if spec.pretrained else ", or set the positions in --model_config.")
                )
    return model


def _data_config(kind, survey, tokenizer, dataset, spec):
    """The fields of a new model's configuration that the data decide."""
    if kind == "tabular_classification":
        columns = survey.features
        fields = collections.OrderedDict(
            numeric_features=columns.numeric,
            categorical_features=columns.categorical,
            categories=columns.categories,
        )
        if columns.numeric and spec.standardize:
            mean, deviation = datasets.federated_mean_and_deviation(dataset.train)
            fields.update(means=mean.tolist(), deviations=deviation.tolist())
        return fields
    if kind == "next_item":
        return collections.OrderedDict(max_position_embeddings=spec.max_length)
    if kind == "forecasting":
        past, future = (dataset.train.element_type_structure[n].shape[0] for n in ("past_values", "future_values"))
        return collections.OrderedDict(context_length=past, prediction_length=future)
    if kind == "image_classification":
        channels, height, width = dataset.train.element_type_structure["pixel_values"].shape
        size = height if height == width else (height, width)
        return collections.OrderedDict(num_channels=channels, image_size=size)
    fields = collections.OrderedDict(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    for name in ("bos_token_id", "eos_token_id"):
        fields[name] = getattr(tokenizer, name)
    if kind == "sequence_to_sequence":
        fields["decoder_start_token_id"], fields["eos_token_id"] = datasets.start_and_end(tokenizer)
    return fields
