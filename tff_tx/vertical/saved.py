"""Bottoms from files: a Hugging Face checkpoint, or a Keras model that a party saved."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf
import tf_keras

from tff_tx import models
from tff_tx.config.vertical import PartyConfig
from tff_tx.core.errors import UserError

_KINDS = {
    "layers": tf_keras.layers.Layer,
    "initializers": tf_keras.initializers.Initializer,
    "regularizers": tf_keras.regularizers.Regularizer,
    "constraints": tf_keras.constraints.Constraint,
    "mixed_precision": tf_keras.mixed_precision.Policy,
}
_MODELS = ("Functional", "Sequential", "Model")
_OF_MODELS = (None, "keras", "keras.src.engine.functional", "tf_keras.src.engine.functional")
# What runs code of the file, or reads further files.
_EXCLUDED = ("Lambda", "DenseFeatures", "StringLookup", "IntegerLookup", "TextVectorization")
_PLAIN = ("__tensor__", "__numpy__", "__bytes__")


def _parts(value: Any) -> Iterator[Mapping]:
    """All objects of a configuration, with those within."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _parts(part)


def _is_known(part: Mapping) -> bool:
    """Whether an object of a configuration is data, or one of Keras's own layers or what these consist of."""
    module, name, registered = (part.get(key) for key in ("module", "class_name", "registered_name"))
    if name is None and module is None or name in _PLAIN:
        return True
    if not isinstance(name, str) or registered not in (None, name):
        return False
    if name in _MODELS:
        return module in _OF_MODELS
    found = {
        kind: getattr(getattr(tf_keras, where), name, None)
        for where, kind in _KINDS.items()
        if module in (None, f"keras.{where}")
    }
    return name not in _EXCLUDED and any(isinstance(f, type) and issubclass(f, kind) for kind, f in found.items())


def _require_safe(path: str) -> None:
    """Rejects what would run code when it is loaded; Keras's own safe mode rejects lambdas in archives alone.

    Keras unpickles weights in NumPy's format, resolves names of functions in any module, and loads what is no archive
    by its older formats, whose lambdas it runs.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            config, names = json.loads(archive.read("config.json")), archive.namelist()
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} cannot be read as a Keras model ({error}): save it with model.save('NAME.keras')."
        ) from None
    if "model.weights.h5" not in names:
        raise UserError(f"{path} has no weights in HDF5: save it with model.save('NAME.keras').")
    if unknown := next((part for part in _parts(config) if not _is_known(part)), None):
        named = str(unknown.get("class_name") or unknown.get("module"))[:60]
        raise UserError(
            f"{path} has {named!r}, which is no layer of Keras's own, and could run code: save a model of these alone."
        )


class SavedKeras(tf_keras.layers.Layer):
    """A Keras model of one input, numbers or pixels, whose output is a token or tokens of a row.

    Args:
      path: A file of `model.save("NAME.keras")`.

    Raises:
      UserError: If it is no such file, has other layers than Keras's own, or its output is of another rank.
    """

    def __init__(self, path: str, **kwargs):
        super().__init__(**kwargs)
        _require_safe(path)
        try:
            self.model = tf_keras.models.load_model(path, compile=False)
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{path} cannot be read as a Keras model ({str(error).splitlines()[0]}).") from None
        if (
            len(self.model.inputs) != 1
            or len(self.model.outputs) != 1
            or self.model.outputs[0].shape.rank not in (2, 3)
        ):
            raise UserError(
                f"{path} must have one input and one output, of shape [rows, size] or [rows, tokens, size]; it has "
                f"{[tuple(x.shape) for x in self.model.inputs]} and {[tuple(x.shape) for x in self.model.outputs]}."
            )

    def call(self, inputs, training=False):
        """`numbers` or `pixel_values` to float32 [batch, tokens, size]."""
        given = inputs["numbers" if "numbers" in inputs else "pixel_values"]
        if not self.model.inputs[0].shape.is_compatible_with(given.shape):
            raise UserError(
                f"a Keras model reads rows of shape {tuple(self.model.inputs[0].shape[1:])}, and the party has rows "
                f"of shape {tuple(given.shape[1:])}: name as many columns as it reads."
            )
        found = self.model(given, training=training)
        return found if found.shape.rank == 3 else found[:, tf.newaxis]


def load_encoder(party: PartyConfig, seed: int = 0) -> Any:
    """A party's pretrained bottom: from inputs to tokens, or to a value with them as `last_hidden_state`.

    Raises:
      UserError: If it cannot be loaded.
    """
    if party.is_keras:
        return SavedKeras(party.pretrained, name="saved")
    return models.from_pretrained("TFAutoModel", party.pretrained, party.config, seed)
