"""Hugging Face models: made from a configuration or a checkpoint, and saved as one."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import pkgutil
import re
import string
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

import transformers
from safetensors import SafetensorError
from safetensors.numpy import save_file

from tff_tx.core.errors import UserError, setting
from tff_tx.models import resizing
from tff_tx.models.tracing import initial_weights
from tff_tx.models.tracing.hugging_face import CONFIG_CLASSES, any_image_size, model_classes, pytorch_weights
from tff_tx.models.trainable import names_of, selected

_LOADABLE = "give a directory with config.json and weights as safetensors, or a hub id that can be reached"

_OF_ONE_IMAGE_SIZE = ("data2vec-vision", "deit", "swin", "vit", "vit_mae")
"""Architectures that number patches or windows of images; others take images of any size, whatever is configured."""

_POSITIONS_AFTER_PADDING = (
    "camembert",
    "esm",
    "longformer",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
)
"""Architectures that number positions from the padding index on, and so have fewer of them."""


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
            f"{setting('model.architecture')}={architecture}: {auto.__name__} has no TensorFlow model of that type; "
            f"choose one of {', '.join(_architectures(auto))}."
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
      name: Directory with `config.json` and weights (TensorFlow or PyTorch safetensors), or a hub
        id.
      config: Fields of the configuration to change, such as `num_labels` or dropout rates.
      seed: Seed of the weights that the checkpoint lacks.
      new_outputs: Whether the outputs of a classifier get other meanings, so that their weights are random too.

    Raises:
      UserError: If `name` is neither a model directory nor a hub id that can be reached, its
        automatic class has no such architecture in TensorFlow, or a field does not fit it.
    """
    if os.path.isdir(name) and not os.path.exists(os.path.join(name, "config.json")):
        raise UserError(
            f"{setting('model.pretrained')}={name} is a directory without config.json, so not a model: give a "
            "directory written by save_pretrained, or a hub id."
        )
    what = f"{setting('model.pretrained')}={name}"
    auto = _resolved(auto_class)
    found = read_config(auto, name)
    _check_fields(auto, found, config or {})
    with initial_weights.seeded(seed), any_image_size(), loadable(what):
        model, info = auto.from_pretrained(
            name, output_loading_info=True, **dict(config or {}), ignore_mismatched_sizes=True
        )
    mismatched = (key if isinstance(key, str) else key[0] for key in info["mismatched_keys"])
    model.fresh_weights, model.resized_weights = (*info["missing_keys"], *mismatched), ()
    if resizing.changed(found, config or {}):
        others = {field: value for field, value in config.items() if field not in resizing.SIZES}
        fitted = resizing.fit(model, auto.from_pretrained(name, **others, ignore_mismatched_sizes=True))
        known = set().union(*(names_of(model, variable) for variable in fitted))
        model.fresh_weights = tuple(fresh for fresh in model.fresh_weights if fresh not in known)
        model.resized_weights = tuple(variable.name for variable in fitted)
    if new_outputs:
        _renew_outputs(auto, model, seed)
    return model


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
        found = transformers.AutoConfig.from_pretrained(name)
    if found.model_type not in _architectures(auto):
        raise UserError(
            f"{setting('model.pretrained')}={name} is a {found.model_type} model, of which {auto.__name__} has none "
            f"in TensorFlow; choose a model of one of the types {', '.join(_architectures(auto))}."
        )
    return found


def is_missing(name: str, file: str) -> bool:
    """Whether a model directory, or a hub id that can be reached, lacks a file."""
    how = dict(_raise_exceptions_for_missing_entries=False)
    if transformers.utils.is_offline_mode():  # where what is not in the cache counts as a failed connection
        how.update(_raise_exceptions_for_connection_errors=False)
    return transformers.utils.cached_file(name, file, **how) is None


def load_tokenizer(name: str) -> Any:
    """Loads the tokenizer of a model directory or hub id; "bytes" and "characters" are tokenizers that need no file.

    Special tokens that are spelled in a text are text to it. Only a tokenizer in Python that has other tokens added,
    which it could not find any more, reads them as tokens.

    Raises:
      UserError: If there is no tokenizer at `name`.
    """
    if name == "bytes":
        return _text_only(transformers.ByT5Tokenizer(extra_ids=0))
    if name == "characters":
        return _characters()
    remedy = 'give a directory or hub id that has a tokenizer, or "bytes"'
    if os.path.isdir(name) and not any("token" in file for file in os.listdir(name)):
        raise UserError(f"tokenizer {name} is a directory without tokenizer files: {remedy}.")
    with loadable(f"tokenizer {name}", remedy):
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    if tokenizer.pad_token_id is None:  # as GPT-2's; padding is masked anyway, so any id serves
        tokenizer.pad_token = tokenizer.eos_token
    return _text_only(tokenizer)


def _characters() -> Any:
    """Of transcripts in English: letters without their case, digits, the apostrophe, and the end of a word."""
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", "'", *string.ascii_uppercase, *string.digits]
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "vocab.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({token: number for number, token in enumerate(tokens)}, file)
        # It takes texts in upper case and gives them in lower case.
        return _text_only(transformers.Wav2Vec2CTCTokenizer(path, do_lower_case=True))


def _text_only(tokenizer: Any) -> Any:
    added = tokenizer.added_tokens_decoder.values()
    # Not given to the constructor, which would save it: elsewhere people expect what transformers does by default.
    tokenizer.split_special_tokens = tokenizer.is_fast or all(token.special for token in added)
    return tokenizer


def save_pretrained(model: Any, directory: str, *preprocessors: Any) -> None:
    """Writes a directory that transformers opens, with PyTorch and with TensorFlow, tokenizer or processor included.

    Weights have PyTorch's names and layout, as transformers itself translates them when it reads such a checkpoint.
    What TensorFlow's `save_pretrained` writes, PyTorch's from transformers 5 on takes for a checkpoint without a single
    weight of its model, and goes on with random ones. A model without a counterpart in PyTorch stays TensorFlow's.

    Raises:
      OSError: If the directory cannot be written.
    """
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


def has_segments(config: Any) -> bool:
    """Whether a model separates two texts by `token_type_ids`, as BERT does and RoBERTa does not."""
    return getattr(config, "type_vocab_size", 0) > 1


def image_shape(config: Any) -> tuple[int, int | None, int | None]:
    """(channels, height, width) of images, as a configuration has them; None where it has no size."""
    size = getattr(config, "image_size", None)
    return (config.num_channels, *(size if isinstance(size, (list, tuple)) else (size, size)))


def takes_image_size(config: Any, size: tuple[int, int]) -> bool:
    """Whether a model takes images of (height, width)."""
    return config.model_type not in _OF_ONE_IMAGE_SIZE or tuple(size) == image_shape(config)[1:]


def max_positions(config: Any) -> int | None:
    """The longest sequence a text model takes, None where there is no limit."""
    limit = getattr(config, "max_position_embeddings", None)
    if limit is not None and config.model_type in _POSITIONS_AFTER_PADDING:
        limit -= config.pad_token_id + 1
    # The sliding window of Mistral is not computed, and cuts nothing off a text within it.
    window = getattr(config, "sliding_window", None)
    return limit if window is None or limit is None else min(limit, window)
