"""What transformers keeps to itself: the models of its automatic classes, new such classes, and names in PyTorch."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any

import numpy as np
import transformers
from transformers import modeling_tf_pytorch_utils
from transformers.models.auto.auto_factory import _BaseAutoModelClass, _LazyAutoMapping

CONFIG_CLASSES: Mapping[str, Any] = transformers.models.auto.configuration_auto.CONFIG_MAPPING
"""The class of a configuration by its model type."""


def model_classes(auto: Any) -> Mapping[Any, Any]:
    """The model class, or classes, of an automatic class by the class of the configuration."""
    return auto._model_mapping


def auto_class(name: str) -> Any:
    """A new class like `TFAutoModelForCausalLM`, with no models yet."""
    empty = (collections.OrderedDict(), collections.OrderedDict())
    return type(name, (_BaseAutoModelClass,), {"_model_mapping": _LazyAutoMapping(*empty)})


def pytorch_weight(keras_model: Any, variable: Any) -> tuple[str, np.ndarray]:
    """The name and the value of a weight in the PyTorch model of the same architecture."""
    name, transpose = _converted(keras_model, variable)
    return name, modeling_tf_pytorch_utils.apply_transpose(transpose, variable.numpy(), pt_to_tf=False)


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
