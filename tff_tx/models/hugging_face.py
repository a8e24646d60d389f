"""Hugging Face models: made from a configuration or a checkpoint, and saved as one."""

from __future__ import annotations

import contextlib
import inspect
import os
import pkgutil
import re
import sys
from collections.abc import Mapping
from typing import Any

import transformers
from safetensors import SafetensorError
from safetensors.numpy import save_file

from tff_tx.core.errors import UserError, setting
from tff_tx.models import checkpoints, peft_start, resizing
from tff_tx.models.tracing import initial_weights
from tff_tx.models.tracing.adapted_layers import CONV1D, dense_layers
from tff_tx.models.tracing.hugging_face import (
    CONFIG_CLASSES,
    any_image_size,
    model_classes,
    pytorch_name,
    pytorch_weights,
)
from tff_tx.models.trainable import fresh, names_of, selected

_LOADABLE = (
    "give a directory with config.json and weights as safetensors or pytorch_model.bin, or a hub id that can be reached"
)


def from_config(
    auto_class: Any,
    architecture: str,
    config: Mapping[str, Any],
    seed: int = 0,
    defaults: Mapping[str, Any] | None = None,
) -> Any:
    """Builds a model with random weights.

    Args:
      auto_class: Carries the head: a class such as `transformers.TFAutoModelForCausalLM`, its name in transformers, or
        "module:attribute".
      architecture: A Hugging Face model type of that class, such as "bert" or "gpt2".
      config: Fields of the configuration that differ from the architecture's defaults.
      seed: Seed of the initial weights.
      defaults: Fields that are set too as far as the architecture has them.

    Returns:
      A built `transformers.TFPreTrainedModel`.

    Raises:
      UserError: If the automatic class has no such architecture in TensorFlow, or a field does not fit it.
    """
    auto = check_architecture(auto_class, architecture)
    config_class = CONFIG_CLASSES[architecture]
    _check_fields(auto, config_class(), config)
    known = _fields(auto, config_class())
    config = {**{name: value for name, value in (defaults or {}).items() if name in known}, **config}
    what = f"{setting('model.architecture')}={architecture} {setting('model.config')}={dict(config)}"
    remedy = f"choose fields that fit one another, see {config_class.__name__}"
    with initial_weights.seeded(seed), any_image_size(), loadable(what, remedy):
        model = auto.from_config(config_class(**config))
        model.build_in_name_scope()
    return model


def check_architecture(auto_class: Any, architecture: str | None) -> Any:
    """The automatic class, which must have a model of that type.

    Raises:
      UserError: If it has none in TensorFlow.
    """
    auto = _resolved(auto_class)
    if architecture not in _architectures(auto):
        raise UserError(
            f"{setting('model.architecture')}={architecture}: this {setting('task.kind')} has no TensorFlow model of "
            f"that type; choose one of {', '.join(_architectures(auto))}."
        )
    return auto


def from_pretrained(
    auto_class: Any, name: str, config: Mapping[str, Any] | None = None, seed: int = 0, new_outputs: bool = False
) -> Any:
    """Loads a model from a checkpoint.

    Weights the checkpoint lacks or has in another shape, as a rule the new head, are random; their
    names are in `fresh_weights` of the result. Those that have another size of `resizing.SIZES` are made of the
    checkpoint's, see `resizing.fit`, and named in `resized_weights`.

    Args:
      auto_class: As for `from_config`.
      name: Directory with `config.json` and weights (safetensors, tf_model.h5 or pytorch_model.bin), directory of an
        adapter of PEFT, which is merged into its base model, or a hub id of either, see `checkpoints.local`.
      config: Fields of the configuration to change, such as `num_labels` or dropout rates.
      seed: Seed of the weights that the checkpoint lacks.
      new_outputs: Whether the outputs of a classifier get other meanings, so that their weights are random too.

    Raises:
      UserError: If `name` is neither a model directory nor a hub id that can be reached, its
        automatic class has no such architecture in TensorFlow, or a field does not fit it.
    """
    described = [os.path.exists(os.path.join(name, file)) for file in ("config.json", "adapter_config.json")]
    if os.path.isdir(name) and not any(described):
        raise UserError(
            f"{setting('model.pretrained')}={name} is a directory without config.json, so not a model: give a "
            "directory written by save_pretrained, or a hub id."
        )
    what = f"{setting('model.pretrained')}={name}"
    auto = _resolved(auto_class)
    found = read_config(auto, name)
    _check_fields(auto, found, config or {})
    with initial_weights.seeded(seed), any_image_size(), loadable(what), _opened(auto, name) as path:
        model, info = auto.from_pretrained(
            path, output_loading_info=True, **dict(config or {}), ignore_mismatched_sizes=True
        )
        mismatched = (key if isinstance(key, str) else key[0] for key in info["mismatched_keys"])
        model.fresh_weights, model.resized_weights = (*info["missing_keys"], *mismatched), ()
        if resizing.changed(found, config or {}):
            others = {field: value for field, value in config.items() if field not in resizing.SIZES}
            fitted = resizing.fit(model, auto.from_pretrained(path, **others, ignore_mismatched_sizes=True))
            known = set().union(*(names_of(model, variable) for variable in fitted))
            model.fresh_weights = tuple(name for name in model.fresh_weights if name not in known)
            model.resized_weights = tuple(variable.name for variable in fitted)
    if new_outputs:
        _renew_outputs(auto, model, seed)
    return model


@contextlib.contextmanager
def _opened(auto, name):
    """A directory that transformers reads without PyTorch, with the adapter merged that `name` may be."""
    path = checkpoints.local(name)
    adapter = peft_start.adapter_config(path)
    if adapter is None:
        with checkpoints.opened(path) as directory:
            yield directory
        return
    base = from_pretrained(auto, adapter["base_model_name_or_path"])
    random = {pytorch_name(base, variable) for variable in fresh(base)}
    transposed = {pytorch_name(base, v) for v in base.weights if type(dense_layers(base).get(id(v))) is CONV1D}
    weights = {name: value for name, value in pytorch_weights(base).items() if name not in random}
    with checkpoints.written(peft_start.merged(weights, path, adapter, transposed), base.config) as directory:
        yield directory


def described_at(name: str) -> str:
    """The directory with a checkpoint's configuration, tokenizer and image processor: of an adapter its base model's.

    Raises:
      OSError, ValueError: As of `checkpoints.local`, or if it is an adapter of another kind than `peft_start` takes.
    """
    path = checkpoints.local(name)
    adapter = peft_start.adapter_config(path)
    return path if adapter is None else described_at(adapter["base_model_name_or_path"])


def _renew_outputs(auto: Any, model: Any, seed: int) -> None:
    """Draws the weights of the head that have a place for each class."""
    with initial_weights.seeded(seed):
        drawn = auto.from_config(model.config)
        drawn.build_in_name_scope()
    head = {id(v) for v in selected(model, "head")}
    for variable, other in zip(model.weights, drawn.weights):
        if id(variable) in head and model.config.num_labels in variable.shape:
            variable.assign(other)
            model.fresh_weights = (*model.fresh_weights, variable.name)


def output_names(auto_class: Any, name: str) -> tuple[str, ...]:
    """Names of the outputs of a checkpoint that is a classifier of the automatic class already; empty if it is none.

    Raises:
      UserError: As of `read_config`.
    """
    auto = _resolved(auto_class)
    config = read_config(auto, name)
    classes = model_classes(auto)[type(config)]
    classes = classes if isinstance(classes, tuple) else (classes,)
    if not {c.__name__.removeprefix("TF") for c in classes} & {
        c.removeprefix("TF") for c in config.architectures or ()
    }:
        return ()
    return tuple(config.id2label[number] for number in range(config.num_labels))


def read_config(auto_class: Any, name: str) -> Any:
    """The configuration of a model directory or hub id, which must be of a model of the automatic class.

    Raises:
      UserError: If there is none, or it is another model's.
    """
    auto = _resolved(auto_class)  # first, as importing it may register model types
    with loadable(f"{setting('model.pretrained')}={name}"):
        found = transformers.AutoConfig.from_pretrained(described_at(name))
    if found.model_type not in _architectures(auto):
        raise UserError(
            f"{setting('model.pretrained')}={name} is a {found.model_type} model, of which this "
            f"{setting('task.kind')} has none in TensorFlow; choose a model of one of the types "
            f"{', '.join(_architectures(auto))}."
        )
    return found


def save_pretrained(model: Any, directory: str, *preprocessors: Any) -> None:
    """Writes a directory that transformers opens, with PyTorch and with TensorFlow, tokenizer or processor included.

    Weights have PyTorch's names and layout, as transformers itself translates them when it reads such a checkpoint.
    What TensorFlow's `save_pretrained` writes, PyTorch's from transformers 5 on takes for a checkpoint without a single
    weight of its model, and goes on with random ones. A model without a counterpart in PyTorch stays TensorFlow's.

    Raises:
      OSError: If the directory cannot be written.
    """
    if longest := getattr(model.config, "max_target_positions", None):
        model.generation_config.max_length = longest  # pipelines would generate more than there are positions for
    try:
        model.save_pretrained(directory, safe_serialization=True)
        weights = pytorch_weights(model)
        if weights is not None:
            save_file(weights, os.path.join(directory, transformers.utils.SAFE_WEIGHTS_NAME), metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(str(error)) from error
    for preprocessor in preprocessors:
        if preprocessor is not None:
            preprocessor.save_pretrained(directory)


@contextlib.contextmanager
def loadable(what: str, remedy: str = _LOADABLE):
    """Turns what transformers raises for a wrong name, file or field into one sentence."""
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError, LookupError, TypeError, ImportError, NotImplementedError, SafetensorError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = lines[0].strip().rstrip(".")
        raise UserError(f"{what} cannot be loaded ({reason}): {remedy}.") from error


@contextlib.contextmanager
def fitting(model: Any):
    """Turns TensorFlow's error for shapes of the data that do not fit a model's configuration into one sentence."""
    try:
        yield
    except ValueError as error:
        found = re.search(r"^(.*) for '{{node (\S+)}}", str(error), re.MULTILINE)
        if found is None:
            raise
        raise UserError(
            f"{setting('model.config')}: {model.config.model_type} does not fit the data ({found[1]} in {found[2]}): "
            f"choose fields of {type(model.config).__name__} that do."
        ) from error


def _resolved(auto_class: Any) -> Any:
    if not isinstance(auto_class, str):
        return auto_class
    return pkgutil.resolve_name(auto_class if ":" in auto_class else f"transformers:{auto_class}")


def _architectures(auto: Any) -> list[str]:
    """Of an automatic class, but models put together of two (encoder-decoder), which say their vocabulary elsewhere."""
    found = model_classes(auto)
    return sorted({config_class.model_type for config_class in found if not config_class.has_no_defaults_at_init})


def _check_fields(auto: Any, config: Any, changes: Mapping[str, Any]) -> None:
    """Rejects changes to fields that a model does not have."""
    if unknown := sorted(set(changes) - _fields(auto, config)):
        raise UserError(
            f"{setting('model.config')}: {config.model_type} has no field {', '.join(unknown)}; see the "
            f"fields of {type(config).__name__}."
        )


def _fields(auto: Any, config: Any) -> set[str]:
    """The fields that the configuration declares, and those that the model's code reads.

    The latter, because some fields are read without being declared (DeBERTa's `position_buckets`).
    """
    model_class = model_classes(auto)[type(config)]
    model_class = model_class[0] if isinstance(model_class, tuple) else model_class
    source = inspect.getsource(sys.modules[model_class.__module__])
    read = set(re.findall(r"config\.(\w+)|getattr\(config, \"(\w+)\"", source))
    return {"id2label", "label2id", "num_labels", *config.to_dict(), *config.attribute_map}.union(*read)
