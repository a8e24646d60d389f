"""What is trained, and that nothing is computed, kept or sent for the rest."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests import tiny
from tests.models import zoo
from tff_tx import algorithms, models, runtime
from tff_tx.core.errors import UserError
from tff_tx.models import trainable

HEADS = {
    "bert": {"dense", "LayerNorm", "predictions"},
    "distilbert": {"pre_classifier", "classifier"},
    "roberta": {"classifier"},
    "albert": {"classifier"},
    "electra": {"classifier"},
    "deberta-v2": {"pooler", "classifier"},
    "vit": {"classifier"},
    "swin": {"classifier"},
}
"""By architecture, the layers beside the base; the language models' outputs but BERT's are their embeddings."""


@functools.cache
def built(name):
    return zoo.BY_NAME[name].build()


@pytest.mark.parametrize("name", HEADS)
def test_the_head_is_what_is_beside_the_base(name):
    chosen = trainable.selected(built(name), "head")
    base = {id(v) for v in getattr(built(name), built(name).base_model_prefix).weights}
    assert chosen
    assert not base & {id(v) for v in chosen}
    assert {id(v) for v in built(name).trainable_weights} == base & {id(v) for v in built(name).trainable_weights} | {
        id(v) for v in chosen
    }
    for variable in chosen:
        assert any(layer in variable.name for layer in HEADS[name]), variable.name


@pytest.mark.parametrize("name", sorted(set(zoo.NAMES) - set(HEADS)))
def test_a_language_model_with_tied_embeddings_has_no_head(name):
    with pytest.raises(UserError, match="model.trainable=head: TF.* has no such weights"):
        trainable.selected(built(name), "head")


@pytest.mark.parametrize("name", zoo.NAMES)
def test_biases_are_vectors_and_nearly_nothing(name):
    if name == "t5":
        with pytest.raises(UserError, match="model.trainable=bias: TFT5.* has no such weights"):
            trainable.selected(built(name), "bias")
        return
    head = {v.name for v in trainable.selected(built(name), "lora")}
    chosen = [v for v in trainable.selected(built(name), "bias") if v.name not in head]
    assert len(chosen) >= 8
    for variable in chosen:
        assert max(variable.shape) == np.prod(variable.shape), variable.name
    assert not [v.name for v in chosen if "kernel" in v.name or "gamma" in v.name]


@pytest.mark.parametrize("keras", [tf.keras, tf_keras])
def test_batch_normalization_below_the_head_keeps_its_statistics(keras):
    norm = keras.layers.BatchNormalization(name="norm")
    model = keras.Sequential([keras.layers.Input([5]), keras.layers.Dense(4), norm, keras.layers.Dense(3)])
    for weight in norm.weights:
        weight.assign(np.linspace(0.5, 1.5, 4))
    x, x_spec = np.random.default_rng(0).normal(size=[6, 5]).astype(np.float32), tf.TensorSpec([None, 5])
    found = models.functional_model(model, models.classification(), x_spec, trainable="head")
    assert [v.split("/")[-1] for v in found.trainable_names] == ["kernel:0", "bias:0"]
    outputs = [found.predict_on_batch(found.initial_weights, x, training) for training in (True, False)]
    np.testing.assert_array_equal(*outputs)
    np.testing.assert_allclose(outputs[0], model(x, training=False), rtol=1e-5)
    assert norm.trainable
    with pytest.raises(models.StatefulModelError, match="layer norm"):
        models.functional_model(model, models.classification(), x_spec, trainable="layers:beta")


def test_layers_are_chosen_by_a_regular_expression():
    chosen = trainable.selected(built("distilbert"), r"layers:layer_\._1/|classifier")
    names = [v.name for v in built("distilbert").trainable_weights]
    assert [v.name for v in chosen] == [n for n in names if "layer_._1/" in n or "classifier" in n]
    assert 0 < len(chosen) < len(names)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("heads", "model.trainable=heads: must be one of all, head, bias, layers:RE, lora"),
        ("layers:(", r"model.trainable=layers:\( is no regular expression"),
        ("layers:nowhere", "model.trainable=layers:nowhere: TFDistilBert.* has no such weights"),
    ],
)
def test_other_choices_are_refused(spec, sentence):
    with pytest.raises(UserError, match=sentence):
        trainable.selected(built("distilbert"), spec)


def test_the_head_of_a_keras_model_is_its_last_layer():
    model = tf_keras.Sequential([tf_keras.layers.Dense(4), tf_keras.layers.Dense(3), tf_keras.layers.Dropout(0.1)])
    model.build([None, 5])
    assert [v.shape for v in trainable.selected(model, "head")] == [[4, 3], [3]]


@functools.cache
def head_only():
    member = zoo.BY_NAME["distilbert"]
    return models.functional_model(built("distilbert"), member.objective, member.x_spec(), trainable="head")


@pytest.mark.slow
def test_the_others_have_no_gradient_and_the_head_has_its_own():
    member, model = zoo.BY_NAME["distilbert"], head_only()
    assert model.trainable_names == tuple(v.name for v in trainable.selected(built("distilbert"), "head"))
    x, labels = member.sample()
    weights = tf.nest.map_structure(tf.convert_to_tensor, model.initial_weights)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(weights)
        loss = model.loss(model.predict_on_batch(weights, x, training=False), labels)
    trained, others = tape.gradient(loss, weights)
    assert all(g is None for g in others)
    keras_model = built("distilbert")
    with tf.GradientTape() as tape:
        inputs = {name: value for name, value in x.items() if name != models.SEED}
        loss = model.loss(keras_model(inputs, training=False).logits, labels)
    expected = tape.gradient(loss, trainable.selected(keras_model, "head"))
    for gradient, wanted in zip(trained, expected):
        np.testing.assert_allclose(gradient, wanted, atol=1e-6)
    assert max(np.abs(g).max() for g in trained) > 1e-3


def fed_avg(model, learning_rate=0.5):
    return algorithms.build_fed_avg(
        model,
        algorithms.Options(
            client_optimizer_fn=lambda rate: algorithms.build_optimizer("sgd", rate),
            server_optimizer=algorithms.build_optimizer("sgd", 1.0),
            client_learning_rate=learning_rate,
        ),
    )


def test_only_what_is_trained_is_sent_and_changes():
    model = tiny.linear_model(frozen=True)
    trained, frozen = (sum(w.nbytes for w in part) for part in model.initial_weights)
    assert frozen > 0
    with runtime.LocalEngine(fed_avg(model), threads=1) as engine:
        clients = [tiny.batches(*tiny.client_data(20, seed=k), 5) for k in range(2)]
        output = tiny.run_rounds(engine, clients, rounds=2)
        assert engine.traffic().download_bytes == trained
        assert trained < engine.traffic().upload_bytes < trained + 100
        weights = engine.model_weights(output.state)
    for before, after in zip(model.initial_weights[1], weights.non_trainable):
        np.testing.assert_array_equal(before, after)
    assert any(np.any(before != after) for before, after in zip(model.initial_weights[0], weights.trainable))


def test_where_all_is_trained_all_is_sent():
    model = tiny.linear_model()
    with runtime.LocalEngine(fed_avg(model), threads=1) as engine:
        assert engine.traffic().download_bytes == sum(w.nbytes for w in model.initial_weights[0])
