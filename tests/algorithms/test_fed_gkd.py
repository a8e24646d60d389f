"""FedGKD against NumPy, and the laws it keeps."""

import collections
import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests import tiny
from tests.algorithms.test_algorithms import assert_close, engine_of, numpy_gradient, options, start
from tff_tx import algorithms, models
from tff_tx.algorithms import chain, distill, dp_sgd, proximal
from tff_tx.algorithms.client import Context
from tff_tx.algorithms.distillation.ensemble import Student
from tff_tx.config.algorithm import EnsembleConfig
from tff_tx.core.errors import UserError

SIZES = (7, 12)
CLIENTS = [tiny.batches(*tiny.client_data(n, seed=i), 4) for i, n in enumerate(SIZES)]


def run(opts, rounds=1, name="fed_gkd", data=CLIENTS):
    return tiny.run_rounds(engine_of(name, opts), data, rounds)


def softmax(logits):
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def numpy_round(server, teacher, gamma, temperature, mu=0.0):
    """A round in NumPy: the gradient of gamma/2 T^2 KL(p || q) by the logits is gamma/2 T (q - p) / batch size."""
    results = []
    for i, n in enumerate(SIZES):
        x, y = tiny.client_data(n, seed=i)
        local = server
        for first in range(0, n, 4):
            part = slice(first, first + 4)
            p, q = (softmax((x[part] @ w[0] + w[1]) / temperature) for w in (teacher, local))
            error = gamma / 2 * temperature * (q - p) / len(x[part])
            terms = x[part].T @ error, error.sum(0)
            gradients = numpy_gradient(*local, x[part], y[part])
            local = tuple(w - 0.1 * (g + t + mu * (w - w0)) for w, g, t, w0 in zip(local, gradients, terms, server))
        results.append(local)
    return tuple(np.average([r[k] for r in results], 0, weights=SIZES) for k in (0, 1))


def test_the_loss_equals_numpy():
    """By the definition, item by item; tokens without a label do not count."""
    rng, temperature = np.random.default_rng(1), 2.5
    teacher, student = (rng.normal(size=[4, 6, 5]).astype(np.float32) * 3 for _ in range(2))
    labels = rng.integers(0, 5, [4, 6])
    labels[rng.random([4, 6]) < 0.4] = models.IGNORED
    divergences = []
    for t, s, label in zip(teacher.reshape(-1, 5), student.reshape(-1, 5), labels.reshape(-1)):
        if label != models.IGNORED:
            p, q = softmax(t / temperature), softmax(s / temperature)
            divergences.append(sum(p * np.log(p / q)))
    assert 5 < len(divergences) < 20
    ours = models.distillation_loss(teacher, student, labels != models.IGNORED, temperature)
    np.testing.assert_allclose(ours, temperature**2 * np.mean(divergences), rtol=1e-5)
    nothing = models.distillation_loss(teacher, student, np.zeros([4, 6], bool))
    assert float(nothing) == 0


def test_the_loss_agrees_with_tensorflows_divergence():
    rng = np.random.default_rng(2)
    teacher, student = (rng.normal(size=[9, 5]).astype(np.float32) for _ in range(2))
    theirs = tf.keras.losses.KLDivergence()(tf.nn.softmax(teacher), tf.nn.softmax(student))
    np.testing.assert_allclose(models.distillation_loss(teacher, student, np.ones(9, bool)), theirs, rtol=1e-5)


@pytest.mark.parametrize(("gamma", "temperature"), [pytest.param(0.2, 1.0, marks=pytest.mark.slow), (3.0, 2.0)])
def test_rounds_equal_numpy(gamma, temperature):
    taught = distill(gamma, temperature)
    expected = start()
    for _ in range(2):
        expected = numpy_round(expected, expected, gamma, temperature)
    assert_close(tiny.weights_of(run(options(transforms=chain(taught)), rounds=2).state), expected)


def test_the_teacher_may_be_the_average_of_the_last_models():
    """With M = 2: of w_0 alone, of w_0 and w_1, of w_1 and w_2; and it is sent along."""
    gamma, history = 4.0, [start()]
    for _ in range(3):
        teacher = tuple(np.mean([w[k] for w in history[-2:]], 0) for k in (0, 1))
        history.append(numpy_round(history[-1], teacher, gamma, 1.0))
    opts = options(transforms=chain(distill(gamma, models=2)))
    engine = engine_of("fed_avg", opts)
    assert_close(tiny.weights_of(tiny.run_rounds(engine, CLIENTS, 3).state), history[-1])
    assert engine.traffic().download_bytes == 2 * 4 * (5 * 3 + 3) + 4  # and the rate


def test_it_goes_with_fed_prox():
    opts = options(transforms=chain(proximal(0.5), distill(2.0)))
    assert_close(tiny.weights_of(run(opts, name="fed_prox").state), numpy_round(start(), start(), 2.0, 1.0, mu=0.5))


@pytest.mark.parametrize("models_averaged", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_weight_0_is_fed_avg(models_averaged):
    taught = distill(0.0, models=models_averaged)
    without = run(options(), rounds=2)
    assert_close(
        tiny.weights_of(run(options(transforms=chain(taught)), rounds=2).state), tiny.weights_of(without.state), 0
    )


def test_one_local_step_is_fed_avg():
    """Where a client still is its teacher, it has nothing to learn from it."""
    whole = [tiny.batches(*tiny.client_data(n, seed=i), 100) for i, n in enumerate(SIZES)]
    output = run(options(transforms=chain(distill(50.0))), data=whole)
    assert_close(tiny.weights_of(output.state), tiny.weights_of(run(options(), data=whole).state))


@pytest.mark.slow
def test_metrics_are_those_of_the_labels():
    """Before the first step, where both have the same model, and also where they have not."""
    taught = run(options(rate=0.0, transforms=chain(distill(50.0, models=2))), rounds=2)
    plain = run(options(rate=0.0), rounds=2)
    assert taught.metrics["client_work"]["train"]["loss"] == pytest.approx(
        plain.metrics["client_work"]["train"]["loss"]
    )


def test_clipped_gradients_of_examples_have_the_term():
    """DP-SGD without noise and with a clip that never binds is plain training."""
    taught = distill(3.0, 2.0)
    privacy = dp_sgd(clip=1e6, batch_size=4)
    one = [tiny.batches(*tiny.client_data(12, seed=1), 4)]  # only whole batches
    private = run(options(transforms=chain(taught, privacy)), data=one)
    assert_close(
        tiny.weights_of(private.state), tiny.weights_of(run(options(transforms=chain(taught)), data=one).state)
    )


def test_tokens_without_a_label_teach_nothing():
    """Whatever student and teacher say of them."""
    inner = tf_keras.Sequential([tf_keras.layers.Input([None, 3]), tf_keras.layers.Dense(4)])
    spec = collections.OrderedDict(inputs=tf.TensorSpec([None, None, 3]))
    model = models.functional_model(inner, models.language_modeling("causal_lm"), spec)
    rng = np.random.default_rng(3)
    teacher, student = (([rng.normal(size=[3, 4]), rng.normal(size=[4])], []) for _ in range(2))
    teacher, student = (tf.nest.map_structure(lambda w: tf.constant(w, tf.float32), w) for w in (teacher, student))
    labels = np.array([[1, models.IGNORED, 2]], np.int32)

    def term(x):
        batch = {"inputs": tf.constant(x, tf.float32)}
        output = model.predict_on_batch(student, batch, training=True)
        transform = distill(1.0)
        context = Context(model, student[0], (), {transform: teacher[0]})
        return float(transform.loss(context, batch, labels, output, 0.0))

    x = rng.normal(size=[1, 3, 3])
    changed = [x + 5.0 * np.eye(3)[None, position][..., None] for position in range(3)]
    assert term(changed[1]) == pytest.approx(term(x), rel=1e-6)
    assert abs(term(changed[0]) - term(x)) > 0.01
    assert abs(term(changed[2]) - term(x)) > 0.01


def test_models_that_predict_numbers_are_refused():
    linear = tiny.linear_model()
    objective = dataclasses.replace(models.classification(), label_spec=tf.TensorSpec([None], tf.float32))
    model = models.functional_model(linear.keras_model, objective, linear.input_spec[0])
    with pytest.raises(UserError, match="the labels here are float32 numbers"):
        algorithms.build_fed_avg(model, options(transforms=chain(distill(0.2))))
    with pytest.raises(UserError, match="the labels here are float32 numbers"):
        Student(model, EnsembleConfig())


@pytest.mark.slow
def test_it_is_a_transform_of_fed_avg():
    opts = options(transforms=chain(distill(3.0, 2.0, 2)))
    assert_close(tiny.weights_of(run(opts).state), tiny.weights_of(run(opts, name="fed_avg").state), tolerance=0)


@pytest.mark.slow
def test_mime_lite_has_the_term_in_both_passes():
    """With plain SGD its clients are those of FedAvg, whatever the loss."""
    opts = options(transforms=chain(distill(3.0, 2.0)))
    mime, avg = (run(opts, rounds=2, name=name) for name in ("mime_lite", "fed_avg"))
    assert_close(tiny.weights_of(mime.state), tiny.weights_of(avg.state))


def test_clients_without_steps_of_their_own_are_rejected():
    """Where a client has the server's model it agrees with its teacher."""
    with pytest.raises(UserError, match="Distillation cannot be combined with FedSGD: its clients take no steps"):
        run(options(transforms=chain(distill(0.2))), name="fed_sgd")


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        ((-1.0,), "algorithm.distillation_weight=-1.0: must be at least 0"),
        ((float("nan"),), "algorithm.distillation_weight=nan"),
        ((1.0, 0.0), "algorithm.distillation_temperature=0.0: must be above 0"),
        ((1.0, 1.0, 0), "algorithm.distillation_models=0: must be at least 1"),
    ],
)
def test_numbers_without_meaning_are_refused(numbers, sentence):
    with pytest.raises(UserError, match=sentence):
        distill(*numbers)
