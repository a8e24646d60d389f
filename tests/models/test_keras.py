"""`functional_model` of Keras models, of both Keras packages and all three styles."""

import collections
import threading

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
import tf_keras

from tests.models.keras_models import (
    CLASSES,
    FEATURES,
    OBJECTIVE,
    PACKAGES,
    SHAPES,
    assert_close,
    convolutional,
    functional,
    recurrent,
    sample,
    sequential,
    spec,
    subclassed,
)
from tff_tx import models


def check_law(keras_model, model, x, labels):
    """Outputs and gradients equal the original's."""
    with tf.GradientTape() as tape:
        expected = keras_model(x)
        loss = OBJECTIVE.loss_fn(expected, labels)
    by_name = dict(
        zip([v.name for v in keras_model.trainable_weights], tape.gradient(loss, keras_model.trainable_weights))
    )
    trainable = [tf.constant(w) for w in model.initial_weights[0]]
    with tf.GradientTape() as tape:
        tape.watch(trainable)
        logits = model.predict_on_batch((trainable, model.initial_weights[1]), x, training=False)
        loss = model.loss(logits, labels)
    assert_close(logits, expected)
    gradients = tape.gradient(loss, trainable)
    assert len(by_name) == len(keras_model.trainable_weights)
    assert set(model.trainable_names) == {k for k, g in by_name.items() if g is not None}
    for name, gradient in zip(model.trainable_names, gradients):
        np.testing.assert_allclose(gradient, by_name[name], atol=1e-5, rtol=1e-4, err_msg=name)


@PACKAGES
@pytest.mark.parametrize("build", SHAPES, ids=lambda b: b.__name__)
def test_outputs_and_gradients_equal_the_models(keras, build):
    keras_model, (x, labels) = build(keras), sample(SHAPES[build])
    model = models.functional_model(keras_model, OBJECTIVE, spec(SHAPES[build]))
    check_law(keras_model, model, x, labels)


@PACKAGES
@pytest.mark.parametrize("build", [functional, subclassed, recurrent], ids=lambda b: b.__name__)
def test_outputs_are_the_same_inside_tff(keras, build):
    keras_model, (x, _) = build(keras), sample(SHAPES[build])
    model = models.functional_model(keras_model, OBJECTIVE, spec(SHAPES[build]))

    @tff.tensorflow.computation
    def compute(weights, x):
        return model.predict_on_batch(weights, x, training=False)

    weights = tf.nest.map_structure(tf.convert_to_tensor, model.initial_weights)
    assert_close(compute(weights, x), keras_model(x))


@PACKAGES
@pytest.mark.parametrize("training", [False, True])
def test_a_graph_made_inside_tff_compares_tensors_by_value(keras, training):
    """In the graphs of TensorFlow 1, which TFF's are, `==` asks whether two tensors are one."""

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.head = keras.layers.Dense(CLASSES)

        def call(self, x):
            return self.head(tf.where(x == 0.0, 7.0, x))

    keras_model = Model()
    x = tf.nn.relu(sample()[0])
    expected = keras_model(x)
    model = models.functional_model(keras_model, OBJECTIVE, spec())

    @tff.tensorflow.computation
    def compute(weights, x):
        return model.predict_on_batch(weights, x, training=training)

    weights = tf.nest.map_structure(tf.convert_to_tensor, model.initial_weights)
    assert_close(compute(weights, x), expected)


@PACKAGES
def test_threads_may_make_and_call_models_at_once(keras):
    """While one thread's model has tensors for variables, others see their own."""
    x, _ = sample()
    keras_models = [sequential(keras) for _ in range(4)]
    expected = [m(x).numpy() for m in keras_models]
    found = {}

    def work(i):
        model = models.functional_model(keras_models[i], OBJECTIVE, spec())
        found[i] = model.predict_on_batch(model.initial_weights, x, training=False).numpy()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0, 1, 2, 3]
    for i, values in found.items():
        assert_close(values, expected[i])


@PACKAGES
def test_frozen_batch_normalization_keeps_its_statistics(keras):
    keras_model = convolutional(keras)
    model = models.functional_model(keras_model, OBJECTIVE, spec((8, 8, 3)))
    assert len(model.non_trainable_names) == 4
    x, _ = sample((8, 8, 3))
    training = model.predict_on_batch(model.initial_weights, x, training=True)
    assert_close(training, keras_model(x))


@PACKAGES
def test_a_frozen_layer_is_not_trainable(keras):
    keras_model = sequential(keras)
    keras_model.layers[0].trainable = False
    model = models.functional_model(keras_model, OBJECTIVE, spec())
    assert model.non_trainable_names == tuple(v.name for v in keras_model.layers[0].weights)
    x, labels = sample()
    check_law(keras_model, model, x, labels)


@PACKAGES
@pytest.mark.parametrize(
    "noise",
    [
        lambda keras: keras.layers.Dropout(0.5),
        lambda keras: keras.layers.GaussianNoise(1.0),
        lambda keras: keras.layers.GaussianDropout(0.5),
        lambda keras: keras.layers.AlphaDropout(0.5),
        lambda keras: keras.layers.RandomFlip(),
        lambda keras: keras.layers.RandomTranslation(0.4, 0.4),
        lambda keras: keras.layers.RandomContrast(0.9),
    ],
    ids=["dropout", "noise", "gaussian", "alpha", "flip", "translation", "contrast"],
)
def test_noise_is_a_function_of_the_seed(keras, noise):
    x, _ = sample((8, 8, 3), batch=6)

    def build():
        keras_model = keras.Sequential([noise(keras), keras.layers.Flatten()])
        tail = keras.layers.Dense(CLASSES, kernel_initializer=keras.initializers.GlorotUniform(1))
        keras_model.add(tail)
        keras_model(x)
        model = models.functional_model(keras_model, OBJECTIVE, spec((8, 8, 3), seeded=True))

        def predict(seed, training):
            batch = collections.OrderedDict(inputs=x)
            batch[models.SEED] = tf.constant(seed, tf.int64)
            return model.predict_on_batch(model.initial_weights, batch, training=training).numpy()

        return keras_model, predict

    keras_model, predict = build()
    first = predict([1, 2], True)
    np.testing.assert_array_equal(first, predict([1, 2], True))
    np.testing.assert_array_equal(first, build()[1]([1, 2], True))
    assert np.abs(first - predict([1, 3], True)).max() > 1e-4
    assert np.abs(first - predict([2, 2], True)).max() > 1e-4
    plain = keras_model(x, training=False)
    assert_close(predict([1, 2], False), plain)
    np.testing.assert_array_equal(predict([1, 2], False), predict([3, 4], False))


@PACKAGES
def test_call_with_several_required_arguments_gets_them_by_name(keras):
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.head = keras.layers.Dense(CLASSES)

        def call(self, left, right, training=False):
            return self.head(left - 2.0 * right), "not a tensor of predictions"

    keras_model, (x, _) = Model(), sample()
    keras_model(x, right=x)
    one = tf.TensorSpec([None, FEATURES], tf.float32)
    specs = collections.OrderedDict(right=one, left=one)
    model = models.functional_model(keras_model, OBJECTIVE, specs)
    batch = collections.OrderedDict(right=x, left=x + 1.0)
    logits = model.predict_on_batch(model.initial_weights, batch, training=True)
    assert_close(logits, keras_model(x + 1.0, right=x)[0])


@pytest.mark.slow
@PACKAGES
def test_python_control_flow_on_tensors_works(keras):
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.positive, self.negative = keras.layers.Dense(CLASSES), keras.layers.Dense(CLASSES)

        def call(self, x):
            total = tf.reduce_sum(x)
            for _ in tf.range(2):
                total = total + 0.0
            if total > 0:
                return self.positive(x)
            return self.negative(x)

    keras_model, (x, _) = Model(), sample()
    keras_model(tf.abs(x)), keras_model(-tf.abs(x))
    model = models.functional_model(keras_model, OBJECTIVE, spec())
    assert len(model.trainable_names) == 4
    for inputs in (tf.abs(x), -tf.abs(x)):
        logits = model.predict_on_batch(model.initial_weights, inputs, training=False)
        assert_close(logits, keras_model(inputs))
    assert np.abs(keras_model(tf.abs(x)) - keras_model.negative(tf.abs(x))).max() > 1e-3


@PACKAGES
def test_a_layer_that_is_a_tf_function_is_traced_with_the_clients_weights(keras):
    class Layer(keras.layers.Layer):
        def build(self, input_shape):
            self.kernel = self.add_weight(name="kernel", shape=[FEATURES, CLASSES])

        @tf.function
        def call(self, x):
            return x @ self.kernel

    keras_model, (x, labels) = keras.Sequential([Layer()]), sample()
    keras_model(x)
    model = models.functional_model(keras_model, OBJECTIVE, spec())
    check_law(keras_model, model, x, labels)
    zeros = tf.nest.map_structure(np.zeros_like, model.initial_weights)
    assert not np.any(model.predict_on_batch(zeros, x, training=False))
    assert np.any(keras_model(x))


def test_weights_beyond_a_layers_own_attributes_in_mixed_types():
    class Layer(tf_keras.layers.Layer):
        def build(self, input_shape):
            self.index = self.add_weight(
                name="index", shape=[CLASSES], dtype=tf.int32, trainable=False, initializer="ones"
            )
            self.kernel = self.add_weight(name="kernel", shape=[FEATURES, CLASSES])

        def call(self, x):
            return tf.gather(x @ self.kernel, self.index, axis=1)

    keras_model, (x, labels) = tf_keras.Sequential([Layer()]), sample()
    keras_model(x)
    model = models.functional_model(keras_model, OBJECTIVE, spec())
    assert model.initial_weights[1][0].dtype == np.int32
    check_law(keras_model, model, x, labels)
