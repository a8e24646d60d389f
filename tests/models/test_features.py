"""A model cut where its frozen part ends computes what the whole computes."""

import collections
import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.models import zoo
from tff_tx import models
from tff_tx.core.errors import UserError
from tff_tx.models.tracing import cut

UPPER = {
    "bert": r"layers:layer_\._1/",
    "distilbert": r"layers:layer_\._1/",
    "gpt2": r"layers:h_\._1/",
    "opt": r"layers:layers\.1/",
    "t5": r"layers:decoder/block_\._1/",
    "vit": r"layers:layer_\._1/",
}
LAST = {"distilbert": r"layer_\._1/.*(q_lin|v_lin)/kernel", "vit": r"layer_\._1/.*(query|value)/kernel"}


def each(names, fast):
    """Parameters, of which all but a few are for slow tests: each traces and cuts a model twice."""
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in names]


@functools.cache
def whole(name, trainable):
    member = zoo.BY_NAME[name].shallow() if trainable == "head" else zoo.BY_NAME[name]
    lora = models.Lora(ranks=(2,), targets=LAST[name], dropout=0.2) if trainable == "lora" else None
    return models.functional_model(
        member.build(), member.objective, member.x_spec(), trainable=trainable, lora=lora, frozen_dropout=False
    )


@functools.cache
def extractor(name, trainable):
    return models.FeatureExtractor(whole(name, trainable))


def shaken(model):
    """Weights of which none is zero."""
    generator = np.random.default_rng(0)
    trained, frozen = model.initial_weights
    return (
        [tf.constant(w + generator.normal(size=w.shape, scale=0.1).astype(np.float32)) for w in trained],
        [tf.constant(w) for w in frozen],
    )


def upper_inputs(cut_model, weights, x, padding=0):
    """What the upper part takes for a batch: features without those of padding, which then are zeros."""
    features = cut_model(weights, x)
    inputs = collections.OrderedDict((name, x[name]) for name in (*cut_model.inputs, models.SEED))
    for name, value in features.items():
        spec = cut_model.specs[name]
        assert spec.is_compatible_with(value)
        if padding and spec.shape.rank > 1 and spec.shape[1] is None:
            value = tf.pad(value[:, :-padding], [[0, 0], [0, padding]] + [[0, 0]] * (spec.shape.rank - 2))
        inputs[name] = value
    return inputs


def loss_and_gradients(model, weights, x, y, training):
    with tf.GradientTape() as tape:
        tape.watch(weights[0])
        output = model.predict_on_batch(weights, x, training=training)
        loss = model.loss(output, y)
    return output, tape.gradient(loss, weights[0], unconnected_gradients=tf.UnconnectedGradients.ZERO)


def check_same(name, trainable, padding):
    member, full, parted = zoo.BY_NAME[name], whole(name, trainable), extractor(name, trainable)
    weights = shaken(full)
    x, y = member.sample(padding=padding)
    upper = upper_inputs(parted, weights, x, padding)
    for training in (True, False):
        expected, wanted = loss_and_gradients(full, weights, x, y, training)
        found, gradients = loss_and_gradients(parted.model, weights, upper, y, training)
        if member.objective.label_spec.shape.rank == 2 and padding:
            expected, found = expected[:, :-padding], found[:, :-padding]
        np.testing.assert_allclose(found, expected, atol=2e-5)
        assert max(np.abs(g).max() for g in map(tf.convert_to_tensor, wanted)) > 1e-4
        for gradient, one in zip(gradients, wanted):
            np.testing.assert_allclose(tf.convert_to_tensor(gradient), tf.convert_to_tensor(one), atol=1e-5, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", each(["bert", "distilbert", "roberta", "albert", "electra", "vit", "swin"], fast=["distilbert"])
)
def test_a_head_on_features_is_the_whole(name):
    check_same(name, "head", padding=0 if name in ("vit", "swin") else 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", each(UPPER, fast=["bert"]))
def test_upper_layers_on_features_are_the_whole(name):
    check_same(name, UPPER[name], padding=0 if name == "vit" else 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", each(LAST, fast=["distilbert"]))
def test_adapters_of_the_last_layer_on_features_are_the_whole(name):
    check_same(name, "lora", padding=0 if name == "vit" else 2)


def test_of_a_classifier_the_features_are_one_vector_an_example():
    parted = extractor("distilbert", "head")
    assert [spec.shape.as_list() for spec in parted.specs.values()] == [[None, 16]]
    assert parted.inputs == ()
    assert set(parted.model.input_spec[0]) == {"feature_0", models.SEED}


def test_of_upper_layers_they_are_one_vector_a_token():
    """The mask of attention is no feature: it needs no weights."""
    parted = extractor("bert", UPPER["bert"])
    assert [spec.shape.as_list() for spec in parted.specs.values()] == [[None, None, 16]]
    assert parted.inputs == ("attention_mask",)


@pytest.mark.parametrize("name", each(LAST, fast=["distilbert"]))
def test_what_one_product_makes_of_a_feature_is_no_other(name):
    """Queries, keys and values before their adapters are all made of the layer's input."""
    length = None if name == "distilbert" else (zoo.IMAGE // 8) ** 2 + 1
    parted = extractor(name, "lora")
    assert [spec.shape.as_list() for spec in parted.specs.values()] == [[None, length, 16]]


def test_features_do_not_depend_on_the_seed_and_dropout_above_does():
    name, trainable = "bert", UPPER["bert"]
    parted, weights = extractor(name, trainable), shaken(whole(name, trainable))
    inputs = []
    for seed in ((1, 2), (3, 4)):
        x, _ = zoo.BY_NAME[name].sample(seed=seed)
        inputs.append(upper_inputs(parted, weights, x))
    np.testing.assert_array_equal(inputs[0]["feature_0"], inputs[1]["feature_0"])
    outputs = [parted.model.predict_on_batch(weights, x, training=True) for x in inputs]
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-3


def test_with_frozen_dropout_the_same_seed_matters_below():
    """The switch is what makes features possible: by default dropout is on in the frozen part too."""
    member = zoo.BY_NAME["distilbert"]
    usual = models.functional_model(member.build(), member.objective, member.x_spec(), trainable="head")
    with pytest.raises(
        UserError, match="model.cache_features: below the lowest trained weight TFDistilBert.* has 0 of its"
    ):
        models.FeatureExtractor(usual)


@pytest.mark.slow
def test_a_model_that_was_differentiated_before_is_cut_the_same():
    """TensorFlow adds outputs to a function when it differentiates it."""
    name, trainable = "distilbert", "head"
    before, weights = extractor(name, trainable), shaken(whole(name, trainable))
    x, y = zoo.BY_NAME[name].sample()
    loss_and_gradients(whole(name, trainable), weights, x, y, True)
    after = models.FeatureExtractor(whole(name, trainable))
    assert after.specs == before.specs
    np.testing.assert_array_equal(after(weights, x)["feature_0"], before(weights, x)["feature_0"])


@pytest.mark.slow
def test_the_residual_of_adapters_changes_and_so_does_what_is_computed_with_it():
    member = zoo.BY_NAME["distilbert"]
    lora = models.Lora(ranks=(2,), targets=LAST["distilbert"], residual=True)
    model = models.functional_model(
        member.build(), member.objective, member.x_spec(), trainable="lora", lora=lora, frozen_dropout=False
    )
    parted, weights = models.FeatureExtractor(model), shaken(model)
    at = model.adapter_positions[0].residual
    weights[1][at] = tf.ones_like(weights[1][at])
    x, _ = member.sample()
    np.testing.assert_allclose(
        parted.model.predict_on_batch(weights, upper_inputs(parted, weights, x), training=False),
        model.predict_on_batch(weights, x, training=False),
        atol=2e-5,
    )


@pytest.mark.parametrize(
    ("name", "trainable", "sentence"),
    [
        ("distilbert", "bias", "below the lowest trained weight TFDistilBert.* has 0 of its .* matrix products"),
        pytest.param(
            "deberta-v2",
            "head",
            "TFDebertaV2.* has a gradient of its own making at .*dropout",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_cannot_be_cut_is_refused(name, trainable, sentence):
    with pytest.raises(UserError, match=sentence):
        extractor(name, trainable)


def test_a_keras_model_is_cut_too():
    inputs = tf_keras.Input([6], name="x")
    hidden = tf_keras.layers.Dropout(0.5)(tf_keras.layers.Dense(4, activation="relu")(inputs))
    model = tf_keras.Model({"x": inputs}, tf_keras.layers.Dense(3)(hidden))
    spec = collections.OrderedDict([("x", tf.TensorSpec([None, 6])), (models.SEED, tf.TensorSpec([2], tf.int64))])
    full = models.functional_model(model, models.classification(), spec, trainable="head", frozen_dropout=False)
    parted = models.FeatureExtractor(full)
    x = collections.OrderedDict([("x", tf.constant(np.random.default_rng(0).normal(size=[5, 6]), tf.float32))])
    features = parted(full.initial_weights, x | {models.SEED: tf.zeros([2], tf.int64)})
    kernel, bias = model.layers[1].get_weights()
    np.testing.assert_allclose(features["feature_0"], np.maximum(x["x"] @ kernel + bias, 0), atol=1e-6)


def test_ancestors_are_each_op_once():
    with tf.Graph().as_default():
        a = tf.constant(1.0)
        b = a + a
        assert sorted(op.name for op in cut.ancestors([b * b])) == ["Const", "add", "mul"]
