"""Which of a model's weights are trained, and which of these are personal: all, the head, or some by their names."""

from __future__ import annotations

import re
from typing import Any

from tff_tx.core.errors import UserError, setting
from tff_tx.models.tracing.hugging_face import pytorch_name

KINDS = ("all", "head", "bias", "layers:RE", "lora")
"""Values of `trainable`; RE is a regular expression, searched in the names of weights."""

PERSONAL_KINDS = ("head", "norms", "layers:RE")
"""Values of `personal`."""

_NORMS = re.compile(r"norm", re.IGNORECASE)
_ENCODERS_WITHOUT_NAME = ("shared", "encoder", "decoder")
"""The parts of Hugging Face models, such as T5, that keep no base model in an attribute of its own."""


def selected(model: Any, trainable: str) -> list:
    """The weights that are trained as they are.

    "head" is what a Hugging Face model has beside its pretrained base, as a rule a classifier, and what its checkpoint
    lacks of the base, such as a pooler; of another Keras model the last layer with weights. "bias" is BitFit (Ben Zaken
    et al. 2022, https://arxiv.org/abs/2106.10199): all biases, those of layer normalization too, and the head, if there
    is one. With "lora" it is the head of a classifier; what is adapted says `tff_tx.models.Lora`.

    Args:
      model: A built Keras model.
      trainable: One of `KINDS`.

    Returns:
      Variables, those of them that the model itself has as trainable, in the model's order.

    Raises:
      UserError: If there are none, or `trainable` is not one of `KINDS`.
    """
    weights = _unique(model.trainable_weights)
    if trainable == "all":
        chosen = weights
    elif trainable == "head":
        chosen = _head(model, weights)
    elif trainable == "bias":
        head = {id(v) for v in _head(model, weights)}
        chosen = [v for v in weights if id(v) in head or re.search(r"(^|/)(bias|beta)(:\d+)?$", v.name)]
    elif trainable == "lora":
        return _head(model, weights)
    elif trainable.startswith("layers:"):
        pattern = compiled(trainable[len("layers:") :], f"{setting('model.trainable')}={trainable}")
        chosen = [v for v in weights if pattern.search(v.name)]
    else:
        raise UserError(f"{setting('model.trainable')}={trainable}: must be one of {', '.join(KINDS)}.")
    if not chosen:
        raise UserError(
            f"{setting('model.trainable')}={trainable}: {type(model).__name__} has no such weights; choose another of "
            f"{', '.join(KINDS)}. Its weights are {some_names(weights)}."
        )
    return chosen


def personal(model: Any, trained: list, which: str) -> list:
    """The weights of which each client has its own.

    With "head" this is FedPer (Arivazhagan et al. 2019, https://arxiv.org/abs/1912.00818), with "norms", those of
    normalization layers, FedBN (Li et al. 2021, https://arxiv.org/abs/2102.07623); "layers:" and a regular expression,
    searched in the names of weights, is any other choice, such as lower layers (LG-FedAvg).

    Args:
      model: A built Keras model.
      trained: Its variables that are trained.
      which: One of `PERSONAL_KINDS`.

    Returns:
      Variables, some of `trained`, in their order.

    Raises:
      UserError: If there are none, or none are left to share, or `which` is not one of `PERSONAL_KINDS`.
    """
    what = f"{setting('model.personal')}={which}"
    if which == "head":
        chosen = {id(v) for v in _head(model, _unique(model.trainable_weights))}
        found = [v for v in trained if id(v) in chosen]
    elif which == "norms" or which.startswith("layers:"):
        pattern = _NORMS if which == "norms" else compiled(which.removeprefix("layers:"), what)
        found = [v for v in trained if pattern.search(v.name)]
    else:
        raise UserError(f"{what}: must be one of {', '.join(PERSONAL_KINDS)}.")
    if not found:
        raise UserError(
            f"{what}: there are no such weights among those that are trained; choose another of "
            f"{', '.join(PERSONAL_KINDS)}. Trained are {some_names(trained)}."
        )
    if len(found) == len(trained):
        raise UserError(f"{what}: clients share nothing, as these are all weights that are trained; name fewer.")
    return found


def fresh(model: Any) -> list:
    """The weights that the checkpoint of a model lacked or had in another shape."""
    names = set(getattr(model, "fresh_weights", ()))
    return [v for v in _unique(model.trainable_weights) if names and names & names_of(model, v)]


def names_of(model: Any, variable: Any) -> set[str]:
    """The names that a weight may have in a checkpoint."""
    name = pytorch_name(model, variable)
    base = f"{model.base_model_prefix}."  # which a checkpoint of the base alone does not have
    return {variable.name, variable.name.partition("/")[2], name, name.removeprefix(base)}


def by_name(model: Any) -> dict[str, Any]:
    """A Keras model's weights by names that are the same wherever it was built: PyTorch's, of Hugging Face models."""
    is_hugging_face = hasattr(model, "base_model_prefix")
    return {pytorch_name(model, v) if is_hugging_face else v.name: v for v in _unique(model.weights)}


def compiled(pattern: str, flag: str) -> re.Pattern:
    """A regular expression.

    Raises:
      UserError: If it is none; the message begins with `flag`.
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(f"{flag} is no regular expression ({error}): see Python's module re.") from error


def some_names(variables: list) -> str:
    """The first names and the last one, for messages."""
    names = [v.name for v in variables]
    return ", ".join(names[:4]) + (f" ... {names[-1]}" if len(names) > 4 else "")


def _head(model, weights):
    """Empty where the model has no weights but its pretrained base, as a language model with tied embeddings."""
    if hasattr(model, "base_model_prefix"):
        names = (model.base_model_prefix, *_ENCODERS_WITHOUT_NAME)
        parts = [part for name in names if hasattr(part := getattr(model, name, None), "weights")]
        base = {id(v) for part in parts for v in part.weights} - set(map(id, fresh(model)))
        return [v for v in weights if id(v) not in base]
    layers = [layer for layer in model.layers if layer.trainable_weights]
    if len(layers) == 1 and getattr(layers[0], "layers", None):
        return _head(layers[0], weights)
    last = {id(v) for v in layers[-1].trainable_weights} if layers else ()
    return [v for v in weights if id(v) in last]


def _unique(variables):
    return list({id(v): v for v in variables}.values())
