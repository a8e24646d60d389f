"""The Llama family on the layers of Mistral; outputs are compared with those of PyTorch in test_pytorch_checkpoints."""

import json

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from tff_tx import models
from tff_tx.core.errors import UserError

TINY = {
    **dict(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16),
    **dict(num_key_value_heads=1, max_position_embeddings=16),
}
SPEC = {name: tf.TensorSpec([None, None], tf.int32) for name in ("attention_mask", "input_ids")}
SPEC[models.SEED] = tf.TensorSpec([2], tf.int64)


@pytest.mark.parametrize("architecture", ["llama", "mistral"])
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"attention_bias": True}, "attention_bias=True"),
        ({"mlp_bias": True}, "mlp_bias=True"),
        ({"hidden_act": "gelu"}, "hidden_act=gelu"),
        ({"head_dim": 8}, "head_dim=8 in place of 4"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling of type linear"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "rope_parameters of type yarn"),
    ],
)
def test_what_the_layers_do_not_compute_is_rejected(tmp_path, architecture, change, named):
    config = {"model_type": architecture, **TINY, **change}
    (tmp_path / "config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file({"x": np.zeros(1)}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        UserError, match=f"^the {architecture} model has {named}, which TensorFlow's code .*another one.$"
    ):
        models.from_pretrained("TFAutoModelForCausalLM", str(tmp_path))


def test_a_sliding_window_limits_texts():
    window = models.planned_config("TFAutoModelForCausalLM", None, "mistral", {"sliding_window": 8, **TINY})
    assert models.max_positions(window) == 8
    window.sliding_window = None
    assert models.max_positions(window) == 16


def test_tied_embeddings_are_one_weight(tmp_path):
    model = models.from_config("TFAutoModelForCausalLM", "llama", {**TINY, "tie_word_embeddings": True})
    functional = models.functional_model(model, models.language_modeling("causal_lm"), SPEC)
    assert not any("lm_head" in name for name in functional.trainable_names)
    ids = tf.constant([[4, 5, 6]])
    x = {"attention_mask": tf.ones_like(ids), "input_ids": ids, models.SEED: tf.constant([0, 0], tf.int64)}
    trainable, others = functional.initial_weights
    place = next(i for i, name in enumerate(functional.trainable_names) if "embed_tokens" in name)
    changed = [w * 2 if i == place else w for i, w in enumerate(trainable)]
    plain, twice = (functional.predict_on_batch((w, others), x, training=False) for w in (trainable, changed))
    # What comes of the layers hardly changes, as these normalize it: the logits double.
    np.testing.assert_allclose(plain, model(ids).logits, atol=1e-6)
    assert 1.5 < np.linalg.norm(twice) / np.linalg.norm(plain) < 2.5
    models.save_pretrained(model, str(tmp_path))
    config, weights = json.loads((tmp_path / "config.json").read_text()), tmp_path / "model.safetensors"
    assert (config["model_type"], config["architectures"]) == ("llama", ["LlamaForCausalLM"])
    names = set(safetensors.numpy.load_file(weights))
    assert {"model.embed_tokens.weight", "model.layers.0.self_attn.k_proj.weight", "model.norm.weight"} <= names
    assert "lm_head.weight" not in names
    again = models.from_pretrained("TFAutoModelForCausalLM", str(tmp_path))
    assert again.fresh_weights == ()
    np.testing.assert_allclose(again(ids).logits, plain, atol=1e-6)


def test_adapters_are_those_of_peft(tmp_path):
    model = models.from_config("TFAutoModelForCausalLM", "llama", TINY)
    objective = models.language_modeling("causal_lm")
    functional = models.functional_model(model, objective, SPEC, trainable="lora", lora=models.Lora(ranks=(2,)))
    models.check_adapter_format(functional)
    import tensorflow_federated as tff

    weights = tff.learning.models.ModelWeights(*functional.initial_weights)
    models.save_adapter(functional, weights, str(tmp_path), "base")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["task_type"] == "CAUSAL_LM"
    assert config["target_modules"] == [f"model.layers.0.self_attn.{name}_proj" for name in "qv"]
    shapes = {k: v.shape for k, v in safetensors.numpy.load_file(tmp_path / "adapter_model.safetensors").items()}
    assert shapes["base_model.model.model.layers.0.self_attn.v_proj.lora_B.weight"] == (4, 2)
