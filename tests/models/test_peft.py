"""Adapters loaded by PEFT itself onto PyTorch models, by an interpreter that has both."""

import os
import subprocess

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
import tensorflow_federated as tff
from transformers import modeling_tf_pytorch_utils

from tests.models import zoo
from tff_tx import models
from tff_tx.models import peft

PYTHON = os.environ.get("TFF_TX_PEFT_PYTHON")
"""Such an interpreter; this project's own environment has neither."""

LOAD = """
import sys, numpy, torch, transformers
from peft import PeftModel
auto, directory = sys.argv[1:]
x = {k: torch.tensor(v) for k, v in numpy.load(f"{directory}/x.npz").items()}
x = {k: v.long() if v.dtype == torch.int32 else v for k, v in x.items()}
model = getattr(transformers, auto).from_pretrained(f"{directory}/base").eval()
with torch.no_grad():
    base = model(**x).logits.numpy()
    model = PeftModel.from_pretrained(model, f"{directory}/adapter").eval()
    adapted = model(**x).logits.numpy()
    merged = model.merge_and_unload()(**x).logits.numpy()
numpy.savez(f"{directory}/logits.npz", base=base, adapted=adapted, merged=merged)
"""
AUTO = {
    "distilbert": "AutoModelForSequenceClassification",
    "roberta": "AutoModelForTokenClassification",
    "deberta-v2": "AutoModelForSequenceClassification",
    "albert": "AutoModelForSequenceClassification",
    "gpt2": "AutoModelForCausalLM",
    "t5": "AutoModelForSeq2SeqLM",
    "vit": "AutoModelForImageClassification",
}


def save_for_pytorch(keras_model, directory):
    """The weights in PyTorch's format, without PyTorch."""
    directory.mkdir()
    tensors = {}
    for variable in keras_model.weights:
        name, transpose = modeling_tf_pytorch_utils.convert_tf_weight_name_to_pt_weight_name(
            variable.name, tf_weight_shape=variable.shape
        )
        if hasattr(keras_model, "tf_to_pt_weight_rename"):
            name = keras_model.tf_to_pt_weight_rename(name)[0]
        value = modeling_tf_pytorch_utils.apply_transpose(transpose, variable.numpy(), pt_to_tf=False)
        is_conv1d_bias = value.ndim == 2 and name.endswith(".bias") and value.shape[0] == 1
        tensors[name] = np.ascontiguousarray(value[0] if is_conv1d_bias else value)
    safetensors.numpy.save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    keras_model.config.save_pretrained(directory)


@pytest.mark.slow
@pytest.mark.skipif(PYTHON is None, reason="TFF_TX_PEFT_PYTHON names no Python with peft and torch")
@pytest.mark.parametrize("name", AUTO)
def test_peft_loads_the_adapter_with_equal_outputs(name, tmp_path):
    member = zoo.BY_NAME[name]
    residual = name == "distilbert"
    x, _ = member.sample()
    inputs = {k: v.numpy() for k, v in x.items() if k != models.SEED}
    lora = models.Lora(ranks=(3,), alpha=6.0, residual=residual)
    model = models.functional_model(member.build(), member.objective, member.x_spec(), trainable="lora", lora=lora)
    save_for_pytorch(model.keras_model, tmp_path / "base")
    base = model.keras_model({k: tf.constant(v) for k, v in inputs.items()}, training=False).logits
    rng = np.random.default_rng(0)
    trainable, frozen = ([np.array(w) for w in part] for part in model.initial_weights)
    trainable = [w + 0.3 * rng.standard_normal(w.shape).astype(np.float32) for w in trainable]
    if residual:
        for at in model.adapter_positions:
            frozen[at.residual] = 0.1 * rng.standard_normal(frozen[at.residual].shape).astype(np.float32)
    weights = tff.learning.models.ModelWeights(tuple(trainable), tuple(frozen))
    (tmp_path / "adapter").mkdir()
    models.save_adapter(model, weights, tmp_path / "adapter")
    np.savez(tmp_path / "x.npz", **inputs)
    subprocess.run([PYTHON, "-c", LOAD, AUTO[name], str(tmp_path)], check=True, timeout=300)
    logits = np.load(tmp_path / "logits.npz")

    np.testing.assert_allclose(logits["base"], base, atol=1e-4)
    expected = model.predict_on_batch((weights.trainable, weights.non_trainable), x, training=False)
    assert np.abs(expected - logits["base"]).max() > 1e-2
    np.testing.assert_allclose(logits["adapted"], expected, atol=1e-4)
    np.testing.assert_allclose(logits["merged"], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *(("distilbert", "SEQ_CLS"), ("roberta", "TOKEN_CLS"), ("gpt2", "CAUSAL_LM"), ("t5", "SEQ_2_SEQ_LM")),
        *(("bert", None), ("vit", None)),
    ],
)
def test_the_task_type_follows_from_the_models_head(name, expected):
    """A masked language model and a classifier of images have none in PEFT."""
    assert peft._task_type(zoo.BY_NAME[name].build()) == expected
