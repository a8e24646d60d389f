"""Models that call `tf.function`s bound to objects, branch over tensors, or convolve groups of channels."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import transformers

from tests.models.keras_models import CLASSES, FEATURES, OBJECTIVE, PACKAGES, sample, spec
from tests.models.test_keras import check_law
from tff_tx import models

IMAGE = (8, 8, 4)


def bound(keras):
    """A `tf.function` of a `tf.Module`, which branches over a tensor, called by a model that does so too."""

    class Scale(tf.Module):
        factor = 3.0

        @tf.function
        def __call__(self, x):
            if tf.reduce_sum(x) > 1e9:
                return x
            return self.factor * x

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.scale, self.head = Scale(), keras.layers.Dense(CLASSES)
            self.head.build([None, FEATURES])
            self.built = True

        @tf.function
        def scaled(self, x):
            return self.scale(x) + 1.0

        def call(self, x):
            if tf.reduce_sum(x) > 1e9:
                x = x + 1.0
            return self.head(self.scaled(x))

    return Model()


def grouped(keras, groups):
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.convolution = keras.layers.Conv2D(8, 3, 2, "same", groups=groups)
            self.head = keras.layers.Dense(CLASSES)
            for layer, shape in ((self.convolution, IMAGE), (self.head, [8])):
                with tf.name_scope(layer.name):
                    layer.build([None, *shape])
            self.built = True

        def call(self, x):
            if tf.reduce_sum(x) > 1e9:  # so that AutoGraph is needed
                x = x + 1.0
            return self.head(tf.reduce_mean(self.convolution(x), [1, 2]))

    return Model()


CASES = pytest.mark.parametrize(
    ("build", "shape"),
    [(bound, (FEATURES,)), (lambda keras: grouped(keras, 2), IMAGE), (lambda keras: grouped(keras, IMAGE[-1]), IMAGE)],
    ids=["bound", "grouped", "depthwise"],
)


@PACKAGES
@CASES
def test_outputs_and_gradients_equal_the_models(keras, build, shape):
    """Of a model that has not been called before: TensorFlow binds a function when it is first used."""
    keras_model, (x, labels) = build(keras), sample(shape)
    model = models.functional_model(keras_model, OBJECTIVE, spec(shape))
    check_law(keras_model, model, x, labels)
    trained = model.predict_on_batch(model.initial_weights, x, training=True)
    np.testing.assert_allclose(trained, keras_model(x), atol=1e-5)


@PACKAGES
@CASES
def test_the_models_own_functions_are_left_as_they_were(keras, build, shape):
    keras_model, (x, _) = build(keras), sample(shape)
    for _ in range(2):
        model = models.functional_model(keras_model, OBJECTIVE, spec(shape))
        for training in (True, False):
            found = model.predict_on_batch(model.initial_weights, x, training=training)
    np.testing.assert_allclose(keras_model(x), found, atol=1e-5)
    np.testing.assert_allclose(tf.function(keras_model)(x[:2]), found[:2], atol=1e-5)


@PACKAGES
@pytest.mark.parametrize("groups", [2, IMAGE[-1]])
def test_grouped_convolutions_have_gradients_on_every_processor(keras, groups):
    """A `Conv2D` op whose filters see a part of the channels has one only with oneDNN."""
    keras_model = grouped(keras, groups)
    graph = models.functional_model(keras_model, OBJECTIVE, spec(IMAGE)).graphs(True).graph
    channels = [(op.inputs[0].shape[-1], op.inputs[1].shape[2]) for op in graph.get_operations() if op.type == "Conv2D"]
    assert all(seen == there for there, seen in channels)
    assert bool(channels) == (groups == 2)


@PACKAGES
@pytest.mark.parametrize("kind", ["cond", "switch_case", "if"])
@pytest.mark.parametrize("in_loop", [False, True])
def test_branches_of_different_shapes_have_gradients(keras, kind, in_loop):
    """One branch gives a weight of shape (1,), which stands for nothing, and is not taken."""

    class Layer(keras.layers.Layer):
        def build(self, input_shape):
            self.nothing = self.add_weight(name="nothing", shape=[1])
            self.kernel = self.add_weight(name="kernel", shape=[FEATURES, FEATURES])

        def chosen(self, x):
            many = tf.shape(x)[0] > 100
            if kind == "cond":
                return tf.cond(many, lambda: self.nothing, lambda: x)
            if kind == "switch_case":
                return tf.switch_case(tf.cast(many, tf.int32), [lambda: x, lambda: self.nothing])
            if many:
                chosen = self.nothing
            else:
                chosen = x
            return chosen

        def step(self, x):
            return tf.ensure_shape(tf.einsum("bi,ij->bj", self.chosen(x), self.kernel), [None, FEATURES])

        def call(self, x):
            if not in_loop:
                return self.step(x)
            return tf.while_loop(lambda i, _: i < 2, lambda i, x: (i + 1, self.step(x)), (0, x))[1]

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.layer, self.head = Layer(), keras.layers.Dense(CLASSES)

        def call(self, x):
            return self.head(self.layer(x))

    keras_model, (x, labels) = Model(), sample()
    keras_model(x)
    model = models.functional_model(keras_model, OBJECTIVE, spec())
    weights = [tf.constant(w) for w in model.initial_weights[0]]

    @tf.function
    def gradients(weights):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            loss = model.loss(model.predict_on_batch((weights, model.initial_weights[1]), x), labels)
        return tape.gradient(loss, weights, unconnected_gradients="zero")

    with tf.GradientTape() as tape:
        loss = OBJECTIVE.loss_fn(keras_model(x), labels)
    variables = {v.name: v for v in keras_model.trainable_weights}
    expected = tape.gradient(loss, variables, unconnected_gradients="zero")
    for name, gradient in zip(model.trainable_names, gradients(weights)):
        np.testing.assert_allclose(gradient, expected[name], atol=1e-5, err_msg=name)
    assert len(variables) == 4


def _convnext(kind):
    config = getattr(transformers, f"{kind}Config")(
        num_channels=3,
        patch_size=2,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        num_stages=2,
        image_size=16,
        num_labels=CLASSES,
    )
    model = getattr(transformers, f"TF{kind}ForImageClassification")(config)
    model.build_in_name_scope()
    x = collections.OrderedDict(pixel_values=tf.random.stateless_normal([2, 3, 16, 16], [0, 1]))
    return model, x, "head"


def _funnel():
    config = transformers.FunnelConfig(
        vocab_size=30, block_sizes=[1, 1], d_model=8, n_head=2, d_head=4, d_inner=16, num_labels=CLASSES
    )
    model = transformers.TFFunnelForSequenceClassification(config)
    model.build_in_name_scope()
    x = collections.OrderedDict(input_ids=tf.random.stateless_uniform([2, 8], [0, 1], 5, 30, tf.int32))
    x["attention_mask"] = tf.ones_like(x["input_ids"])
    return model, x, "lora"


@pytest.mark.slow
@pytest.mark.parametrize(
    "build",
    [
        lambda: _convnext("ConvNext"),
        lambda: _convnext("ConvNextV2"),
        _funnel,
    ],
    ids=["convnext", "convnextv2", "funnel"],
)
def test_models_of_transformers_that_need_it_train(build):
    """With all weights; with the head on features that are computed once; with adapters."""
    keras_model, x, part = build()
    labels, evaluated = tf.constant([1, 2]), []
    shapes = {name: [None, None] if value.shape.rank == 2 else [None, *value.shape[1:]] for name, value in x.items()}
    x_spec = collections.OrderedDict((name, tf.TensorSpec(shapes[name], value.dtype)) for name, value in x.items())
    for trainable in ("all", part):
        lora = models.Lora(targets="(q_head|v_head)/kernel", ranks=(2,)) if trainable == "lora" else None
        model = models.functional_model(
            keras_model, OBJECTIVE, x_spec, trainable=trainable, lora=lora, frozen_dropout=trainable == "all"
        )
        weights = [tf.constant(w) for w in model.initial_weights[0]]
        with tf.GradientTape() as tape:
            tape.watch(weights)
            loss = model.loss(model.predict_on_batch((weights, model.initial_weights[1]), x), labels)
        gradients = tape.gradient(loss, weights)
        assert all(np.all(np.isfinite(tf.convert_to_tensor(gradient))) for gradient in gradients)
        evaluated.append(model.predict_on_batch(model.initial_weights, x, training=False))
    expected = keras_model(**x).logits
    np.testing.assert_allclose(evaluated, [expected, expected], atol=1e-4)
    if part == "head":
        extractor = models.FeatureExtractor(model)
        features = extractor(model.initial_weights, x)
        upper = extractor.model.predict_on_batch(model.initial_weights, features, training=False)
        np.testing.assert_allclose(upper, expected, atol=1e-4)
