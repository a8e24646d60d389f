"""Trained models for other runtimes: SavedModel, TensorFlow Lite and ONNX; each is run before it is kept."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tff_tx.core.errors import UserError, setting

_OUTPUTS = ("logits", "start_logits", "end_logits")
_OPSET = 17
"""Of ONNX, as every runtime of the last years reads it."""

_PACKAGES = {"onnx": ("tf2onnx", "onnxruntime")}
"""What formats need beside this package."""

_TOLERANCE = 1e-4
"""Largest difference of a converted model's outputs, in units of the largest."""


def export(model: Any, kind: str, directory: str) -> dict[str, tf.TensorSpec]:
    """Writes a model into a directory: `saved_model.pb` with its variables, `model.tflite` or `model.onnx`.

    The signature "serving_default" takes the model's inputs by their names, in batches and lengths of any size, and
    gives its logits. What was written is read again and run on random inputs of two sizes.

    Args:
      model: A model of Hugging Face or of `tff_tx.models.zoo`.
      kind: One of `EXPORTS`.
      directory: An existing directory.

    Returns:
      The inputs.

    Raises:
      UserError: If the model cannot be converted, or computes something else then.
    """
    specs = _inputs(model)

    @tf.function
    def serve(**inputs):
        outputs = model(inputs, training=False)
        if isinstance(outputs, Mapping):
            return {name: outputs[name] for name in _OUTPUTS if outputs.get(name) is not None}
        return {"outputs": outputs}

    module = tf.Module()
    module.model, module.serve = model, serve
    what = f"{setting('export.format')}={kind}: {type(model).__name__}"
    missing = [name for name in _PACKAGES.get(kind, ()) if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{what} needs {' and '.join(missing)}: install tff_tx[{kind}].")
    try:
        concrete = serve.get_concrete_function(**specs)
        run = EXPORTS[kind](module, concrete, directory)
        worst = max(_difference(serve, run, _sample(model, specs, size)) for size in (1, 3))
    except (ValueError, TypeError, RuntimeError, NotImplementedError, tf.errors.OpError, AssertionError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise UserError(f"{what} cannot be exported ({lines[0][:300]}): choose another format.") from error
    if not worst < _TOLERANCE:
        raise UserError(f"{what} differs by {worst:.2g} of its largest output when exported: choose another format.")
    return specs


def _saved_model(module, concrete, directory) -> Callable:
    tf.saved_model.save(module, directory, signatures={"serving_default": concrete})
    return tf.saved_model.load(directory).signatures["serving_default"]


def _lite(module, concrete, directory) -> Callable:
    with tempfile.TemporaryDirectory() as saved:
        tf.saved_model.save(module, saved, signatures={"serving_default": concrete})
        converter = tf.lite.TFLiteConverter.from_saved_model(saved)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
        content = converter.convert()
    path = os.path.join(directory, "model.tflite")
    with open(path, "wb") as file:
        file.write(content)
    return tf.lite.Interpreter(path).get_signature_runner("serving_default")


def _onnx(module, concrete, directory) -> Callable:
    import onnxruntime
    import tf2onnx

    specs, path = concrete.structured_input_signature[1], os.path.join(directory, "model.onnx")
    names = list(specs)
    # By place, as tf2onnx calls functions; the inputs have the names of their specifications.
    function = tf.function(lambda *values: module.serve(**dict(zip(names, values))), autograph=False)
    tf2onnx.convert.from_function(function, [specs[name] for name in names], opset=_OPSET, output_path=path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    return lambda **inputs: dict(zip(outputs, session.run(None, {k: v.numpy() for k, v in inputs.items()})))


EXPORTS = {"savedmodel": _saved_model, "tflite": _lite, "onnx": _onnx}
"""By format: writes into a directory, and returns what runs the model that is there."""


def _inputs(model):
    """`tf.TensorSpec`s by name: the batch, and the lengths that the model leaves open, are of any size."""
    examples, found = model.dummy_inputs, {}
    for name, spec in model.input_signature.items():
        shape = [None, *spec.shape[1:]] if "ids" in name or "mask" in name else [None, *examples[name].shape[1:]]
        found[name] = tf.TensorSpec(shape, spec.dtype, name)
    return found


def _sample(model, specs, size):
    generator, found = np.random.default_rng(size), {}
    for name, spec in specs.items():
        shape = [size, *(5 + size if n is None else n for n in spec.shape[1:])]
        if spec.dtype.is_floating:
            value = generator.standard_normal(shape)
        elif name.endswith("mask"):
            value = np.arange(shape[-1]) < generator.integers(4, shape[-1] + 1, (size, 1))
        else:  # ids below the smallest of what they may stand for
            value = generator.integers(0, 2 if name.endswith("type_ids") else 4, shape)
        found[name] = tf.constant(value, spec.dtype)
    return found


def _difference(serve, run, inputs):
    expected, found = serve(**inputs), run(**inputs)
    return max(float(np.abs(found[k] - v).max() / np.abs(v).max()) for k, v in expected.items())
