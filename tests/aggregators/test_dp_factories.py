"""Laws of the private means: what they are without noise, how much noise there is, and what one client can do."""

import contextlib
import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from tests import tiny
from tests.aggregators import echo
from tff_tx import algorithms
from tff_tx.aggregators import dp
from tff_tx.run.checkpoints import Checkpoints
from tff_tx.runtime import ENGINES, LocalEngine
from tff_tx.runtime.form import RoundForm

SIZE = 20_000
EXPECTED = 4
"""Clients a round expects: the denominator."""
STRATEGY = np.tile([1.0, 0.5, 0.25], [10, 1])
KEY = dp.noise_key(1)


def aggregators(clip, stddev):
    """Every mechanism with noise of a standard deviation in the sum; of the correlated ones, in its first release."""
    noises = {
        "gaussian": dp.independent_noise(stddev, KEY),
        "tree": dp.tree_noise(stddev, KEY),
        "restarted": dp.tree_noise(stddev, KEY, restart_every=2),
        "banded": dp.banded_noise(STRATEGY, stddev, KEY),
    }
    found = {name: dp.fixed_clip_aggregator(clip, EXPECTED, noise) for name, noise in noises.items()}
    clip = min(clip, 1e6)
    found["adaptive"] = dp.adaptive_clip_aggregator(stddev / clip, 0.0, EXPECTED, KEY, initial_clip=clip)
    return found


MECHANISMS = tuple(aggregators(1.0, 0.0))

pytestmark = pytest.mark.usefixtures("compiled_once")


def members(*fast):
    """All mechanisms as test parameters; those that are not `fast` are marked slow."""
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in MECHANISMS]


@functools.cache
def noisy_process(name):
    """Sums clipped to 0.5, with noise 0.8."""
    return echo.process(aggregators(0.5, 0.8)[name], SIZE)


@pytest.fixture(scope="module")
def noisy_engine(compiled_once):
    """From a mechanism to the engine of its `noisy_process`, opened once."""
    opened = functools.cache(lambda name: stack.enter_context(LocalEngine(noisy_process(name))))
    with contextlib.ExitStack() as stack:
        yield opened


def run(aggregator, rounds, size=SIZE, engine=LocalEngine):
    with engine(echo.process(aggregator, size)) as opened:
        return echo.aggregates(opened, rounds)


@functools.cache
def fed_avg(aggregator, **model):
    options = algorithms.Options(
        client_optimizer_fn=lambda rate: algorithms.build_optimizer("sgd", rate),
        server_optimizer=algorithms.build_optimizer("sgd", 1.0),
        weighted=False,
        aggregator=aggregator,
    )
    return algorithms.build_fed_avg(tiny.linear_model(**model), options)


def clients():
    return [tiny.batches(*tiny.client_data(n, seed=i), 4) for i, n in enumerate((7, 12, 3, 5))]


@pytest.fixture(scope="module")
def plain_mean():
    """Two rounds of FedAvg that counts clients equally."""
    with LocalEngine(fed_avg(None)) as engine:
        return tiny.weights_of(tiny.run_rounds(engine, clients(), 2).state)


@pytest.mark.slow
@pytest.mark.parametrize("name", members("gaussian", "tree", "banded", "adaptive"))
def test_without_noise_and_clip_it_is_the_plain_mean(name, plain_mean):
    with LocalEngine(fed_avg(aggregators(np.inf, 0.0)[name])) as engine:
        found = tiny.weights_of(tiny.run_rounds(engine, clients(), 2).state)
    for ours, plain in zip(found, plain_mean):
        np.testing.assert_allclose(ours, plain, atol=1e-6)


@pytest.mark.parametrize("name", MECHANISMS)
def test_noise_of_the_mean_has_the_accounted_deviation(name, noisy_engine):
    """A sum clipped to 0.5 with noise 0.8, divided by the expected number of clients; two report."""
    value = np.full([SIZE], 1e-6)
    (first,) = echo.aggregates(noisy_engine(name), [[echo.client(value), echo.client(value)]])
    assert first.std() == pytest.approx(0.8 / EXPECTED, rel=5 / np.sqrt(2 * SIZE))


@pytest.mark.parametrize("name", MECHANISMS)
def test_an_empty_round_releases_noise_alone(name, noisy_engine):
    nobody, again = echo.aggregates(noisy_engine(name), [[], []])
    assert nobody.std() == pytest.approx(0.8 / EXPECTED, rel=5 / np.sqrt(2 * SIZE))
    assert not np.array_equal(nobody, again)


SENT = {
    "long": (np.full([3], 7.0), 1.0),
    "huge": (np.full([3], 3e38), 1.0),
    "infinite": (np.array([1.0, -1.0, 1.0]), 0.0),
    "not a number": (np.array([0.0, 1.0, 1.0]), 0.0),
}


@pytest.fixture(scope="module", params=["local", "tff_native"])
def clipping_engine(request, name):
    with ENGINES[request.param](echo.process(aggregators(0.5, 0.3)[name], 3)) as opened:
        yield opened


@pytest.mark.parametrize("sent", SENT)
@pytest.mark.parametrize("name", ["gaussian", "adaptive"], scope="module")
def test_one_client_moves_the_mean_by_no_more_than_the_clip(clipping_engine, name, sent):
    others = [echo.client(np.array([0.1, 0.0, -0.2])), echo.client(np.array([0.0, 9.0, 0.0]))]
    rounds = [[*others, echo.client(*SENT[sent])], others]
    (with_it,), (without,) = (echo.aggregates(clipping_engine, [r]) for r in rounds)
    moved = np.linalg.norm(with_it - without)
    assert moved <= 0.5 / EXPECTED * (1 + 1e-6)
    assert np.isfinite(with_it).all()
    if sent == "long":
        assert moved == pytest.approx(0.5 / EXPECTED, rel=1e-5)


def test_a_clients_failure_leaves_the_denominator():
    """NaN within its training makes the engine leave a client out: the others count as they would with it at zero."""
    whole = [echo.client(np.array([0.1, 0.2, 0.0])) for _ in range(2)]
    failing = echo.client(np.array([np.nan, 0.0, 0.0]))
    aggregator = aggregators(np.inf, 0.0)["gaussian"]
    ((mean,),) = [run(aggregator, [[*whole, failing]], 3)]
    np.testing.assert_allclose(mean, np.array([0.2, 0.4, 0.0]) / EXPECTED, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", members("tree", "adaptive"))
def test_engines_and_threads_give_the_same(name):
    process = fed_avg(aggregators(0.1, 0.2)[name])

    def weights(engine):
        with engine:
            state = engine.initialize()
            for cohort in (clients(), [], clients()[:1]):
                state = engine.run_round(state, cohort, min_clients=0).state
            return engine.model_weights(state).trainable

    one, four = weights(LocalEngine(process, threads=1)), weights(LocalEngine(process, threads=4))
    native = weights(ENGINES["tff_native"](process))
    for a, b, c in zip(one, four, native):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", members("tree", "banded", "adaptive"))
def test_a_resumed_run_draws_on(name, tmp_path, noisy_engine):
    """The noise after a checkpoint is that of the run that was not interrupted, also from a seed nobody gave."""
    engine = noisy_engine(name)
    state = engine.run_round(engine.initialize(), [], min_clients=0).state
    Checkpoints(str(tmp_path)).save(state, 1)
    expected = engine.run_round(state, [], min_clients=0).state
    with LocalEngine(echo.process(_with_new_seed(name), SIZE)) as engine:
        state, round_num = Checkpoints(str(tmp_path)).load_latest(engine.initialize())
        assert round_num == 1
        found = engine.run_round(state, [], min_clients=0).state
        np.testing.assert_array_equal(*(engine.model_weights(s).trainable[0] for s in (expected, found)))


def _with_new_seed(name):
    key = dp.noise_key()
    if name == "adaptive":
        return dp.adaptive_clip_aggregator(1.6, 0.0, EXPECTED, key, initial_clip=0.5)
    noises = {
        "gaussian": dp.independent_noise(0.8, key),
        "tree": dp.tree_noise(0.8, key),
        "restarted": dp.tree_noise(0.8, key, restart_every=2),
        "banded": dp.banded_noise(STRATEGY, 0.8, key),
    }
    return dp.fixed_clip_aggregator(0.5, EXPECTED, noises[name])


@pytest.mark.parametrize("name", MECHANISMS)
def test_workers_are_not_told_the_seed(name):
    form = RoundForm.of(noisy_process(name))
    halves = [half.tobytes() for half in KEY]
    assert all(half in form.computations["initialize"] for half in halves)
    for part in form.for_workers().computations.values():
        assert not any(half in part for half in halves)


def test_frozen_weights_get_no_noise():
    model = tiny.linear_model(frozen=True)
    with LocalEngine(fed_avg(aggregators(0.5, 1.0)["gaussian"], frozen=True)) as engine:
        output = tiny.run_rounds(engine, clients())
        weights = engine.model_weights(output.state)
    assert len(weights.non_trainable) == 2
    for after, before in zip(weights.non_trainable, model.initial_weights[1]):
        np.testing.assert_array_equal(after, before)
    for after, before in zip(weights.trainable, model.initial_weights[0]):
        assert np.all(after != before)


# Adaptive clipping


def adapt(query, norms, rounds):
    """The norms that a query clips to, round after round, with records of some norms."""
    state, clips = query.initial_global_state(), []
    records = [tf.constant([0.6 * norm, 0.8 * norm], tf.float32) for norm in norms]

    @tf.function
    def one_round(state):
        params = query.derive_sample_params(state)
        total = query.initial_sample_state(tf.zeros([2]))
        for record in records:
            total = query.accumulate_preprocessed_record(total, query.preprocess_record(params, record))
        return query.get_noised_result(total, state)[1]

    for _ in range(rounds):
        state = one_round(state)
        clips.append(float(query.derive_metrics(state)["clip"]))
    return np.array(clips)


def adaptive_query(expected, quantile, noise=0.0, count_stddev=0.0):
    unit = dp.independent_noise(1.0, KEY)((tf.TensorSpec([2]), tf.TensorSpec([])))
    return dp.AdaptiveClipQuery(0.1, noise, quantile, 0.2, count_stddev, expected, unit)


@pytest.mark.parametrize(
    ("quantile", "count_stddev"),
    [
        (0.3, 0.0),
        pytest.param(0.5, 0.0, marks=pytest.mark.slow),
        (0.9, 0.0),
        pytest.param(0.3, 2.0, marks=pytest.mark.slow),
        (0.5, 2.0),
        pytest.param(0.9, 2.0, marks=pytest.mark.slow),
    ],
)
def test_the_clip_converges_to_the_stated_quantile(quantile, count_stddev):
    norms = np.random.default_rng(0).lognormal(0.0, 0.7, 41)
    clips = adapt(adaptive_query(41, quantile, 1.0, count_stddev), norms, 150)
    below, above = np.quantile(norms, [quantile - 0.06, quantile + 0.06])
    assert below < np.exp(np.log(clips[-40:]).mean()) < above


def test_without_noise_it_adapts_as_tensorflow_privacy_does():
    norms = np.random.default_rng(1).lognormal(0.0, 0.7, 20)
    theirs = tfp.QuantileAdaptiveClipSumQuery(0.1, 0.0, 0.5, 0.2, 0.0, 25)
    np.testing.assert_allclose(adapt(adaptive_query(25, 0.5), norms, 30), adapt(theirs, norms, 30), rtol=1e-5)


def test_adaptive_noise_follows_the_clip():
    """The next round's noise is in units of the new norm."""
    first, second = run(dp.adaptive_clip_aggregator(2.0, 0.0, EXPECTED, KEY, initial_clip=0.5), [[], []])
    assert first.std() == pytest.approx(2.0 * 0.5 / EXPECTED, rel=5 / np.sqrt(2 * SIZE))
    # Nobody is below the norm where nobody is: half of the expected count, which is the target.
    assert second.std() == pytest.approx(first.std(), rel=10 / np.sqrt(2 * SIZE))


def test_noise_of_counts_is_added():
    """In units of the logarithm of the norm: rate 0.2 times the count's noise over the expected number of clients."""
    query, state, changes = adaptive_query(100, 0.5, 0.0, 3.0), None, []
    state = query.initial_global_state()
    step = tf.function(lambda s: query.get_noised_result(query.initial_sample_state(tf.zeros([2])), s)[1])
    for _ in range(400):
        after = step(state)
        changes.append(float(tf.math.log(after.clip / state.clip)))
        state = after
    assert np.std(changes) == pytest.approx(0.2 * 3.0 / 100, rel=5 / np.sqrt(800))


@pytest.mark.parametrize("count_stddev", [0.6, 2.0, 5.0])
def test_the_budget_is_split_as_tff_splits_it(count_stddev):
    from tensorflow_federated.python.aggregators import differential_privacy

    theirs, _ = differential_privacy.adaptive_clip_noise_params(1.1, 100.0, count_stddev)
    assert dp.split_noise(1.1, count_stddev) == pytest.approx(theirs)
    with pytest.raises(ValueError, match="more than half"):
        dp.split_noise(1.1, 0.55)


# Clipping


@pytest.mark.parametrize("clip", [0.5, 2.0, np.inf])
def test_clipping_equals_numpy(clip):
    record = [np.float32([3.0, 0.0]), np.float32([[0.0, 0.4]])]
    norm = np.sqrt(9.16)
    clipped, found = dp.clip_to_norm([tf.constant(r) for r in record], clip)
    assert float(found) == pytest.approx(norm, rel=1e-6)
    for ours, r in zip(clipped, record):
        np.testing.assert_allclose(ours, r * min(1, clip / norm), rtol=1e-6)


def test_nothing_is_clipped_to_nothing():
    clipped, norm = dp.clip_to_norm(tf.zeros([3]), 1.0)
    np.testing.assert_array_equal(clipped, np.zeros(3))
    assert float(norm) == 0


# DP-FTRL and BandMF as server optimizers

NOISES = {"tree": dp.tree_noise(0.5, KEY, 3), "banded": dp.banded_noise(STRATEGY, 0.5, KEY)}


@pytest.mark.parametrize("name", NOISES)
def test_the_server_optimizer_is_ftrl_with_momentum(name):
    """w_t = w_0 - rate V_t, V_t = momentum V_{t-1} + noised running sum (Kairouz et al. 2021)."""
    rate, momentum, rng = 0.3, 0.9, np.random.default_rng(0)
    gradients, start = rng.normal(size=[7, 6]).astype(np.float32), rng.normal(size=[6]).astype(np.float32)
    optimizer = dp.NoisedOptimizer(tff.learning.optimizers.build_sgdm(rate, momentum), NOISES[name], 2.0)
    noise = NOISES[name](tf.TensorSpec([6]))
    noise_state, state, weights = noise.initialize(), optimizer.initialize(tf.TensorSpec([6])), tf.constant(start)
    total, velocity = np.zeros(6), np.zeros(6)
    for gradient in gradients:
        state, weights = optimizer.next(state, weights, tf.constant(gradient))
        drawn, noise_state = noise.next(noise_state)
        total = total + gradient + drawn.numpy() / 2.0
        velocity = momentum * velocity + total
        np.testing.assert_allclose(weights, start - rate * velocity, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param("tree", marks=pytest.mark.slow), "banded"])
def test_noise_in_the_optimizer_is_that_in_the_aggregator(name):
    """The two forms of a mechanism train the same model."""

    def train(aggregator, server_optimizer):
        options = algorithms.Options(
            client_optimizer_fn=lambda rate: algorithms.build_optimizer("sgd", rate),
            server_optimizer=server_optimizer,
            weighted=False,
            aggregator=aggregator,
        )
        with LocalEngine(algorithms.build_fed_avg(tiny.linear_model(), options)) as engine:
            return tiny.weights_of(tiny.run_rounds(engine, clients(), 4).state)

    sgd = algorithms.build_optimizer("sgd", 0.7, momentum=0.9)
    in_aggregator = train(dp.fixed_clip_aggregator(0.1, EXPECTED, NOISES[name]), sgd)
    in_optimizer = train(dp.fixed_clip_aggregator(0.1, EXPECTED), dp.NoisedOptimizer(sgd, NOISES[name], EXPECTED))
    for a, b in zip(in_aggregator, in_optimizer):
        np.testing.assert_allclose(a, b, atol=1e-6)
