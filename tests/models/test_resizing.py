"""A checkpoint in a model of other sizes computes what it computed on what it knew."""

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tff_tx import models

BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
TEXTS = {
    "bert": ("TFAutoModelForMaskedLM", {**BERT, "max_position_embeddings": 16}),
    "gpt2": ("TFAutoModelForCausalLM", {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16}),
    "distilbert": ("TFAutoModelForMaskedLM", {"dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 16}),
    "opt": (
        "TFAutoModelForCausalLM",
        {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 16, "word_embed_proj_dim": 8}
        | {"max_position_embeddings": 16},
    ),
    "t5": (
        "TFAutoModelForSeq2SeqLM",
        {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "tie_word_embeddings": False}
        | {"pad_token_id": 0, "decoder_start_token_id": 0},
    ),
}


def saved(auto, architecture, config, directory):
    model = models.from_config(auto, architecture, config, seed=1)
    for v in model.weights:
        v.assign_add(tf.random.stateless_normal(v.shape, [1, v.shape.num_elements()], stddev=0.5))
    models.save_pretrained(model, str(directory))
    return model


@pytest.mark.parametrize("architecture", TEXTS)
def test_old_tokens_and_positions_have_the_same_logits(architecture, tmp_path):
    auto, config = TEXTS[architecture]
    old = saved(auto, architecture, {**config, "vocab_size": 40}, tmp_path)
    longer = {name: 20 for name in ("n_positions", "max_position_embeddings") if name in config}
    new = models.from_pretrained(auto, str(tmp_path), {"vocab_size": 43, **longer})
    ids = tf.constant(np.random.default_rng(0).integers(0, 40, [2, 12]), tf.int32)
    x = {"input_ids": ids, "attention_mask": tf.ones_like(ids)}
    x |= {"decoder_input_ids": ids} if architecture == "t5" else {}
    np.testing.assert_allclose(new(x).logits[..., :40], old(x).logits, atol=1e-5)
    assert new.fresh_weights == ()
    assert new.resized_weights
    table = next(v for v in new.weights if v.shape == (43, 8)).numpy()
    np.testing.assert_allclose(table[40:], np.tile(table[:40].mean(0), [3, 1]), atol=1e-6)


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)])
def test_grey_pictures_have_the_same_logits_in_other_channels(before, after, tmp_path):
    auto, config = "TFAutoModelForImageClassification", {**tiny.VIT, "image_size": 8}
    old = saved(auto, "vit", {**config, "num_channels": before}, tmp_path)
    new = models.from_pretrained(auto, str(tmp_path), {"num_channels": after})
    grey = np.random.default_rng(0).random((2, 1, 8, 8), np.float32)
    expected, found = (
        model({"pixel_values": tf.repeat(grey, channels, 1)}).logits
        for model, channels in ((old, before), (new, after))
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert new.fresh_weights == ()


def test_positions_of_patches_are_interpolated(tmp_path):
    """The class token's is kept; of a plane in rows and columns, the inner ones stay on it."""
    auto, config = "TFAutoModelForImageClassification", {**tiny.VIT, "image_size": 16, "num_channels": 1}
    old = models.from_config(auto, "vit", config)
    table = next(v for v in old.weights if "position_embeddings" in v.name)
    rows, columns = np.meshgrid(np.arange(4), np.arange(4), indexing="ij")
    plane = (rows + 10 * columns).reshape(1, 16, 1) * np.ones(8)
    table.assign(np.concatenate([np.full([1, 1, 8], 7.0), plane], 1))
    models.save_pretrained(old, str(tmp_path))
    new = models.from_pretrained(auto, str(tmp_path), {"image_size": 32})
    found = next(v for v in new.weights if "position_embeddings" in v.name).numpy()
    np.testing.assert_array_equal(found[0, 0], 7.0)
    grid = found[0, 1:, 0].reshape(8, 8)
    np.testing.assert_allclose(grid[3:5, 3:5], [[1.25 + 12.5, 1.25 + 17.5], [1.75 + 12.5, 1.75 + 17.5]], atol=0.05)
    assert new.fresh_weights == ()
    assert len(new.resized_weights) == 1


def test_weights_of_other_widths_are_new(tmp_path):
    saved("TFAutoModelForMaskedLM", "bert", {**BERT, "vocab_size": 40}, tmp_path)
    new = models.from_pretrained("TFAutoModelForMaskedLM", str(tmp_path), {"vocab_size": 43, "intermediate_size": 20})
    assert any("intermediate" in name for name in new.fresh_weights)
    assert not any("embed" in name for name in new.fresh_weights)
