"""Exported models, read as their users do, against the model itself."""

import os

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.models import zoo
from tff_tx import inference, models
from tff_tx.config import RunConfig
from tff_tx.core.errors import UserError
from tff_tx.inference import exporting
from tff_tx.run.assemble.trained import export_run
from tff_tx.run.directory import StoredRun

IDS = np.array([[4, 5, 6, 7], [8, 9, 1, 1]], np.int32)
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], np.int32)


def expected(model):
    return model({"input_ids": tf.constant(IDS), "attention_mask": tf.constant(MASK)}, training=False).logits


@pytest.mark.slow
@pytest.mark.parametrize("name", ["distilbert", "gpt2"])
def test_a_saved_model(name, tmp_path):
    model = zoo.BY_NAME[name].shallow().build()
    inputs = inference.export(model, "savedmodel", str(tmp_path))
    assert {"input_ids", "attention_mask"} == set(inputs)
    run = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    found = run(input_ids=tf.constant(IDS), attention_mask=tf.constant(MASK))["logits"]
    np.testing.assert_allclose(found, expected(model), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["distilbert", "vit"])
def test_tensorflow_lite(name, tmp_path):
    model = zoo.BY_NAME[name].shallow().build()
    inference.export(model, "tflite", str(tmp_path))
    run = tf.lite.Interpreter(str(tmp_path / "model.tflite")).get_signature_runner("serving_default")
    if name == "vit":
        pixels = np.random.default_rng(0).normal(size=(2, 3, zoo.IMAGE, zoo.IMAGE)).astype(np.float32)
        np.testing.assert_allclose(run(pixel_values=pixels)["logits"], model(pixels).logits, atol=1e-4)
        return
    found = run(input_ids=IDS, attention_mask=MASK)["logits"]
    np.testing.assert_allclose(found, expected(model), atol=1e-4)


@pytest.mark.slow
def test_onnx(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="of the extra onnx")
    model = zoo.BY_NAME["distilbert"].shallow().build()
    inference.export(model, "onnx", str(tmp_path))
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    (found,) = session.run(["logits"], {"input_ids": IDS, "attention_mask": MASK})
    np.testing.assert_allclose(found, expected(model), atol=1e-5)


def test_a_format_without_its_packages(tmp_path, monkeypatch):
    monkeypatch.setitem(exporting._PACKAGES, "onnx", ("no_such_package",))
    with pytest.raises(UserError, match=r"export.format=onnx: .* needs no_such_package: install tff_tx\[onnx\]"):
        inference.export(zoo.BY_NAME["distilbert"].shallow().build(), "onnx", str(tmp_path))


@pytest.mark.slow
def test_a_run_is_exported_with_its_tokenizer(tmp_path):
    models.save_pretrained(
        zoo.BY_NAME["distilbert"].shallow().build(), str(tmp_path / "model"), tiny.words_tokenizer(["a", "b"])
    )
    run = StoredRun(str(tmp_path), RunConfig.of({"task.kind": "sequence_classification"}), {})
    path, inputs = export_run(run, "savedmodel")
    assert path == str(tmp_path / "export" / "savedmodel")
    assert list(inputs) == ["input_ids", "attention_mask"]
    assert {"saved_model.pb", "variables", "config.json", "tokenizer.json"} <= set(os.listdir(path))
    assert not [name for name in os.listdir(path) if name.endswith(".safetensors")]


@pytest.mark.slow
def test_a_model_that_computes_something_else_then_is_refused(tmp_path, monkeypatch):
    """As one would whose graph depends on what was drawn when it was made."""
    model = zoo.BY_NAME["distilbert"].shallow().build()
    call = type(model).call
    drawn = iter(range(1, 9))

    def changing(self, *arguments, **more):
        found = call(self, *arguments, **more)
        found.logits = found.logits + float(next(drawn))
        return found

    monkeypatch.setattr(type(model), "call", changing)
    with pytest.raises(UserError, match=r"export.format=savedmodel: TFDistil\S+ (differs by|cannot be exported)"):
        inference.export(model, "savedmodel", str(tmp_path))
