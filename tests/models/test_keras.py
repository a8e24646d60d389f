"""`functional_model` of Keras models, of both Keras packages and all three styles."""

import collections
import threading

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
import tf_keras

from tff_tx import models
from tff_tx.errors import UserError

PACKAGES = pytest.mark.parametrize("keras", [tf.keras, tf_keras], ids=["tf.keras", "tf_keras"])
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


def check_law(keras_model, model, x, labels):
    """Outputs and gradients equal the original's."""
    with tf.GradientTape() as tape:
        expected = keras_model(x)
        loss = OBJECTIVE.loss_fn(expected, labels)
    by_name = dict(
        zip(
            [v.name for v in keras_model.trainable_weights],
            tape.gradient(loss, keras_model.trainable_weights),
        )
    )
    trainable = [tf.constant(w) for w in model.initial_weights[0]]
    with tf.GradientTape() as tape:
        tape.watch(trainable)
        logits = model.predict_on_batch((trainable, model.initial_weights[1]), x, training=False)
        loss = model.loss(logits, labels)
    np.testing.assert_allclose(logits, expected, atol=1e-5, rtol=1e-5)
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
    np.testing.assert_allclose(compute(weights, x), keras_model(x), atol=1e-5, rtol=1e-5)


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
    np.testing.assert_allclose(compute(weights, x), expected, atol=1e-5)


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
        np.testing.assert_allclose(values, expected[i], atol=1e-5)


@PACKAGES
def test_frozen_batch_normalization_keeps_its_statistics(keras):
    keras_model = convolutional(keras)
    model = models.functional_model(keras_model, OBJECTIVE, spec((8, 8, 3)))
    assert len(model.non_trainable_names) == 4
    x, _ = sample((8, 8, 3))
    training = model.predict_on_batch(model.initial_weights, x, training=True)
    np.testing.assert_allclose(training, keras_model(x), atol=1e-5)


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
    np.testing.assert_allclose(predict([1, 2], False), plain, atol=1e-5)
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
    np.testing.assert_allclose(logits, keras_model(x + 1.0, right=x)[0], atol=1e-5)


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
        np.testing.assert_allclose(logits, keras_model(inputs), atol=1e-5)
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


def refused(keras_model, x_spec=None, error=UserError):
    with pytest.raises(error) as caught:
        models.functional_model(keras_model, OBJECTIVE, spec() if x_spec is None else x_spec)
    return str(caught.value)


@PACKAGES
def test_batch_normalization_is_refused(keras):
    norm = keras.layers.BatchNormalization(name="norm")
    keras_model = keras.Sequential([keras.layers.Input([FEATURES]), norm])
    message = refused(keras_model, error=models.StatefulModelError)
    assert message == (
        "Sequential changes state while it trains (layer norm, BatchNormalization), which "
        "averaging of weights would mix up between clients: use LayerNormalization or "
        "GroupNormalization instead, or set layer.trainable = False."
    )


@PACKAGES
def test_a_layer_that_assigns_a_variable_is_refused(keras):
    class Counting(keras.layers.Layer):
        def build(self, input_shape):
            self.calls = self.add_weight(name="calls", shape=[], trainable=False)
            self.scale = self.add_weight(name="scale", shape=[])

        def call(self, x):
            self.calls.assign_add(1.0)
            return x * self.scale

    keras_model = keras.Sequential([Counting()])
    keras_model(sample()[0])
    message = refused(keras_model, error=models.StatefulModelError)
    assert "Sequential changes state while it trains" in message
    assert "assign_add" in message


@PACKAGES
def test_a_variable_outside_of_any_layer_is_refused_by_name(keras):
    outside = tf.Variable(2.0, name="temperature")

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.head = keras.layers.Dense(CLASSES)

        def call(self, x):
            return self.head(x) / outside

    keras_model = Model()
    keras_model(sample()[0])
    message = refused(keras_model)
    assert "Model uses variables that are not attributes of its layers (temperature:0)" in message
    assert "add_weight" in message


@PACKAGES
def test_a_variable_outside_of_any_layer_that_is_assigned_is_refused(keras):
    outside = tf.Variable(2.0, name="temperature")

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.head = keras.layers.Dense(CLASSES)

        def call(self, x):
            outside.assign_add(1.0)
            return self.head(x)

    keras_model = Model()
    keras_model(sample()[0])
    message = refused(keras_model, error=models.StatefulModelError)
    assert "Model changes state while it trains (variables temperature:0)" in message


@PACKAGES
def test_regularizers_are_refused(keras):
    dense = keras.layers.Dense(CLASSES, kernel_regularizer="l2")
    keras_model = keras.Sequential([keras.layers.Input([FEATURES]), dense])
    message = refused(keras_model)
    assert "Sequential has 1 regularization losses" in message
    assert "use the weight decay of the optimizer instead" in message


@PACKAGES
@pytest.mark.parametrize("called", [False, True])
def test_losses_added_in_call_are_refused(keras, called):
    dense = keras.layers.Dense(CLASSES, activity_regularizer="l2")
    keras_model = keras.Sequential([keras.layers.Input([FEATURES]), dense])
    if called:
        keras_model(sample()[0])
    assert "Sequential" in refused(keras_model)
    assert "losses" in refused(keras_model)


@PACKAGES
def test_a_model_without_weights_is_refused(keras):
    unbuilt = keras.Sequential([keras.layers.Dense(CLASSES)])
    message = refused(unbuilt)
    assert "Sequential has no weights yet: call it once on a batch" in message


@PACKAGES
def test_a_stateful_recurrent_layer_is_refused(keras):
    cells = keras.layers.LSTM(4, stateful=True, name="memory")
    keras_model = keras.Sequential([keras.layers.Input([3, FEATURES], batch_size=2), cells])
    message = refused(keras_model, spec((3, FEATURES)))
    assert "layer memory, LSTM with stateful=True" in message
    assert "stateful=False" in message


@PACKAGES
def test_a_lookup_table_is_refused(keras):
    words = keras.layers.StringLookup(vocabulary=["a", "b", "c"])
    keras_model = keras.Sequential([words, keras.layers.Embedding(4, CLASSES)])
    keras_model(tf.constant(["a", "c"]))
    message = refused(keras_model, tf.TensorSpec([None], tf.string))
    assert "lookup table" in message
    assert "when the data is prepared" in message


@PACKAGES
def test_random_numbers_that_no_seed_reaches_are_refused(keras):
    class Noise(keras.layers.Layer):
        def call(self, x):
            return x + tf.random.gamma([], 2.0)

    keras_model, (x, _) = keras.Sequential([Noise(), keras.layers.Dense(CLASSES)]), sample()
    keras_model(x)
    message = refused(keras_model, spec(seeded=True))
    assert "draws random numbers with RandomGamma, which no seed reaches" in message
    model = models.functional_model(keras_model, OBJECTIVE, spec())
    assert model.predict_on_batch(model.initial_weights, x, training=True).shape == [5, CLASSES]
