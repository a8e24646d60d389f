"""Blocks that are computed again: the same gradients, dropout and all; and frozen weights in half of the bytes."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
import tf_keras

from tests.models import zoo
from tff_tx import algorithms, models
from tff_tx.algorithms.client import Context
from tff_tx.core.errors import UserError
from tff_tx.models.tracing.layer_stacks import transformer_blocks

SLOW = pytest.mark.slow
ALL = [name if name == "gpt2" else pytest.param(name, marks=SLOW) for name in zoo.NAMES]
LORA = {"trainable": "lora", "lora": models.Lora(ranks=(3,), dropout=0.2)}


@functools.cache
def keras_model(name):
    return zoo.BY_NAME[name].build()


def functional(name, adapted=False, **fields):
    """All ways of one architecture share the Keras model, and with it the weights."""
    given = {key: value for key, value in fields.items() if value}
    return _functional(name, adapted, **given)


@functools.cache
def _functional(name, adapted, **fields):
    member = zoo.BY_NAME[name]
    more = {**(LORA if adapted else {}), **fields}
    return models.functional_model(keras_model(name), member.objective, member.x_spec(), **more)


def trainable(model, seed=0):
    """Other values than the initial ones, under which adapters do nothing yet."""
    rng = np.random.default_rng(seed)
    return [tf.constant(w + 0.1 * rng.standard_normal(w.shape).astype(np.float32)) for w in model.initial_weights[0]]


def loss_and_gradients(model, weights, x, labels):
    with tf.GradientTape() as tape:
        tape.watch(weights)
        output = model.predict_on_batch((weights, model.initial_weights[1]), x, training=True)
        loss = model.loss(output, labels)
    return loss, [tf.convert_to_tensor(g) for g in tape.gradient(loss, weights)]


def check_the_same(name, left, right, tolerance=1e-5):
    x, labels = zoo.BY_NAME[name].sample()
    assert left.trainable_names == right.trainable_names
    weights = trainable(left)
    (loss, gradients), (other_loss, others) = (loss_and_gradients(m, weights, x, labels) for m in (left, right))
    np.testing.assert_allclose(loss, other_loss, rtol=tolerance)
    for weight, g, other in zip(left.trainable_names, gradients, others):
        np.testing.assert_allclose(g, other, atol=tolerance, rtol=tolerance, err_msg=weight)
    assert max(np.abs(g).max() for g in gradients) > 1e-3  # the comparison is not one of zeros
    return gradients


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_gradients_are_the_same_with_dropout(name):
    check_the_same(name, functional(name), functional(name, gradient_checkpointing=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", *(pytest.param(n, marks=SLOW) for n in ("distilbert", "deberta-v2"))])
def test_gradients_of_adapters_are_the_same(name):
    check_the_same(name, functional(name, True), functional(name, True, gradient_checkpointing=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "adapted"),
    [
        ("gpt2", True),
        *((n, False) for n in ("gpt2", "deberta-v2", "opt", "swin", "t5")),
    ],
)
def test_gradients_are_the_same_inside_tff(name, adapted):
    """Where the model's Python would not compute what it does elsewhere."""
    model, (x, labels) = functional(name, adapted, gradient_checkpointing=True), zoo.BY_NAME[name].sample()

    @tff.tensorflow.computation
    def compute(weights, x, labels):
        return loss_and_gradients(model, list(weights), x, labels)

    weights = trainable(model)
    loss, gradients = compute(weights, x, labels)
    expected_loss, expected = loss_and_gradients(functional(name, adapted), weights, x, labels)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    for g, other in zip(gradients, expected):
        np.testing.assert_allclose(g, other, atol=1e-5)


def kept(model, name):
    """Of each tensor that the forward pass hands to the backward pass, its type and shape."""
    x, labels = zoo.BY_NAME[name].sample(batch=4, length=20)
    weights = [tf.constant(w) for w in model.initial_weights[0]]

    @tf.function(autograph=False)
    def step(weights, x):
        return loss_and_gradients(model, weights, x, labels)

    calls = [op for op in step.get_concrete_function(weights, x).graph.get_operations() if "PartitionedCall" in op.type]
    forward = max(calls, key=lambda op: len(op.outputs))
    return [(t.dtype, t.shape) for t in forward.outputs]


@pytest.mark.slow
def test_less_is_kept_for_the_backward_pass():
    plain, again = (kept(functional("gpt2", gradient_checkpointing=g), "gpt2") for g in (False, True))
    assert len(again) < len(plain) / 2


@pytest.mark.slow
def test_no_float32_kernel_is_kept():
    """It would be the copy again that bfloat16 is to spare, once for each thread."""
    kernels = [tf.TensorShape(shape) for shape in ([16, 48], [16, 16], [16, 64], [64, 16])]

    found = kept(functional("gpt2", True, frozen_dtype="bfloat16"), "gpt2")
    assert [shape for dtype, shape in found if dtype == tf.bfloat16 and shape in kernels]
    assert not [shape for dtype, shape in found if dtype == tf.float32 and shape in kernels]
    plain = kept(functional("gpt2", True), "gpt2")
    assert [shape for dtype, shape in plain if dtype == tf.float32 and shape in kernels]


@pytest.mark.parametrize("name", zoo.NAMES)
def test_blocks_are_found_in_all_architectures(name):
    blocks = transformer_blocks(keras_model(name))
    kinds = {type(block).__name__ for block in blocks}
    # T5 has an encoder and a decoder of two each; ALBERT calls one layer twice.
    assert len(blocks) == {"t5": 4, "albert": 1}.get(name, 2)
    assert len(kinds) == 1
    assert kinds < {
        *("TFBertLayer", "TFTransformerBlock", "TFRobertaLayer", "TFAlbertLayer", "TFElectraLayer", "TFDebertaV2Layer"),
        *("TFBlock", "TFOPTDecoderLayer", "TFT5Block", "TFViTLayer", "TFSwinLayer"),
    }


@pytest.mark.slow
def test_clipped_gradients_of_examples_are_the_same():
    member = zoo.BY_NAME["gpt2"].shallow()
    (x, labels), keras = member.sample(), member.build()
    privacy = algorithms.dp_sgd(clip=0.5, noise_multiplier=0.3, batch_size=3)
    build = functools.partial(models.functional_model, keras, member.objective, member.x_spec())
    plain, again = (build(gradient_checkpointing=g) for g in (False, True))
    weights = tuple(trainable(plain))
    found = []
    for model in (plain, again):
        context = Context(model, weights, model.initial_weights[1], {})
        gradients, _, _ = privacy.gradients(context, weights, x, labels, lambda x, y, output, loss: loss)
        found.append(privacy.privatize(gradients, x))
    for g, other in zip(*found):
        np.testing.assert_allclose(tf.convert_to_tensor(g), tf.convert_to_tensor(other), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "checkpointing"),
    [("gpt2", True), *(pytest.param(*case, marks=SLOW) for case in (("gpt2", False), ("vit", False), ("vit", True)))],
)
def test_frozen_weights_in_bfloat16_are_those_weights_rounded(name, checkpointing):
    """Whatever is computed is what float32 gives for the rounded weights; adapters and head stay as they are."""
    held = functional(name, True, frozen_dtype="bfloat16", gradient_checkpointing=checkpointing)
    whole = functional(name, True)
    assert all(w.dtype == tf.bfloat16.as_numpy_dtype for w in held.initial_weights[1])
    sizes = [sum(w.nbytes for w in m.initial_weights[1]) for m in (held, whole)]
    assert 2 * sizes[0] == sizes[1]
    rounded = tuple(w.astype(np.float32) for w in held.initial_weights[1])
    x, labels = zoo.BY_NAME[name].sample()
    weights = trainable(whole)
    for training in (False, True):
        logits = held.predict_on_batch((weights, held.initial_weights[1]), x, training)
        np.testing.assert_allclose(logits, whole.predict_on_batch((weights, rounded), x, training), atol=1e-5)
        # 8 bits of mantissa: weights are off by 2^-9 of their size at most.
        exact = whole.predict_on_batch((weights, whole.initial_weights[1]), x, training)
        assert 1e-6 < np.abs(logits - exact).max() < 0.02 * np.abs(exact).max()
    with tf.GradientTape() as tape:
        tape.watch(weights)
        loss = whole.loss(whole.predict_on_batch((weights, rounded), x, training=True), labels)
    expected = tape.gradient(loss, weights)
    for g, other in zip(loss_and_gradients(held, weights, x, labels)[1], expected):
        np.testing.assert_allclose(g, tf.convert_to_tensor(other), atol=1e-5)


def test_constants_of_bfloat16_take_two_bytes():
    """As a graph holds them; TensorFlow would write each number as an integer of its own."""
    held = functional("gpt2", True, frozen_dtype="bfloat16")
    graph = tf.Graph()
    with graph.as_default():
        tensors = [tf.convert_to_tensor(w) for w in held.initial_weights[1]]
        assert {t.dtype for t in tensors} == {tf.bfloat16}
        values = tf.compat.v1.Session().run(tensors)
    for value, expected in zip(values, held.initial_weights[1]):
        np.testing.assert_array_equal(value, expected)
    constants = [node.attr["value"].tensor for node in graph.as_graph_def().node if node.op == "Const"]
    assert sum(len(c.tensor_content) for c in constants) == sum(w.nbytes for part in held.initial_weights for w in part)
    assert not any(len(c.half_val) for c in constants)


def test_a_model_is_exported_in_float32():
    held = functional("vit", True, frozen_dtype="bfloat16")
    before = [v.numpy() for v in held.keras_model.weights]
    held.assign(tff.learning.models.ModelWeights(*held.initial_weights))
    try:
        assert {v.dtype for v in held.keras_model.weights} == {tf.float32}
        frozen = {name: w for name, w in zip(held.non_trainable_names, held.initial_weights[1])}
        for v in held.keras_model.weights:
            if v.name in frozen:
                np.testing.assert_array_equal(v, frozen[v.name].astype(np.float32))
    finally:
        for v, value in zip(held.keras_model.weights, before):
            v.assign(value)


def test_what_cannot_be_is_refused():
    dense = tf_keras.Sequential([tf_keras.layers.Input([3]), tf_keras.layers.Dense(2)])
    build = functools.partial(models.functional_model, dense, models.classification())
    member = zoo.BY_NAME["distilbert"]
    with pytest.raises(UserError, match="Sequential has no list of such layers"):
        build({"inputs": tf.TensorSpec([None, 3]), "seed": tf.TensorSpec([2], tf.int64)}, gradient_checkpointing=True)
    with pytest.raises(UserError, match="add 'seed' to the inputs"):
        models.functional_model(
            keras_model("distilbert"), member.objective, member.x_spec(seeded=False), gradient_checkpointing=True
        )
    with pytest.raises(UserError, match="model.frozen_dtype=bfloat16 has no effect with model.trainable=all"):
        build(tf.TensorSpec([None, 3]), frozen_dtype="bfloat16")
    with pytest.raises(UserError, match="model.frozen_dtype=float16: must be one of float32, bfloat16"):
        build(tf.TensorSpec([None, 3]), trainable="layers:kernel", frozen_dtype="float16")
