"""Laws of the algorithms, on a model whose gradients NumPy can compute."""

import collections
import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests import tiny
from tests.algorithms import quadratic
from tff_tx import algorithms
from tff_tx.aggregators import AttentionFactory
from tff_tx.algorithms import chain, proximal
from tff_tx.core.errors import UserError
from tff_tx.runtime import LocalEngine

SIZES = (7, 12, 3)


@functools.cache
def options(client="sgd", server_rate=1.0, rate=0.1, clip_norm=None, momentum=0.0, **fields):
    return algorithms.Options(
        client_optimizer_fn=functools.partial(
            algorithms.build_optimizer, client, clip_norm=clip_norm, momentum=momentum
        ),
        server_optimizer=algorithms.build_optimizer("sgd", server_rate),
        client_learning_rate=rate,
        **fields,
    )


def clients(sizes=SIZES, batch_size=4):
    return [tiny.batches(*tiny.client_data(n, seed=i), batch_size) for i, n in enumerate(sizes)]


@functools.lru_cache(50)
def engine_of(name, opts, model=None):
    """An engine, shared by all tests that use the same `options` and model."""
    return LocalEngine(algorithms.ALGORITHMS[name].build(model or tiny.linear_model(), opts), threads=2)


def run(name, opts, data, rounds=2, model=None):
    return tiny.run_rounds(engine_of(name, opts, model), data, rounds)


@functools.cache
def plain(rounds=2):
    """FedAvg as it is by default, which many laws compare with: its output."""
    return run("fed_avg", options(), clients(), rounds)


def numpy_gradient(kernel, bias, x, y):
    """Gradient of the mean softmax cross-entropy of a linear classifier, by hand."""
    logits = x @ kernel + bias
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    error = (p - np.eye(p.shape[1])[y]) / len(x)
    return x.T @ error, error.sum(0)


def start():
    return np.ones([5, 3]), np.ones([3])


def assert_close(left, right, tolerance=1e-6):
    for a, b in zip(left, right):
        np.testing.assert_allclose(a, b, atol=tolerance)


def test_fed_avg_equals_numpy():
    """Two rounds of local SGD and averaging by examples, written out in NumPy (McMahan et al., Algorithm 1)."""
    server = start()
    for _ in range(2):
        results = []
        for i, n in enumerate(SIZES):
            x, y = tiny.client_data(n, seed=i)
            local = server
            for first in range(0, n, 4):
                gradient = numpy_gradient(*local, x[first : first + 4], y[first : first + 4])
                local = tuple(w - 0.1 * g for w, g in zip(local, gradient))
            results.append(local)
        server = tuple(np.average([r[k] for r in results], 0, weights=SIZES) for k in (0, 1))
    assert_close(tiny.weights_of(plain().state), server)


def test_fed_prox_equals_numpy():
    """One round with the proximal term, whose gradient is mu (w - w_t)."""
    mu, results = 0.5, []
    for i, n in enumerate(SIZES):
        x, y = tiny.client_data(n, seed=i)
        local = start()
        for first in range(0, n, 4):
            gradient = numpy_gradient(*local, x[first : first + 4], y[first : first + 4])
            local = tuple(w - 0.1 * (g + mu * (w - w0)) for w, g, w0 in zip(local, gradient, start()))
        results.append(local)
    expected = [np.average([r[k] for r in results], 0, weights=SIZES) for k in (0, 1)]
    output = run("fed_prox", options(transforms=chain(proximal(mu))), clients(), rounds=1)
    assert_close(tiny.weights_of(output.state), expected)


def test_attention_by_loss_goes_by_the_loss_before_each_step():
    """One round in NumPy: batches' losses before the steps on them, and clients by n exp(-loss / tau)."""
    tau, changes, counts = 0.01, [], []
    for i, n in enumerate(SIZES):
        x, y = tiny.client_data(n, seed=i)
        local, losses = start(), []
        for first in range(0, n, 4):
            part = slice(first, first + 4)
            logits = x[part] @ local[0] + local[1]
            losses += list(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(logits)), y[part]])
            local = tuple(w - 0.1 * g for w, g in zip(local, numpy_gradient(*local, x[part], y[part])))
        changes.append([w0 - w for w0, w in zip(start(), local)])
        counts.append(n * np.exp(-np.mean(losses) / tau))
    assert max(counts) / sum(counts) > 0.75
    expected = [w0 - np.average([c[k] for c in changes], 0, weights=counts) for k, w0 in enumerate(start())]
    attention = AttentionFactory(key="loss", temperature=tau)
    output = run("fed_avg", options(sends_loss=True, aggregator=attention), clients(), rounds=1)
    assert_close(tiny.weights_of(output.state), expected, 1e-5)


def test_weighted_aggregators_count_clients_equally_if_told_so():
    """A weighted factory with weighted=False is the unweighted mean."""
    ours = run("fed_avg", options(weighted=False, aggregator=tff.aggregators.MeanFactory()), clients(), rounds=1)
    tffs = run("fed_avg", options(weighted=False), clients(), rounds=1)
    assert_close(tiny.weights_of(ours.state), tiny.weights_of(tffs.state))


@pytest.mark.slow
def test_tffs_fed_prox_has_the_wrong_sign():
    """Why ours is not TFF's: if this fails, TFF has mended it, and its builder can be used."""
    process = tff.learning.algorithms.build_weighted_fed_prox(
        tiny.linear_model(), 0.5, algorithms.build_optimizer("sgd", 0.1)
    )
    with LocalEngine(process) as engine:
        tffs = tiny.weights_of(tiny.run_rounds(engine, clients()).state)
    wrong = run("fed_prox", options(transforms=chain(proximal(-0.5))), clients(), rounds=1)
    assert_close(tffs, tiny.weights_of(wrong.state))


def test_fed_sgd_is_a_step_along_the_pooled_gradient():
    pooled = [np.concatenate(parts) for parts in zip(*(tiny.client_data(n, seed=i) for i, n in enumerate(SIZES)))]
    expected = [w - 0.3 * g for w, g in zip(start(), numpy_gradient(*start(), *pooled))]
    output = run("fed_sgd", options(server_rate=0.3), clients(), rounds=1)
    assert_close(tiny.weights_of(output.state), expected)


def test_fed_avg_with_one_step_equals_fed_sgd():
    whole = clients(batch_size=100)
    one_step = run("fed_avg", options(rate=0.2), whole)
    gradient = run("fed_sgd", options(server_rate=0.2), whole)
    assert_close(tiny.weights_of(one_step.state), tiny.weights_of(gradient.state))


def test_fed_prox_without_mu_equals_fed_avg():
    assert_close(
        tiny.weights_of(run("fed_prox", options(transforms=chain(proximal(0.0))), clients()).state),
        tiny.weights_of(plain().state),
        tolerance=0,
    )


@pytest.mark.parametrize("optimizer", ["sgd", pytest.param("adam", marks=pytest.mark.slow), "adamw"])
def test_one_client_with_everything_equals_centralized_training(optimizer):
    x, y = tiny.client_data(20)
    output = run("fed_avg", options(client=optimizer, rate=0.05), [tiny.batches(x, y, 4)], rounds=1)
    keras = {
        "sgd": tf.keras.optimizers.legacy.SGD(0.05),
        "adam": tf.keras.optimizers.legacy.Adam(0.05),
        "adamw": tf.keras.optimizers.AdamW(0.05, weight_decay=0.01),
    }[optimizer]
    variables = [tf.Variable(w, dtype=tf.float32) for w in start()]
    for first in range(0, 20, 4):
        with tf.GradientTape() as tape:
            logits = x[first : first + 4] @ variables[0] + variables[1]
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y[first : first + 4], logits))
        keras.apply_gradients(zip(tape.gradient(loss, variables), variables))
    assert_close(tiny.weights_of(output.state), [v.numpy() for v in variables], tolerance=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_constant_schedule_equals_tffs_own_builder(weighted):
    """Our client work with a schedule computes what TFF's computes without."""
    opts = options(client="adam", weighted=weighted)
    scheduled = dataclasses.replace(opts, client_schedule=algorithms.build_schedule("constant", 0.1, 0, 10))
    ours, tffs = run("fed_avg", scheduled, clients()), run("fed_avg", opts, clients())
    assert_close(tiny.weights_of(ours.state), tiny.weights_of(tffs.state))
    train = "client_work", "train"
    for metric, value in tffs.metrics[train[0]][train[1]].items():
        np.testing.assert_allclose(ours.metrics[train[0]][train[1]][metric], value, rtol=1e-5)


def test_unweighted_clients_count_equally():
    def one(i):
        return tiny.weights_of(run("fed_avg", options(), clients()[i : i + 1], rounds=1).state)

    mean = [np.mean(parts, 0) for parts in zip(one(0), one(1), one(2))]
    output = run("fed_avg", options(weighted=False), clients(), rounds=1)
    assert_close(tiny.weights_of(output.state), mean)


def test_the_schedule_follows_the_round():
    schedule = algorithms.build_schedule("linear", 0.4, 1, 4)
    rates = [float(schedule(tf.constant(r))) for r in range(5)]
    np.testing.assert_allclose(rates, [0.2, 0.4, 0.4 * 2 / 3, 0.4 / 3, 0.0], rtol=1e-6)
    scheduled = options(client_schedule=schedule)
    engine = engine_of("fed_avg", scheduled)
    state, seen = engine.initialize(), []
    for _ in range(3):
        output = engine.run_round(state, clients())
        state = output.state
        seen.append(float(output.metrics["client_work"]["learning_rate"]))
    np.testing.assert_allclose(seen, rates[:3], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"), [("cosine", [1.0, 0.5, 0.0]), ("inverse_sqrt", [1.0, 1 / np.sqrt(6), 1 / np.sqrt(11)])]
)
def test_schedules_by_formula(name, expected):
    schedule = algorithms.build_schedule(name, 1.0, 0, 10)
    np.testing.assert_allclose([float(schedule(tf.constant(r))) for r in (0, 5, 10)], expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["sgd", "adagrad", "adam", "yogi"],
)
def test_fed_opt_equals_the_papers_update(name):
    """One server step along the mean update (Reddi et al. 2021, Algorithm 2), with TFF's bias correction for Adam."""
    tau, rate = 1e-3, 0.1
    averaged = tiny.weights_of(plain(rounds=1).state)
    opts = dataclasses.replace(options(), server_optimizer=algorithms.build_optimizer(name, rate, epsilon=tau))
    result = tiny.weights_of(run("fed_avg", opts, clients(), rounds=1).state)
    for w0, w1, w in zip(start(), averaged, result):
        delta = w1 - w0
        v0 = 0.0 if name == "adam" else tau**2
        if name == "sgd":
            step = delta
        elif name == "adagrad":
            step = delta / np.sqrt(v0 + delta**2 + tau**2)
        else:
            sign = np.sign(v0 - delta**2) if name == "yogi" else None
            v = v0 - 0.001 * delta**2 * sign if name == "yogi" else 0.999 * v0 + 0.001 * delta**2
            step = np.sqrt(1 - 0.999) / (1 - 0.9) * 0.1 * delta / (np.sqrt(v) + tau)
        np.testing.assert_allclose(w, w0 + rate * step, rtol=5e-3, atol=1e-5)


@pytest.mark.slow
def test_mime_lite_uses_the_servers_state_and_uploads_the_gradient():
    """With momentum, clients start from the server's momentum: the second round differs from FedAvg's."""
    sgd = options()
    assert_close(tiny.weights_of(run("mime_lite", sgd, clients()).state), tiny.weights_of(plain().state))
    momentum = options(momentum=0.9)
    mime = tiny.weights_of(run("mime_lite", momentum, clients()).state)
    local = tiny.weights_of(run("fed_avg", momentum, clients()).state)
    assert max(np.abs(a - b).max() for a, b in zip(mime, local)) > 1e-3


def test_clipping_bounds_the_step():
    output = run("fed_avg", options(rate=1.0, clip_norm=0.01), clients((4,)), rounds=1)
    moved = [w - w0 for w, w0 in zip(tiny.weights_of(output.state), start())]
    assert np.sqrt(sum((m**2).sum() for m in moved)) == pytest.approx(0.01, rel=1e-4)


def test_wide_clipping_changes_nothing():
    assert_close(
        tiny.weights_of(run("fed_avg", options(clip_norm=1e6), clients()).state), tiny.weights_of(plain().state)
    )


def test_a_client_with_a_broken_update_does_not_count():
    """NaN in a client's data: its weight and metrics are zero, as in TFF's own client work."""
    x, y = tiny.client_data(6, seed=9)
    broken = tiny.batches(np.full_like(x, np.nan), y, 4)
    scheduled = options(client_schedule=algorithms.build_schedule("constant", 0.1, 0, 10))
    for opts, without in ((options(), plain(1)), (scheduled, run("fed_avg", scheduled, clients(), rounds=1))):
        with_broken = run("fed_avg", opts, [*clients(), broken], rounds=1)
        assert_close(tiny.weights_of(with_broken.state), tiny.weights_of(without.state))
        assert with_broken.metrics["client_work"]["train"]["num_examples"] == sum(SIZES)


def test_an_aggregator_of_tffs_composes():
    """Zeroing and clipping wrapped around the mean: a huge client is bounded."""
    aggregator = tff.learning.robust_aggregator(zeroing=False, clipping=True, weighted=True)
    output = run("fed_avg", options(aggregator=aggregator), clients(), rounds=1)
    assert "clipping_norm" in str(output.metrics["aggregator"])


def test_unknown_names_are_rejected():
    with pytest.raises(UserError, match="'nadam': must be one of sgd, adam"):
        algorithms.build_optimizer("nadam", 0.1)
    with pytest.raises(UserError, match="'step': must be one of constant"):
        algorithms.build_schedule("step", 0.1, 0, 10)


@pytest.mark.slow
def test_fed_exp_goes_further_the_more_updates_differ():
    """One round in NumPy: eta = max(1, sum p |u|^2 / (2 |sum p u|^2)), of the updates of FedAvg."""
    output = run("fed_exp", options(extrapolation_epsilon=0.0), clients(), rounds=1)
    alone = [run("fed_avg", options(), clients()[i : i + 1], rounds=1).state for i in range(len(SIZES))]
    updates = np.array(
        [np.concatenate([(w - w0).ravel() for w, w0 in zip(tiny.weights_of(s), start())]) for s in alone]
    )
    shares = np.array(SIZES) / sum(SIZES)
    mean = shares @ updates
    step = max(1.0, shares @ (updates**2).sum(1) / (2 * (mean**2).sum()))
    measured = float(output.metrics["aggregator"]["step_size"])
    assert measured == pytest.approx(step, rel=1e-4)
    moved = np.concatenate([(w - w0).ravel() for w, w0 in zip(tiny.weights_of(output.state), start())])
    np.testing.assert_allclose(moved, step * mean, atol=1e-6)


@pytest.mark.slow
def test_delta_sgd_equals_numpy():
    """One round in NumPy (Kim et al., Algorithm 1)."""
    results = []
    for i, n in enumerate(SIZES):
        x, y = tiny.client_data(n, seed=i)
        local, rate, growth, last = start(), 0.2, 1.0, None
        for first in range(0, n, 4):
            gradient = numpy_gradient(*local, x[first : first + 4], y[first : first + 4])
            if last is not None:
                moved, changed = (
                    np.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(*pair)))
                    for pair in ((local, last[0]), (gradient, last[1]))
                )
                new = min(2.0 * moved / (2 * changed), np.sqrt(1 + 0.1 * growth) * rate)
                growth, rate = new / rate, new
            last = local, gradient
            local = tuple(w - rate * g for w, g in zip(local, gradient))
        results.append(local)
    expected = [np.average([r[k] for r in results], 0, weights=SIZES) for k in (0, 1)]
    assert_close(tiny.weights_of(run("delta_sgd", options(), clients(), rounds=1).state), expected)


def test_a_batch_without_a_gradient_does_not_end_delta_sgd():
    """As one without labels: the rate would be 0 for good, and then not a number."""
    x = collections.OrderedDict(ab=np.array([[1.0, 3.0]], np.float32), seed=np.zeros(2, np.int64))
    batch = x, np.zeros(1, np.float32)
    nothing = collections.OrderedDict(x, ab=np.zeros([1, 2], np.float32)), np.zeros(1, np.float32)
    stacked = tf.nest.map_structure(lambda *leaves: np.stack(leaves), batch, nothing, *[batch] * 4)
    data = tf.data.Dataset.from_tensor_slices(stacked)
    process = algorithms.build_delta_sgd(quadratic.model(), quadratic.options())
    output = process.next(process.initialize(), [data])
    assert output.metrics["client_work"]["train"]["examples"] == 6.0
    assert 0.6 < output.state.global_model_weights.trainable[0][0] < 3.5  # on its way from 0 to 3


def test_a_client_that_is_not_finite_does_not_end_the_momentum_of_mime_lite():
    """In TFF's own runtime, as the local engine leaves such a client out as a whole."""
    process = algorithms.build_mime_lite(tiny.linear_model(), options(momentum=0.9))
    broken = clients()[0].map(lambda x, y: (collections.OrderedDict(x, x=x["x"] * np.nan), y))

    def weights(cohorts):
        state = process.initialize()
        for cohort in cohorts:
            state = process.next(state, cohort).state
        return tiny.weights_of(state)

    assert_close(weights([[*clients(), broken], clients()]), weights([clients(), clients()]))
