"""The patch Transformer and its objective, beside NumPy."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from tff_tx import models
from tff_tx.core.errors import UserError
from tff_tx.models.zoo import patch_transformer

TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture(scope="module")
def model():
    return models.from_config(
        patch_transformer.TFAutoModelForForecasting, "patch_transformer", {**TINY, "prediction_length": 5}, seed=3
    )


def test_patches_overlap_and_the_last_value_is_repeated():
    values = np.arange(12, dtype=np.float32)[None]
    found = patch_transformer.patches(tf.constant(values), 4, 2).numpy()[0]
    padded = [*range(12), 11, 11]
    assert found.tolist() == [padded[start : start + 4] for start in range(0, 12, 2)]
    config = patch_transformer.PatchTransformerConfig(context_length=12, patch_length=4, patch_stride=2)
    assert patch_transformer.num_patches(config) == len(found) == 6


def test_the_model_is_what_the_paper_writes(model, rng):
    """One block by hand: instance normalization, patches, attention, dense layers, head, and back to the unit."""
    weights = {w.name.split("/", 2)[-1].removesuffix(":0"): w.numpy().astype(np.float64) for w in model.weights}
    past = rng.normal(60, 5, [2, 12])

    def dense(x, name):
        return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return scaled * weights[f"{name}/gamma"] + weights[f"{name}/beta"]

    mean, deviation = past.mean(1, keepdims=True), np.sqrt(past.var(1, keepdims=True) + 1e-5)
    padded = np.concatenate([past, past[:, -1:], past[:, -1:]], axis=1)
    cut = np.stack([padded[:, start : start + 4] for start in range(0, 12, 2)], axis=1)
    x = dense((cut - mean[:, :, None]) / deviation[:, :, None], "embed") + weights["positions"]
    y, parts = norm(x, "block_0/attention_norm"), []
    queries, keys, values = (dense(y, f"block_0/{name}") for name in ("query", "key", "value"))
    for head in (slice(0, 4), slice(4, 8)):
        scores = queries[..., head] @ keys[..., head].transpose(0, 2, 1) / 2.0
        attention = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        parts.append(attention @ values[..., head])
    x = x + dense(np.concatenate(parts, -1), "block_0/merge")
    wide = dense(norm(x, "block_0/dense_norm"), "block_0/widen")
    x = x + dense(tf.nn.gelu(wide).numpy(), "block_0/narrow")
    flat = norm(x, "norm").reshape(2, -1)
    head = {w.name: w.numpy() for w in model.head.weights}
    kernel, bias = (next(v for name, v in head.items() if part in name) for part in ("kernel", "bias"))
    wanted = (flat @ kernel + bias) * deviation + mean
    np.testing.assert_allclose(model(past_values=tf.constant(past, tf.float32)).numpy(), wanted, rtol=1e-4)


def test_the_unit_of_a_series_does_not_matter(model, rng):
    past = tf.constant(rng.normal(60, 5, [3, 12]), tf.float32)
    np.testing.assert_allclose(model(past_values=past * 100 + 7), model(past_values=past) * 100 + 7, rtol=1e-3)


def test_saving_and_loading_keeps_the_model(model, tmp_path, rng):
    models.save_pretrained(model, str(tmp_path))
    loaded = models.from_pretrained(patch_transformer.TFAutoModelForForecasting, str(tmp_path))
    past = tf.constant(rng.normal(size=[2, 12]), tf.float32)
    np.testing.assert_allclose(loaded(past_values=past), model(past_values=past), rtol=1e-6)
    assert loaded.config.prediction_length == 5


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"patch_length": 13}, "patch_length=13 do not fit a context of 12"),
        ({"patch_stride": 5}, "patch_stride=5"),
        ({"hidden_size": 9}, "hidden_size=9 is no multiple of num_attention_heads=2"),
        ({"d_model": 9}, "patch_transformer has no field d_model"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(config, told):
    with pytest.raises(UserError, match=told):
        models.from_config(patch_transformer.TFAutoModelForForecasting, "patch_transformer", {**TINY, **config})


def test_metrics_over_batches_are_those_of_all_windows(rng):
    """Sums over batches of unequal size, against NumPy over everything at once."""
    predictions, labels = rng.normal(size=[7, 6]), rng.normal(size=[7, 7])
    objective = models.forecasting([6, 2])
    initialize, update, finalize = objective.metrics_fns
    state = initialize()
    for rows in (slice(0, 4), slice(4, 7)):
        output = collections.namedtuple("Output", "predictions loss")(
            tf.constant(predictions[rows], tf.float32), tf.constant(0.0)
        )
        state = update(state, tf.constant(labels[rows], tf.float32), output)
    found = {name: value.numpy() for name, value in finalize(state).items()}
    future, last = labels[:, 1:], labels[:, :1]
    for h in (2, 6):
        assert found[f"mae_{h}"] == pytest.approx(np.abs(predictions - future)[:, :h].mean(), rel=1e-5)
        assert found[f"rmse_{h}"] == pytest.approx(np.sqrt(np.square(predictions - future)[:, :h].mean()), rel=1e-5)
        assert found[f"last_value_mae_{h}"] == pytest.approx(np.abs(last - future)[:, :h].mean(), rel=1e-5)
        baseline = np.sqrt(np.square(last - future)[:, :h].mean())
        assert found[f"last_value_rmse_{h}"] == pytest.approx(baseline, rel=1e-5)
    assert found["mae"] == found["mae_6"]
    assert (found["num_examples"], found["num_items"]) == (7, 42)
    loss = objective.loss_fn(tf.constant(predictions, tf.float32), tf.constant(labels, tf.float32))
    assert loss.numpy() == pytest.approx(found["loss"], rel=1e-5)
    assert found["loss"] == pytest.approx(found["rmse"] ** 2, rel=1e-5)
