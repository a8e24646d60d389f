"""A task from what to load: data, tokenizer, encoding, model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

import numpy as np

from tff_tx import datasets, models
from tff_tx.config.algorithm import ClientConfig
from tff_tx.core.errors import UserError, setting
from tff_tx.tasks import labels
from tff_tx.tasks.federated_task import FederatedTask, check_config
from tff_tx.tasks.kind import Facts, TaskKind, task_kind
from tff_tx.tasks.model_spec import ModelSpec
from tff_tx.tasks.preprocessing import Preprocessing


def create_task(
    kind: str,
    data: datasets.DataSpec,
    model: ModelSpec,
    local: ClientConfig,
    *,
    eval_batch_size: int = 32,
    seed: int = 0,
    progress: bool = True,
    on_silos: Callable[..., Mapping[str, Any]] | None = None,
) -> FederatedTask:
    """Loads data and model and joins them.

    Args:
      kind: A name in `tff_tx.config.registries.TASKS`.
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
    definition = task_kind(kind)
    _check_silos(definition, data, on_silos)
    survey = None if data.silos else datasets.survey(data)
    facts = find_facts(definition, data, model, survey, on_silos)
    encoder = definition.encoder(facts)
    if data.silos:
        dataset = datasets.join_silos(on_silos(datasets.load_silo, data, encoder), data, encoder, progress)
    else:
        dataset = datasets.load(data, encoder, progress, survey)
    keras_model = _build_model(definition, facts, dataset.train, seed)
    if model.dropout is not None:
        models.set_dropout(keras_model, model.dropout)
    preprocessing = _preprocessing(facts, kind, dataset.train, keras_model)
    return FederatedTask(
        kind=kind,
        train=dataset.train,
        validation=dataset.validation,
        test=dataset.test,
        model=_functional(definition, facts, dataset.train, keras_model, preprocessing),
        preprocessing=preprocessing,
        local=local,
        label_names=facts.label_names,
        tokenizer=facts.tokenizer,
        processor=facts.processor or (models.plain_processor(facts.image_shape) if facts.image_shape else None),
        eval_batch_size=eval_batch_size,
        notes=(
            *(survey.notes if survey else ()),
            *dataset.notes,
            *filter(None, [facts.note]),
            *_weight_notes(keras_model, model.pretrained),
        ),
    )


def _preprocessing(facts, kind, train, keras_model):
    ranks = facts.model.lora.ranks if facts.model.lora is not None else ()
    spec = train.element_type_structure
    return Preprocessing(kind, spec, facts.tokenizer, ranks, len(facts.label_names), keras_model.config)


def _functional(definition, facts, train, keras_model, preprocessing):
    spec = facts.model
    objective = _rebalanced(definition.objective(facts.label_names, spec), facts.label_names, spec, train)
    with models.fitting(keras_model):
        return models.functional_model(
            keras_model,
            objective,
            preprocessing.x_spec,
            trainable=spec.trainable,
            personal=spec.personal,
            lora=spec.lora,
            gradient_checkpointing=spec.gradient_checkpointing,
            frozen_dtype=spec.frozen_dtype,
            frozen_dropout=spec.frozen_dropout,
        )


def _rebalanced(objective, label_names, model, train):
    weights = None
    if model.balance_classes:
        counts = datasets.federated_class_counts(train, len(label_names))
        weights = counts.sum() / (np.maximum(counts, 1) * max(1, np.count_nonzero(counts)))
    if model.class_weights:
        if unknown := set(model.class_weights) - set(label_names):
            raise UserError(
                f"{setting('task.class_weights')} has {min(unknown)!r}, and the labels are "
                f"{', '.join(label_names[:20])}: name one of them."
            )
        weights = [model.class_weights.get(name, 1.0) for name in label_names]
    if weights is None and not model.focal_gamma:
        return objective
    return models.rebalanced(objective, weights, model.focal_gamma)


def _weight_notes(keras_model, pretrained):
    """Lines on weights that are not those of the checkpoint."""
    if pretrained is None:
        return
    resized, fresh = keras_model.resized_weights, [variable.name for variable in models.fresh(keras_model)]
    for names, what in (
        (resized, f"weights of another size than in {pretrained}, of which what fits is kept"),
        (fresh, f"new weights, which {pretrained} lacks or has in another shape"),
    ):
        if names:
            yield f"{what}: " + ", ".join(name.partition("/")[2].removesuffix(":0") for name in names)


def _check_silos(definition, data, on_silos):
    if data.silos and on_silos is None:
        raise UserError(f"the training data are with the silos {', '.join(data.silos)}, and read on a cluster only.")
    if data.silos and "silos" not in definition.capabilities:
        raise UserError(
            f"{setting('task.kind')}={definition.name} takes statistics of all training data together, which the silos "
            f"{', '.join(data.silos)} do not give out: choose another task, or files that this machine sees."
        )


def find_facts(definition: TaskKind, data, model: ModelSpec, survey=None, on_silos=None) -> Facts:
    """What the task needs to know of the training data; arguments as of `create_task`, `survey` without silos."""
    tokenizer = definition.load_tokenizer(model) if definition.needs_tokenizer else None
    processor = definition.load_processor(model)
    names = _label_names(definition, data, survey, on_silos) if definition.needs_label_names else ()
    shape = processor.shape if definition.needs_image_shape and processor is not None else None
    if definition.needs_image_shape and processor is None:
        shape = _configured_shape(_image_shape(data, survey, on_silos), model)
    features = survey.features if definition.needs_features else None
    found, outputs = labels.Labels(names), ()
    if names and model.pretrained is not None:
        outputs = models.output_names(definition.auto_class, model.pretrained)
        found = labels.as_trained(names, outputs, bool(data.known_labels), model.pretrained)
    classes = "classes" in definition.capabilities and not outputs
    if classes and survey is not None and not data.known_labels and not definition.tagged:
        found = labels.as_found(names, survey.pools["train"].num_rows)
    return Facts(data, model, tokenizer, processor, found.names, shape, features, found.are_new, found.note)


def _label_names(definition, data, survey, on_silos):
    if data.known_labels:
        return data.known_labels
    if survey is not None:
        return survey.label_names
    found = on_silos(datasets.in_silo, datasets.label_names, data).values()
    return datasets.distinct_label_names(set().union(*found), definition.tagged, data.label_column)


def _image_shape(data, survey, on_silos):
    if survey is not None:
        return survey.image_shape
    shapes = on_silos(datasets.in_silo, datasets.image_shape, data)
    if len(set(shapes.values())) > 1:
        raise UserError(f"the silos' images have different shapes, {shapes}: make them alike.")
    return next(iter(shapes.values()))


def _configured_shape(found, model):
    """What a new model is given: images as they are found, but for what its configuration says."""
    if model.pretrained is not None:
        return found
    size = model.config.get("image_size", found[1:])
    return (model.config.get("num_channels", found[0]), *((size, size) if isinstance(size, int) else size))


def config_fields(definition: TaskKind, facts: Facts) -> dict[str, Any]:
    """Fields of the model's configuration that the specification, the task or the labels decide."""
    config = dict(facts.model.config)
    if facts.label_names:
        config["id2label"] = dict(enumerate(facts.label_names))
        config["label2id"] = {name: i for i, name in enumerate(facts.label_names)}
    config.update(definition.config_changes(facts))
    return config


def _build_model(definition: TaskKind, facts: Facts, train: Any, seed: int) -> Any:
    spec = facts.model
    if (spec.pretrained is None) == (spec.architecture is None):
        raise UserError(
            f"{setting('model.pretrained')}={spec.pretrained} and "
            f"{setting('model.architecture')}={spec.architecture}: set exactly one, the checkpoint to start from or "
            "the type of a model with random weights."
        )
    config = config_fields(definition, facts)
    if spec.pretrained is not None:
        model = models.from_pretrained(definition.auto_class, spec.pretrained, config, seed, facts.new_outputs)
    else:
        of_data = definition.new_config(facts, train)
        model = models.from_config(definition.auto_class, spec.architecture, config, seed, of_data)
    check_config(model.config, definition, train.element_type_structure, facts.label_names, facts.tokenizer)
    limit = models.max_positions(model.config)
    for name in definition.limited_lengths if limit is not None else ():
        if getattr(spec, name) > limit:
            raise UserError(
                f"{setting(f'task.{name}')}={getattr(spec, name)} is more than the {limit} positions of the model: "
                "lower it" + ("." if spec.pretrained else f", or set the positions in {setting('model.config')}.")
            )
    return model
