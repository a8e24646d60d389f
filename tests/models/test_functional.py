"""The laws of `functional_model`, on one small Transformer of each kind."""

import collections
import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
import transformers

from tests.models import zoo
from tff_tx import models
from tff_tx.core.errors import UserError

TEXT = [p for p in zoo.ALL if zoo.BY_NAME[p.values[0]].is_text]
TIED = ["bert", "gpt2", "t5"]

Reference = collections.namedtuple("Reference", "x labels logits loss gradients")


@functools.cache
def functional(name):
    return zoo.BY_NAME[name].functional()


@functools.cache
def reference(name):
    """What the original model and `tf.GradientTape` give."""
    member, model = zoo.BY_NAME[name], functional(name).keras_model
    x, labels = member.sample()
    with tf.GradientTape() as tape:
        logits = model(without_seed(x), training=False).logits
        loss = member.objective.loss_fn(logits, labels)
    gradients = tape.gradient(loss, model.trainable_weights)
    return Reference(
        x,
        labels,
        logits.numpy(),
        loss.numpy(),
        {
            v.name: None if g is None else tf.convert_to_tensor(g).numpy()
            for v, g in zip(model.trainable_weights, gradients)
        },
    )


def without_seed(x):
    return {name: value for name, value in x.items() if name != models.SEED}


@functools.cache
def compiled(model, training):
    """One graph for batches of all sizes and lengths, as in a federated round."""
    weights = tf.nest.map_structure(tf.convert_to_tensor, model.initial_weights)
    return tf.function(
        lambda x: model.predict_on_batch(weights, x, training=training), input_signature=[model.input_spec[0]]
    )


def predict(model, x, training=False):
    return compiled(model, training)(x).numpy()


def loss_and_gradients(model, weights, x, labels):
    trainable = [tf.convert_to_tensor(w) for w in weights[0]]
    with tf.GradientTape() as tape:
        tape.watch(trainable)
        logits = model.predict_on_batch((trainable, weights[1]), x, training=False)
        loss = model.loss(logits, labels)
    gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, trainable)]
    return logits, loss, gradients


def check_gradients(model, gradients, expected):
    assert len(gradients) == len(model.trainable_names)
    for name, gradient in zip(model.trainable_names, gradients):
        np.testing.assert_allclose(gradient, expected[name], atol=1e-5, rtol=1e-5, err_msg=name)
    assert max(np.abs(g).max() for g in gradients) > 1e-3  # the comparison is not one of zeros


@pytest.mark.parametrize("name", zoo.ALL)
def test_outputs_and_gradients_equal_the_models(name):
    model, expected = functional(name), reference(name)
    logits, loss, gradients = loss_and_gradients(model, model.initial_weights, expected.x, expected.labels)
    np.testing.assert_allclose(logits, expected.logits, atol=1e-5)
    np.testing.assert_allclose(loss, expected.loss, atol=1e-5)
    check_gradients(model, [g.numpy() for g in gradients], expected.gradients)


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.ALL)
def test_outputs_and_gradients_are_the_same_inside_tff(name):
    model, expected = functional(name), reference(name)

    @tff.tensorflow.computation
    def compute(weights, x, labels):
        logits, loss, gradients = loss_and_gradients(model, weights, x, labels)
        return logits, loss, gradients

    weights = tf.nest.map_structure(tf.convert_to_tensor, model.initial_weights)
    logits, loss, gradients = compute(weights, expected.x, expected.labels)
    np.testing.assert_allclose(logits, expected.logits, atol=1e-5)
    np.testing.assert_allclose(loss, expected.loss, atol=1e-5)
    check_gradients(model, list(gradients), expected.gradients)


@pytest.mark.parametrize("name", zoo.ALL)
def test_every_weight_appears_once_with_its_value(name):
    model = functional(name)
    expected = {v.name: v.numpy() for v in model.keras_model.weights}
    names = model.trainable_names + model.non_trainable_names
    values = [*model.initial_weights[0], *model.initial_weights[1]]
    assert len(names) == len(set(names)) == len(values)
    assert set(names) == set(expected)
    for key, value in zip(names, values):
        np.testing.assert_array_equal(value, expected[key], err_msg=key)
        assert value.dtype == expected[key].dtype


@pytest.mark.parametrize("name", zoo.ALL)
def test_trainable_are_the_weights_with_a_gradient(name):
    with_gradient = {k for k, g in reference(name).gradients.items() if g is not None}
    assert set(functional(name).trainable_names) == with_gradient


@pytest.mark.parametrize("name", zoo.ALL)
def test_dropout_in_training_is_a_function_of_the_seed(name):
    model, member = functional(name), zoo.BY_NAME[name]
    first = predict(model, member.sample(seed=(1, 2))[0], training=True)
    tf.random.uniform([100])
    again = predict(model, member.sample(seed=(1, 2))[0], training=True)
    np.testing.assert_array_equal(first, again)
    for seed in [(1, 3), (2, 2), (2, 1)]:
        other = predict(model, member.sample(seed=seed)[0], training=True)
        assert np.abs(first - other).max() > 1e-5, seed


@pytest.mark.parametrize("name", zoo.ALL)
def test_evaluation_has_no_dropout(name):
    model, member = functional(name), zoo.BY_NAME[name]
    first = predict(model, member.sample(seed=(1, 2))[0])
    np.testing.assert_array_equal(first, predict(model, member.sample(seed=(3, 4))[0]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["albert", "vit"])
def test_same_seed_gives_the_same_dropout_in_a_model_built_anew(name):
    member = zoo.BY_NAME[name]
    tf.random.set_seed(77)
    anew = member.functional()
    x, _ = member.sample(seed=(5, 6))
    np.testing.assert_array_equal(predict(functional(name), x, training=True), predict(anew, x, training=True))


def random_ops(model, member):
    specs = tf.nest.map_structure(tf.TensorSpec.from_tensor, member.sample()[0])
    weights = tf.nest.map_structure(tf.convert_to_tensor, model.initial_weights)
    call = tf.function(lambda x: model.predict_on_batch(weights, x, training=True))
    graph = call.get_concrete_function(specs).graph.as_graph_def()
    ops = {n.op for n in graph.node}.union(*({n.op for n in f.node_def} for f in graph.library.function))
    return {op for op in ops if "Random" in op or "Multinomial" in op or op.startswith("Rng")}


@pytest.mark.parametrize("name", zoo.ALL)
def test_seeded_training_has_no_stateful_random_op(name):
    found = random_ops(functional(name), zoo.BY_NAME[name])
    assert found
    assert all(op.startswith("StatelessRandom") for op in found), found


def test_without_a_seed_dropout_is_keras_own():
    member = zoo.BY_NAME["distilbert"]
    model = member.functional(seeded=False)
    x, _ = member.sample(seed=None)
    assert np.abs(predict(model, x, training=True) - predict(model, x, training=True)).max() > 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", TIED)
def test_tied_embedding_has_the_gradient_of_both_its_uses(name):
    """Against the difference quotient of the loss, which knows nothing of uses."""
    model, expected = functional(name), reference(name)
    tied = [n for n in model.trainable_names if np.shape(expected.gradients[n])[0] == zoo.VOCABULARY]
    tied = [n for n in tied if expected.gradients[n].ndim == 2]
    assert len(tied) == 1
    index = model.trainable_names.index(tied[0])
    gradient = expected.gradients[tied[0]]
    direction = gradient / np.linalg.norm(gradient)

    def loss(step):
        trainable = list(model.initial_weights[0])
        trainable[index] = trainable[index] + np.float32(step) * direction
        logits = model.predict_on_batch((tuple(trainable), model.initial_weights[1]), expected.x, training=False)
        return float(model.loss(logits, expected.labels))

    step = 1e-2
    quotient = (loss(step) - loss(-step)) / (2 * step)
    _, _, gradients = loss_and_gradients(model, model.initial_weights, expected.x, expected.labels)
    assert quotient == pytest.approx(float(np.sum(gradients[index] * direction)), rel=0.01)
    absent = sorted(set(range(zoo.VOCABULARY)) - set(np.ravel(expected.x["input_ids"])))
    assert np.abs(gradients[index].numpy()[absent]).max() > 1e-6  # of the output alone


@pytest.mark.parametrize("name", TEXT)
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_padding_changes_no_logit_of_a_real_token(name, batch):
    model, member = functional(name), zoo.BY_NAME[name]
    plain = predict(model, member.sample(batch, 6)[0])
    assert plain.shape[0] == batch
    for padding in (1, 7):
        padded = predict(model, member.sample(batch, 6, padding)[0])
        if padded.ndim == 3:
            assert padded.shape[1] == 6 + padding
            padded = padded[:, :6]
        np.testing.assert_allclose(padded, plain, atol=1e-4)


@pytest.mark.parametrize("name", zoo.ALL)
def test_an_example_does_not_depend_on_the_rest_of_its_batch(name):
    model, member = functional(name), zoo.BY_NAME[name]
    x, _ = member.sample(batch=8)
    alone = {k: v if k == models.SEED else v[2:3] for k, v in x.items()}
    np.testing.assert_allclose(predict(model, collections.OrderedDict(alone)), predict(model, x)[2:3], atol=1e-5)


@pytest.mark.parametrize("name", zoo.ALL)
def test_the_keras_model_is_left_as_it_was(name):
    model = functional(name).keras_model
    assert all(isinstance(v, tf.Variable) for v in model.weights)
    expected = reference(name)
    again = model(without_seed(expected.x), training=False).logits
    np.testing.assert_array_equal(again, expected.logits)


def test_frozen_layers_are_not_trainable():
    member = zoo.BY_NAME["distilbert"]
    keras_model = member.build()
    keras_model.distilbert.embeddings.trainable = False
    model = member.functional(keras_model)
    frozen = {v.name for v in keras_model.distilbert.embeddings.weights}
    assert len(frozen) > 2
    assert set(model.non_trainable_names) == frozen
    assert set(model.trainable_names) == {v.name for v in keras_model.trainable_weights}
    x, labels = member.sample()
    with tf.GradientTape() as tape:
        loss = member.objective.loss_fn(keras_model(without_seed(x), training=False).logits, labels)
    expected = tape.gradient(loss, keras_model.trainable_weights)
    _, _, gradients = loss_and_gradients(model, model.initial_weights, x, labels)
    by_name = {v.name: g.numpy() for v, g in zip(keras_model.trainable_weights, expected)}
    check_gradients(model, [g.numpy() for g in gradients], by_name)


def test_a_pooler_the_loss_does_not_reach_is_not_trainable():
    config = transformers.BertConfig(
        vocab_size=zoo.VOCABULARY, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    keras_model = transformers.TFBertModel(config)
    keras_model.build_in_name_scope()
    member = zoo.BY_NAME["bert"]
    model = models.functional_model(keras_model, member.objective, member.x_spec())
    pooler = {v.name for v in keras_model.bert.pooler.weights}
    assert len(pooler) == 2
    assert set(model.non_trainable_names) == pooler
    x, _ = member.sample()
    hidden = keras_model(without_seed(x), training=False).last_hidden_state
    np.testing.assert_allclose(predict(model, x), hidden, atol=1e-5)


def test_output_fn_chooses_the_predictions():
    member = zoo.BY_NAME["distilbert"]
    keras_model = functional("distilbert").keras_model
    model = models.functional_model(
        keras_model, member.objective, member.x_spec(), output_fn=lambda out: 2.0 * out.logits
    )
    np.testing.assert_allclose(predict(model, member.sample()[0]), 2.0 * reference("distilbert").logits, atol=1e-5)


def test_assign_refuses_the_weights_of_another_model():
    model, other = functional("distilbert"), functional("roberta")
    before = [v.numpy() for v in model.keras_model.weights]
    weights = tff.learning.models.ModelWeights(*other.initial_weights)
    with pytest.raises(ValueError, match="TFDistilBertForSequenceClassification has 40 trainable"):
        model.assign(weights)
    for variable, value in zip(model.keras_model.weights, before):
        np.testing.assert_array_equal(variable, value)


def test_layerdrop_is_refused():
    config = transformers.BartConfig(
        vocab_size=zoo.VOCABULARY,
        d_model=8,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=8,
        decoder_ffn_dim=8,
        max_position_embeddings=16,
        decoder_layerdrop=0.5,
    )
    keras_model = transformers.TFBartForConditionalGeneration(config)
    keras_model.build_in_name_scope()
    member = zoo.BY_NAME["t5"]
    with pytest.raises(UserError) as error:
        models.functional_model(keras_model, member.objective, member.x_spec())
    assert "TFBartForConditionalGeneration has decoder_layerdrop=0.5" in str(error.value)
    assert "set decoder_layerdrop to 0" in str(error.value)


def client(member, seed, batches=2):
    """Batches of the same examples, dropped out by a seed of their own."""
    x, labels = member.sample(batch=4)
    xs = [{**x, models.SEED: tf.constant([seed, i], tf.int64)} for i in range(batches)]
    stacked = collections.OrderedDict((k, tf.stack([x[k] for x in xs])) for k in x)
    return tf.data.Dataset.from_tensor_slices((stacked, tf.stack([labels] * batches)))


@functools.cache
def federated_averaging(name):
    """Clients learn nothing, at a learning rate of 0, but report their loss."""
    return tff.learning.algorithms.build_weighted_fed_avg(
        functional(name),
        client_optimizer_fn=tff.learning.optimizers.build_sgdm(0.0),
        server_optimizer_fn=tff.learning.optimizers.build_sgdm(1.0),
    )


@pytest.mark.slow
def test_a_round_of_federated_averaging():
    model, member = functional("distilbert"), zoo.BY_NAME["distilbert"]
    process = federated_averaging("distilbert")
    state = process.initialize()
    start = process.get_model_weights(state)
    for value, expected in zip(start.trainable, model.initial_weights[0]):
        np.testing.assert_array_equal(value, expected)

    losses = []
    for seeds in [(1, 2), (1, 2), (1, 3)]:
        output = process.next(state, [client(member, s) for s in seeds])
        losses.append(output.metrics["client_work"]["train"]["loss"])
        weights = process.get_model_weights(output.state)
        for value, expected in zip(weights.trainable, model.initial_weights[0]):
            np.testing.assert_array_equal(value, expected)  # the client's learning rate is 0
        for value, expected in zip(weights.non_trainable, model.initial_weights[1]):
            np.testing.assert_array_equal(value, expected)
    assert losses[0] == losses[1]
    assert abs(losses[0] - losses[2]) > 1e-6  # the second client drops out elsewhere


def test_tensorflow_advises_on_functions_of_ones_own_alone(caplog):
    advice = "5 out of the last 5 calls to <function {} at 0x7f> triggered tf.function retracing."
    logger = tf.get_logger()
    logger.addHandler(caplog.handler)
    for name in ("mine", "FunctionalModel.initialize_metrics_state", "Evaluator._predict.<locals>.<lambda>"):
        logger.warning(advice.format(name))
    logger.removeHandler(caplog.handler)
    assert {record.getMessage() for record in caplog.records} == {advice.format("mine")}


@pytest.mark.slow
def test_weights_of_a_federated_state_go_back_into_the_keras_model():
    member, process = zoo.BY_NAME["distilbert"], federated_averaging("distilbert")
    keras_model = member.build()
    model = member.functional(keras_model)
    moved = tff.learning.models.ModelWeights(
        [w + np.float32(0.1) for w in model.initial_weights[0]], list(model.initial_weights[1])
    )
    weights = process.get_model_weights(process.set_model_weights(process.initialize(), moved))
    x, _ = member.sample()
    before = keras_model(without_seed(x), training=False).logits
    model.assign(weights)
    after = keras_model(without_seed(x), training=False).logits
    expected = model.predict_on_batch((tuple(moved.trainable), ()), x, training=False)
    np.testing.assert_allclose(after, expected, atol=1e-5)
    assert np.abs(after - before).max() > 1e-3
