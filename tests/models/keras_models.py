"""Small models of both Keras packages, with inputs to run them on."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tff_tx import models

PACKAGES = pytest.mark.parametrize(
    "keras", [pytest.param(tf.keras, id="tf.keras", marks=pytest.mark.slow), pytest.param(tf_keras, id="tf_keras")]
)
FEATURES, CLASSES = 6, 4
OBJECTIVE = models.classification()


def spec(shape=(FEATURES,), seeded=False):
    x = tf.TensorSpec([None, *shape], tf.float32)
    if seeded:
        return collections.OrderedDict([("inputs", x), (models.SEED, tf.TensorSpec([2], tf.int64))])
    return x


def sample(shape=(FEATURES,), batch=5):
    generator = np.random.default_rng(batch)
    x = tf.constant(generator.standard_normal((batch, *shape)), tf.float32)
    return x, tf.constant(generator.integers(0, CLASSES, batch), tf.int32)


def assert_close(found, expected):
    """Equal but for rounding, which is in proportion to the largest terms of sums and not to what is left of them."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


def sequential(keras):
    return keras.Sequential(
        [
            keras.layers.Input([FEATURES]),
            keras.layers.Dense(8, activation="gelu"),
            keras.layers.LayerNormalization(),
            keras.layers.Dense(CLASSES),
        ]
    )


def functional(keras):
    x = keras.Input([FEATURES])
    h = keras.layers.Dense(8, activation="tanh", name="a")(x)
    shared = keras.layers.Dense(8, name="shared")
    h = shared(shared(h)) * tf.reshape(tf.range(8.0), [1, 8]) + h
    return keras.Model(x, keras.layers.Dense(CLASSES)(h))


def subclassed(keras):
    """Weights in a list, a tuple, a dict and a nested container, and a tensor that is no weight."""

    class Containers(keras.layers.Layer):
        def build(self, input_shape):
            new = lambda name: self.add_weight(  # noqa: E731
                name=name, shape=[FEATURES, FEATURES], initializer="random_normal"
            )
            self.in_list = [new("list0"), new("list1")]
            self.in_tuple = (new("tuple0"), 3)
            self.in_dict = {"a": new("dict_a"), "b": 2.0}
            self.nested = {"deep": [{"er": new("nested")}]}
            self.table = tf.random.stateless_uniform([FEATURES, 100], [1, 2])

        def call(self, x):
            for w in (*self.in_list, self.in_tuple[0], self.nested["deep"][0]["er"]):
                x = x + tf.tanh(x @ w)
            return self.in_dict["b"] * (x @ self.in_dict["a"]) + tf.reduce_sum(self.table)

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.blocks = {"one": Containers(), "two": [Containers()]}
            self.head = keras.layers.Dense(CLASSES)

        def call(self, x):
            return self.head(self.blocks["two"][0](self.blocks["one"](x)))

    model = Model()
    model(sample()[0])
    return model


def attention(keras):
    x = keras.Input([3, FEATURES])
    h = keras.layers.MultiHeadAttention(2, 4)(x, x)
    return keras.Model(x, keras.layers.Dense(CLASSES)(h[:, 0]))


def recurrent(keras):
    return keras.Sequential(
        [
            keras.layers.Input([3, FEATURES]),
            keras.layers.LSTM(4, return_sequences=True),
            keras.layers.GRU(4),
            keras.layers.Dense(CLASSES),
        ]
    )


def convolutional(keras):
    model = keras.Sequential(
        [
            keras.layers.Input([8, 8, 3]),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.BatchNormalization(trainable=False),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(CLASSES),
        ]
    )
    for weight in model.layers[1].weights:
        weight.assign(np.linspace(0.5, 1.5, 4))
    return model


SHAPES = {
    sequential: (FEATURES,),
    functional: (FEATURES,),
    subclassed: (FEATURES,),
    attention: (3, FEATURES),
    recurrent: (3, FEATURES),
    convolutional: (8, 8, 3),
}
