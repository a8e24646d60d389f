"""What transformers keeps to itself: the models of its automatic classes, new such classes, and names in PyTorch."""

from __future__ import annotations

import collections
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import transformers
from transformers import modeling_tf_pytorch_utils
from transformers.models.auto.auto_factory import _BaseAutoModelClass, _LazyAutoMapping

from tff_tx.core import internals

CONFIG_CLASSES: Mapping[str, Any] = transformers.models.auto.configuration_auto.CONFIG_MAPPING
"""The class of a configuration by its model type."""

_TRAILING = {r"\.key_conv_attn_layer\.bias$": (1,), r"^swiftformer\..*layer_scale": (1, 1)}
"""Dimensions of 1 that weights have in PyTorch and not in TensorFlow, by their name."""


def any_image_size():
    """Has models be built whose configuration has no size of images (CvT), which transformers then cannot do."""
    return internals.swapped((CONFIG_CLASSES["cvt"], "image_size", None))


def model_classes(auto: Any) -> Mapping[Any, Any]:
    """The model class, or classes, of an automatic class by the class of the configuration."""
    return auto._model_mapping


def auto_class(name: str) -> Any:
    """A new class like `TFAutoModelForCausalLM`, with no models yet."""
    empty = (collections.OrderedDict(), collections.OrderedDict())
    return type(name, (_BaseAutoModelClass,), {"_model_mapping": _LazyAutoMapping(*empty)})


def joined_auto_class(name: str, *autos: Any) -> Any:
    """A new class with the models of others, also with those that are registered later."""
    models = collections.ChainMap(*(auto._model_mapping for auto in autos))
    return type(name, (_BaseAutoModelClass,), {"_model_mapping": models})


def pytorch_weights(keras_model: Any) -> dict[str, np.ndarray] | None:
    """All weights by name, as `pytorch_weight` has them; None: transformers has no PyTorch model of the kind."""
    name = type(keras_model).__name__
    if not isinstance(keras_model, getattr(transformers, name, object)):
        return None
    if not hasattr(transformers, name.removeprefix("TF")):
        return None
    weights = dict(pytorch_weight(keras_model, variable) for variable in keras_model.weights)
    counters = (name.removesuffix("running_mean") + "num_batches_tracked" for name in weights if "running_mean" in name)
    return weights | dict.fromkeys(counters, np.zeros([], np.int64))


def pytorch_weight(keras_model: Any, variable: Any) -> tuple[str, np.ndarray]:
    """The name and the value of a weight in the PyTorch model of the same architecture.

    Transformers' own translation is from PyTorch, where it reshapes to what TensorFlow's weight is; the shapes of
    PyTorch's weights that it does not give are given here.
    """
    name, transpose = _converted(keras_model, variable)
    value = modeling_tf_pytorch_utils.apply_transpose(transpose, variable.numpy(), pt_to_tf=False)
    if name.endswith(".bias") and value.ndim == 2:  # of GPT-2's Conv1D
        value = value[0]
    elif name.endswith(".depthwise.weight") and value.ndim == 3:
        value = value.swapaxes(0, 1)
    elif name.endswith(".weight_g"):  # of a convolution with weight normalization
        value = value.T
    for names, dimensions in _TRAILING.items():
        if re.search(names, name):
            value = value.reshape(value.shape + dimensions)
    for ours, pytorchs in (("moving_mean", "running_mean"), ("moving_variance", "running_var")):
        name = name.replace(ours, pytorchs)
    return name, np.ascontiguousarray(value)


def pytorch_name(keras_model: Any, variable: Any) -> str:
    """The name of a weight in the PyTorch model of the same architecture."""
    return _converted(keras_model, variable)[0]


def pytorch_module(keras_model: Any, variable: Any) -> str:
    """The name of the PyTorch module that holds a weight."""
    return pytorch_name(keras_model, variable).rpartition(".")[0]


def _converted(keras_model, variable):
    """As transformers names it when it loads a PyTorch checkpoint, with how the weight is transposed."""
    name, transpose = modeling_tf_pytorch_utils.convert_tf_weight_name_to_pt_weight_name(
        variable.name, tf_weight_shape=variable.shape
    )
    rename = getattr(keras_model, "tf_to_pt_weight_rename", None)
    return (rename(name)[0] if rename is not None else name), transpose
