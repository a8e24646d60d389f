"""Keras models that `functional_model` refuses, and what it says."""

import pytest
import tensorflow as tf

from tests.models.keras_models import CLASSES, FEATURES, OBJECTIVE, PACKAGES, sample, spec
from tff_tx import models
from tff_tx.core.errors import UserError


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
        "GroupNormalization instead, set layer.trainable = False, or train other weights alone, as with "
        "model.trainable=head."
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
