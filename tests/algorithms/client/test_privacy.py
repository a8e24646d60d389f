"""Privacy inside of the client: its laws, against NumPy and TensorFlow Privacy's own queries."""

import collections
import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_privacy

from tests import tiny
from tests.models import zoo
from tff_tx import algorithms, models
from tff_tx.algorithms import chain, dp_sgd, local_dp, proximal
from tff_tx.algorithms.client import Context, noise
from tff_tx.core.errors import UserError
from tff_tx.runtime import LocalEngine, NativeEngine

pytestmark = pytest.mark.usefixtures("compiled_once")

START = (np.ones([5, 3]), np.ones([3]))
RATE = 0.1


@functools.cache
def options(**fields):
    return algorithms.Options(
        client_optimizer_fn=lambda rate: algorithms.build_optimizer("sgd", rate),
        server_optimizer=algorithms.build_optimizer("sgd", 1.0),
        client_learning_rate=RATE,
        **fields,
    )


@functools.cache
def process(name, opts, model):
    """A process, shared by all tests that use the same `options` and model."""
    return algorithms.ALGORITHMS[name].build(model, opts)


@functools.lru_cache(50)
def engine_of(name, opts, model, threads):
    return LocalEngine(process(name, opts, model), threads)


def run(opts, data, name="fed_avg", threads=2, model=None, rounds=1):
    return tiny.run_rounds(engine_of(name, opts, model or tiny.linear_model(), threads), data, rounds)


def weights(output):
    return tiny.weights_of(output.state)


def clients(sizes=(8, 12, 4), batch_size=4):
    return [tiny.batches(*tiny.client_data(n, seed=i), batch_size) for i, n in enumerate(sizes)]


def assert_close(left, right, tolerance=1e-6):
    for a, b in zip(left, right):
        np.testing.assert_allclose(a, b, atol=tolerance)


@functools.cache
def plain():
    return run(options(), clients())


def example_gradients(kernel, bias, x, y):
    """Gradients of the softmax cross-entropy of each example, one by one: [n, 5, 3], [n, 3]."""
    kernels, biases = [], []
    for one, label in zip(x, y):
        logits = one @ kernel + bias
        p = np.exp(logits - logits.max())
        error = p / p.sum() - np.eye(3)[label]
        kernels.append(np.outer(one, error))
        biases.append(error)
    return np.stack(kernels), np.stack(biases)


def clipped_sum(gradients, clip):
    norms = np.sqrt(sum((g.reshape(len(g), -1) ** 2).sum(1) for g in gradients))
    factors = np.minimum(1.0, clip / norms)
    return [np.einsum("i,i...->...", factors, g) for g in gradients]


def gradients_of(privacy, model, trained, frozen, x, y):
    """The private gradients on a batch."""
    context = Context(model, trained, frozen, {})
    gradients, *rest = privacy.gradients(context, trained, x, y, lambda x, y, output, loss: loss)
    return privacy.privatize(gradients, x), *rest


# Examples


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fed_avg", "fed_prox"])
def test_without_noise_and_with_an_infinite_clip_it_is_plain_sgd(name):
    term = proximal(0.5 if name == "fed_prox" else 0.0)
    base, private = (options(transforms=chain(term, *more)) for more in ((), (dp_sgd(np.inf, 0.0, batch_size=4),)))
    assert_close(weights(run(private, clients(), name)), weights(run(base, clients(), name)))


@pytest.mark.slow
def test_dropout_is_that_of_the_batch_as_a_whole():
    model = tiny.linear_model(dropout=0.5)
    private = options(transforms=chain(dp_sgd(np.inf, 0.0, batch_size=4)))
    dropped = weights(run(options(), clients(), model=model))
    assert_close(weights(run(private, clients(), model=model)), dropped)
    assert np.abs(dropped[0] - weights(plain())[0]).max() > 1e-3


@pytest.mark.parametrize("microbatches", [pytest.param(None, marks=pytest.mark.slow), 2])
def test_the_clipped_sum_is_that_of_a_loop_over_examples(microbatches):
    """Two local steps in NumPy, one gradient at a time; the last batch of 4 has but 3 examples."""
    x, y = tiny.client_data(7, seed=3)
    clip, number, local = 0.7, microbatches or 4, START
    for first in (0, 4):
        gradients = example_gradients(*local, x[first : first + 4], y[first : first + 4])
        if microbatches:
            group = [[0, 1], [2, 3]] if first == 0 else [[0, 1], [2, 2]]
            gradients = [np.stack([g[members].mean(0) for members in group]) for g in gradients]
        local = tuple(w - RATE * g / number for w, g in zip(local, clipped_sum(gradients, clip)))
    private = options(transforms=chain(dp_sgd(clip, 0.0, 4, microbatches)))
    output = run(private, [tiny.batches(x, y, 4)])
    assert_close(weights(output), local)
    assert output.metrics["client_work"]["train"]["num_examples"] == 7


def test_it_clips_and_sums_as_tensorflow_privacys_query():
    x, y = tiny.client_data(4)
    query = tensorflow_privacy.GaussianSumQuery(l2_norm_clip=0.5, stddev=0.0)
    gradients = [tf.constant(g, tf.float32) for g in example_gradients(*START, x, y)]
    params = query.derive_sample_params(query.initial_global_state())
    total = query.initial_sample_state([g[0] for g in gradients])
    for i in range(4):
        total = query.accumulate_record(params, total, [g[i] for g in gradients])
    private = options(transforms=chain(dp_sgd(0.5, 0.0, 4)))
    moved = [(w0 - w) / RATE * 4 for w, w0 in zip(weights(run(private, [tiny.batches(x, y, 4)])), START)]
    assert_close(moved, [t.numpy() for t in total], tolerance=1e-5)


@pytest.mark.parametrize("scale", [1e-3, 1e4, np.inf, np.nan])
def test_one_examples_influence_is_at_most_the_clip(scale):
    """Whatever it is, the sum over a batch moves by no more than the clip."""
    x, y = (v.copy() for v in tiny.client_data(4))
    privacy = dp_sgd(0.3, 0.0, 4)
    model = tiny.linear_model()
    trained = tuple(tf.constant(w, tf.float32) for w in model.initial_weights[0])

    def total(x):
        inputs = collections.OrderedDict(x=tf.constant(x), seed=tf.constant([1, 2], tf.int64))
        gradients, _, _ = gradients_of(privacy, model, trained, (), inputs, tf.constant(y))
        return np.concatenate([4 * g.numpy().ravel() for g in gradients])

    without = x.copy()
    without[2] = 0.0
    changed = x.copy()
    changed[2] *= scale
    zero = np.concatenate([g[2].ravel() for g in example_gradients(*START, without, y)])
    nothing = total(without) - zero * min(1.0, 0.3 / np.linalg.norm(zero))
    influence = np.linalg.norm(total(changed) - nothing)
    assert influence <= 0.3 * (1 + 1e-5)
    if scale == 1e4:
        assert influence == pytest.approx(0.3, rel=1e-4)


@pytest.mark.slow
def test_the_examples_noise_has_its_standard_deviation():
    """Kernel and bias of 4,000 numbers, one step: what noise adds to the weights, over that without."""
    model = tiny.linear_model((1000,), 4)
    x, y = tiny.client_data(8, 1000, 4)
    data = [tiny.batches(x, y, 8)]
    results = {}
    for sigma in (0.0, 1.5):
        opts = options(transforms=chain(dp_sgd(2.0, sigma, 8)))
        results[sigma] = weights(run(opts, data, model=model))
    noise = (results[1.5][0] - results[0.0][0]).ravel() / RATE * 8
    expected = 1.5 * 2.0
    assert np.std(noise) == pytest.approx(expected, rel=4 / np.sqrt(2 * noise.size))
    assert abs(np.mean(noise)) < 4 * expected / np.sqrt(noise.size)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [n if n == "vit" else pytest.param(n, marks=pytest.mark.slow) for n in zoo.NAMES if n != "swin"]
)
def test_gradients_of_transformers_are_those_of_one_example_at_a_time(name):
    """Embedding tables, tied weights, convolutions, dropout off: the clipped mean over a loop of batches of 1."""
    member = zoo.BY_NAME[name]
    member = member if name == "albert" else member.shallow()  # whose layers share their weights
    model, (x, y) = member.functional(), member.sample(batch=3, length=6)
    trained, frozen = (tuple(tf.constant(w) for w in part) for part in model.initial_weights)
    without_dropout = _Deterministic(model)
    clip = 0.5
    expected = [np.zeros(w.shape, np.float32) for w in trained]
    for i in range(3):
        one = {k: v if k == models.SEED else v[i : i + 1] for k, v in x.items()}
        with tf.GradientTape() as tape:
            tape.watch(trained)
            loss = model.loss(model.predict_on_batch((trained, frozen), one, training=False), y[i : i + 1])
        gradients = [tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, trained)]
        factor = min(1.0, clip / np.sqrt(sum((g**2).sum() for g in gradients)))
        assert factor < 1
        expected = [e + factor * g / 3 for e, g in zip(expected, gradients)]
    privacy = dp_sgd(clip, 0.0, 3)
    gradients = tf.function(lambda: gradients_of(privacy, without_dropout, trained, frozen, x, y), autograph=False)
    found, _, _ = gradients()
    assert_close([tf.convert_to_tensor(g).numpy() for g in found], expected, tolerance=2e-6)


@pytest.mark.slow
def test_a_model_that_cannot_be_vectorized_is_told():
    member = zoo.BY_NAME["swin"]
    model, (x, y) = member.functional(), member.sample(batch=3)
    trained, frozen = (tuple(tf.constant(w) for w in part) for part in model.initial_weights)
    with pytest.raises(UserError, match="gradients of single examples cannot be computed together"):
        tf.function(lambda: gradients_of(dp_sgd(1.0, 0.0, 3), model, trained, frozen, x, y), autograph=False)()


class _Deterministic:
    """A model without dropout also in training."""

    def __init__(self, model):
        self._model, self.loss = model, model.loss

    def predict_on_batch(self, weights, x, training):
        return self._model.predict_on_batch(weights, x, training=False)


def test_the_norm_of_sparse_gradients_counts_a_row_once():
    rng = np.random.default_rng(0)
    rows, indices = rng.normal(size=[2, 6, 3]).astype(np.float32), np.array([[0, 1, 0, 4, 4, 4], [2, 2, 2, 2, 2, 2]])
    dense = np.zeros([2, 5, 3])
    for i in range(2):
        np.add.at(dense[i], indices[i], rows[i])
    norms = noise.squared_norms([(tf.constant(rows), tf.constant(indices))])
    np.testing.assert_allclose(norms, (dense**2).sum((1, 2)), rtol=1e-5)


# Updates


def test_local_privacy_without_noise_and_with_an_infinite_clip_is_the_plain_mean():
    unweighted = options(weighted=False)
    private = dataclasses.replace(unweighted, transforms=chain(local_dp(np.inf)))
    assert_close(weights(run(private, clients())), weights(run(unweighted, clients())))


def test_an_update_leaves_the_client_clipped():
    one = clients()[:1]
    update = [w0 - w for w0, w in zip(START, weights(run(options(weighted=False), one)))]
    norm = np.sqrt(sum((u**2).sum() for u in update))
    private = options(weighted=False, transforms=chain(local_dp(norm / 3)))
    assert_close([w0 - w for w0, w in zip(START, weights(run(private, one)))], [u / 3 for u in update])


def test_an_update_that_is_not_finite_leaves_as_noise_of_weight_one():
    privacy = local_dp(2.0, 0.5)
    seed = tf.constant([3, 4], tf.int64)
    zero, broken = [tf.zeros([3]), tf.zeros([2])], [tf.constant([1.0, np.nan, 2.0]), tf.constant([np.inf, 0.0])]
    assert_close(privacy.privatized(broken, seed), privacy.privatized(zero, seed), tolerance=0)


@pytest.mark.slow
def test_the_updates_noise_has_its_standard_deviation_after_averaging():
    """The mean over k clients has noise of sigma C / sqrt(k)."""
    model = tiny.linear_model((1000,), 4)
    data = [tiny.batches(*tiny.client_data(4, 1000, 4, seed=i), 4) for i in range(3)]
    seeds = [_with_seeds(d, i) for i, d in enumerate(data)]
    base = options(weighted=False, transforms=chain(local_dp(0.1)))
    noisy = dataclasses.replace(base, transforms=chain(local_dp(0.1, 2.0)))
    noise = (weights(run(noisy, seeds, model=model))[0] - weights(run(base, seeds, model=model))[0]).ravel()
    expected = 2.0 * 0.1 / np.sqrt(3)
    assert np.std(noise) == pytest.approx(expected, rel=4 / np.sqrt(2 * noise.size))


@pytest.mark.parametrize("engine_class", [LocalEngine, pytest.param(NativeEngine, marks=pytest.mark.slow)])
def test_clients_without_data_send_noise_of_their_own_in_every_round(engine_class):
    """Else the same vector in each round gives such a client away, and the noise of two of them is not independent."""
    noisy, model = options(weighted=False, transforms=chain(local_dp(1.0, 1.0))), tiny.linear_model((1000,), 4)
    nothing = _with_seeds(tiny.batches(*tiny.client_data(4, 1000, 4), 4), 0).take(0)
    with engine_class(process("fed_avg", noisy, model), 1) as engine:
        outputs = [weights(tiny.run_rounds(engine, [nothing] * number))[0] for number in (1, 1, 2)]
    first, second, mean_of_two = (np.ravel(output - np.mean(output)) for output in outputs)
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(first.size)
    for noise_sent, expected in ((first, 1.0), (mean_of_two, 0.5**0.5)):
        assert np.std(noise_sent) == pytest.approx(expected, rel=5 / np.sqrt(2 * first.size))


def _with_seeds(data, client):
    """The batches of a client with seeds that no other has."""

    def seeded(i, batch):
        x, y = batch
        return collections.OrderedDict(x=x["x"], seed=tf.stack([i, tf.constant(100 + client, tf.int64)])), y

    return data.enumerate().map(seeded)


@pytest.mark.slow
@pytest.mark.parametrize(
    "private",
    [
        {"transforms": chain(local_dp(0.5, 1.0)), "weighted": False},
        {"transforms": chain(dp_sgd(0.5, 1.0, 4))},
    ],
    ids=["updates", "examples"],
)
def test_the_same_seed_gives_the_same_noise_on_any_engine_and_number_of_threads(private):
    data = [_with_seeds(d, i) for i, d in enumerate(clients())]
    one, two = (weights(run(options(**private), data, threads=n)) for n in (1, 2))
    assert_close(one, two, tolerance=0)
    with NativeEngine(process("fed_avg", options(**private), tiny.linear_model())) as native:
        assert_close(one, weights(tiny.run_rounds(native, data)))
    other = [_with_seeds(d, 10 + i) for i, d in enumerate(clients())]
    assert np.abs(weights(run(options(**private), other))[0] - one[0]).max() > 1e-3


# Refusals


def test_weights_that_tell_of_the_data_are_rejected():
    with pytest.raises(UserError, match="algorithm.weighted=False"):
        run(options(transforms=chain(local_dp(1.0, 1.0))), clients())


@pytest.mark.parametrize("transform", [local_dp(1.0, 1.0), dp_sgd(1.0, 1.0, 4)])
def test_mime_lite_which_also_sends_a_gradient_is_rejected(transform):
    with pytest.raises(UserError, match="cannot be combined with Mime Lite"):
        run(options(weighted=False, transforms=chain(transform)), clients(), "mime_lite")


@pytest.mark.slow
def test_fed_sgd_without_noise_and_with_an_infinite_clip_is_plain():
    private = options(weighted=False, transforms=chain(dp_sgd(np.inf, 0.0, batch_size=4), local_dp(np.inf)))
    plain = run(options(weighted=False), clients(), "fed_sgd")
    assert_close(weights(run(private, clients(), "fed_sgd")), weights(plain))


def test_the_gradient_of_fed_sgd_leaves_the_client_clipped():
    one = clients()[:1]
    gradient = [w0 - w for w0, w in zip(START, weights(run(options(weighted=False), one, "fed_sgd")))]
    norm = np.sqrt(sum((g**2).sum() for g in gradient))
    private = run(options(weighted=False, transforms=chain(local_dp(norm / 3))), one, "fed_sgd")
    assert_close([w0 - w for w0, w in zip(START, weights(private))], [g / 3 for g in gradient])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: local_dp(0.0), "clip of 0.0"),
        (lambda: local_dp(1.0, -1.0), "-1.0"),
        (lambda: local_dp(np.inf, 1.0), "infinite clip"),
        (lambda: dp_sgd(1.0, 1.0, 8, 3), "3 microbatches do not part a batch of 8"),
    ],
)
def test_numbers_without_meaning_are_refused(make, told):
    with pytest.raises(UserError, match=told):
        make()
