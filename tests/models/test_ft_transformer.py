"""The Transformer for tables, beside NumPy."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from tff_tx import models
from tff_tx.models.zoo.ft_transformer import TFAutoModelForTables

TINY = {
    **{"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 3, "num_labels": 3},
    **{"numeric_features": ["a", "b"], "means": [1.0, -2.0], "deviations": [4.0, 0.0]},
    **{"categorical_features": ["c", "d"], "categories": [["x", "y"], ["u", "v", "w"]]},
}


@pytest.fixture(scope="module")
def model():
    return models.from_config(TFAutoModelForTables, "ft_transformer", TINY, seed=3)


def test_the_model_is_what_the_paper_writes(model, rng):
    weights = {w.name.split("/", 1)[1].removesuffix(":0"): w.numpy().astype(np.float64) for w in model.weights}
    weights = {name.removeprefix("backbone/"): value for name, value in weights.items()}
    numbers, categories = rng.normal(size=[5, 2]), np.stack([rng.integers(0, 3, 5), rng.integers(0, 4, 5)], axis=1)

    def dense(x, name):
        return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]

    def norm(x, name):
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return scaled * weights[f"{name}/gamma"] + weights[f"{name}/beta"]

    standardized = (numbers - [1, -2]) / [4, 1]  # the deviation 0 divides by 1
    scales, table, bias = (weights[f"tokenize/{name}"] for name in ("scales", "table", "bias"))
    tokens = [
        np.tile(weights["tokenize/class_token"], (5, 1)),
        *(standardized[:, [j]] * scales[j] + bias[j] for j in range(2)),
        table[categories[:, 0]] + bias[2],
        table[3 + categories[:, 1]] + bias[3],  # the first three rows are unknown, x and y
    ]
    x = np.stack(tokens, axis=1)
    queries, keys, values = (dense(x, f"block_0/{name}") for name in ("query", "key", "value"))
    scores = np.exp(queries @ keys.transpose(0, 2, 1) / 2)
    x = x + dense(scores / scores.sum(-1, keepdims=True) @ values, "block_0/merge")
    linear, gate = np.split(dense(norm(x, "block_0/dense_norm"), "block_0/widen"), 2, axis=-1)
    x = x + dense(linear * np.maximum(gate, 0), "block_0/narrow")
    wanted = dense(np.maximum(norm(x[:, 0], "norm"), 0), "classifier")
    found = model({"numbers": tf.constant(numbers, tf.float32), "categories": tf.constant(categories, tf.int32)})
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert not any("attention_norm" in name for name in weights)


def test_a_number_that_is_missing_is_the_mean(model):
    categories = tf.zeros([1, 2], tf.int32)
    missing, mean = ({"numbers": tf.constant([[x, 7.0]]), "categories": categories} for x in (np.nan, 1.0))
    np.testing.assert_array_equal(model(missing), model(mean))


@pytest.mark.parametrize("left_out", ["numbers", "categories"])
def test_numbers_or_categories_alone(left_out, rng):
    fields = {"numbers": {"numeric_features": [], "means": [], "deviations": []}, "categories": {}}[left_out]
    if left_out == "categories":
        fields = {"categorical_features": [], "categories": []}
    model = models.from_config(TFAutoModelForTables, "ft_transformer", {**TINY, **fields})
    inputs = {"numbers": tf.ones([2, 2]), "categories": tf.ones([2, 2], tf.int32)}
    del inputs[left_out]
    assert model(inputs).shape == (2, 3)
    spec = collections.OrderedDict((name, tf.TensorSpec([None, 2], x.dtype)) for name, x in inputs.items())
    functional = models.functional_model(model, models.classification("tabular_classification"), spec)
    assert len(functional.initial_weights[0]) == len(model.trainable_weights)


def test_saving_and_loading_keeps_model_and_statistics(model, tmp_path):
    models.save_pretrained(model, str(tmp_path))
    loaded = models.from_pretrained(TFAutoModelForTables, str(tmp_path))
    row = {"numbers": tf.constant([[3.0, 5.0]]), "categories": tf.constant([[1, 2]])}
    np.testing.assert_allclose(loaded(row), model(row), rtol=1e-6)
    assert (loaded.config.means, loaded.config.categories) == ([1.0, -2.0], [["x", "y"], ["u", "v", "w"]])
