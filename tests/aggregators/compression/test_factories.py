"""Factories that compress, in whole processes and on both engines; error feedback and the delta-coded download."""

import collections
import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests import tiny
from tff_tx import algorithms, cohorts
from tff_tx.aggregators import compression, dp
from tff_tx.aggregators.compression import build_compressor
from tff_tx.cohorts import devices as participation
from tff_tx.core.errors import UserError
from tff_tx.run import loop
from tff_tx.runtime import ClientCompression, LocalEngine, NativeEngine, TooFewClientsError

OPTIONS = algorithms.Options(
    client_optimizer_fn=lambda rate: algorithms.build_optimizer("sgd", rate),
    server_optimizer=algorithms.build_optimizer("sgd", 1.0),
)


pytestmark = pytest.mark.usefixtures("compiled_once")


def process(build=algorithms.build_fed_avg, **options):
    return build(tiny.linear_model(), dataclasses.replace(OPTIONS, **options))


def mean_of_codes(name, **kwargs):
    return tff.aggregators.MeanFactory(compression.CompressedSumFactory(build_compressor(name, **kwargs), seed=1))


def cohort(sizes=(12, 20, 7)):
    return [tiny.batches(*tiny.client_data(n, seed=n), 5) for n in sizes]


@functools.cache
def plain_process():
    return process()


@functools.cache
def plain_update():
    """The weights before and after a round of uncompressed FedAvg."""
    with LocalEngine(plain_process()) as engine:
        start = engine.initialize()
        return tiny.weights_of(start), tiny.weights_of(engine.run_round(start, cohort()).state)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["eden8", "low_rank"])
def test_a_code_that_loses_nothing_changes_nothing(name):
    """With the full rank or 8 bits sent, a round is one of plain FedAvg."""
    aggregator = mean_of_codes(name, fraction=1.0, rank=3)
    with LocalEngine(process(aggregator=aggregator), encode=compression.encode) as engine:
        output = engine.run_round(engine.initialize(), cohort())
    before, after = plain_update()
    step = max(np.max(np.abs(a - b)) for a, b in zip(after, before))
    for ours, theirs in zip(tiny.weights_of(output.state), after):
        np.testing.assert_allclose(ours, theirs, atol=0.02 * step if name.endswith("8") else 1e-5 * step)


@pytest.mark.slow
@pytest.mark.parametrize(
    "aggregator",
    [
        tff.aggregators.zeroing_factory(10.0, mean_of_codes("uniform8")),
        compression.WeightedCompressedFactory(build_compressor("eden2"), tff.aggregators.MeanFactory(), seed=3),
    ],
    ids=["zeroing", "weighted_wrapper"],
)
def test_both_engines_give_the_same_numbers_at_any_number_of_threads(aggregator):
    built = process(aggregator=aggregator)
    results = []
    for make in (lambda p: LocalEngine(p, 1), lambda p: LocalEngine(p, 3), NativeEngine):
        with make(built) as engine:
            results.append(tiny.weights_of(tiny.run_rounds(engine, cohort(), rounds=2).state))
    for other, tolerance in ((results[1], 0), (results[2], 1e-5)):
        for ours, theirs in zip(results[0], other):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


def test_nested_structures_of_floats_are_summed_and_others_refused():
    value_type = tff.to_type(collections.OrderedDict(a=np.float32, b=(tff.TensorType(np.float32, [2, 3]), np.float64)))
    factory = compression.CompressedSumFactory(compression.TopK(1.0))
    summed = factory.create(value_type)
    values = [
        collections.OrderedDict(a=float(i), b=(np.full([2, 3], i, np.float32), np.float64(2 * i))) for i in (1, 2, 4)
    ]
    output = summed.next(summed.initialize(), values)
    assert output.result["a"] == 7
    np.testing.assert_array_equal(output.result["b"][0], np.full([2, 3], 7))
    assert output.result["b"][1] == 14
    with pytest.raises(TypeError, match="only floats"):
        factory.create(tff.TensorType(np.int32))
    with pytest.raises(TypeError, match="must be an unweighted one"):
        compression.CompressedFactory(compression.TopK(1.0), tff.aggregators.MeanFactory())
    with pytest.raises(TypeError, match="must be a weighted one"):
        compression.WeightedCompressedFactory(compression.TopK(1.0), tff.aggregators.SumFactory())


@pytest.mark.parametrize(
    "name", ["eden1", *(pytest.param(n, marks=pytest.mark.slow) for n in ("eden2", "stochastic2"))]
)
def test_no_client_changes_a_private_sum_by_more_than_the_clip(name):
    """What is decoded may be larger than what was encoded, and is clipped again."""
    value_type = tff.TensorType(np.float32, [64])
    x = np.random.default_rng(2).normal(size=64).astype(np.float32)

    def norm(finalize, value):
        decoded_sum = compression.CompressedSumFactory(build_compressor(name), seed=3, finalize=finalize)
        process = dp.fixed_clip_aggregator(1.0, 1.0, sum_factory=decoded_sum).create(value_type)
        return np.linalg.norm(process.next(process.initialize(), [value]).result)

    assert norm(None, x) > 1.02
    assert norm(lambda value: dp.clip_to_norm(value, 1.0)[0], x) == pytest.approx(1.0)
    assert norm(lambda value: dp.clip_to_norm(value, 1.0)[0], np.full_like(x, np.nan)) == 0.0


def test_clients_draw_apart_from_each_other_and_from_round_to_round():
    """Of values almost alike the errors are not: their mean shrinks with the number of clients."""
    value_type = tff.TensorType(np.float32, [4096])
    summed = compression.CompressedSumFactory(build_compressor("eden1"), seed=5).create(value_type)
    x = np.random.default_rng(0).normal(size=4096).astype(np.float32)
    values = [x + np.float32(1e-6 * i) for i in range(16)]

    def nmse(mean):
        return np.sum((mean - x) ** 2) / np.sum(x**2)

    first = summed.next(summed.initialize(), values)
    second = summed.next(first.state, values)
    one = nmse(summed.next(summed.initialize(), values[:1]).result)
    assert nmse(first.result / 16) == pytest.approx(one / 16, rel=0.3)
    assert nmse((first.result + second.result) / 32) == pytest.approx(one / 32, rel=0.3)


def test_bytes_are_those_that_were_made():
    with LocalEngine(process(aggregator=mean_of_codes("top_k", fraction=0.2)), encode=compression.encode) as engine:
        contributions = []
        output = engine.run_round(
            engine.initialize(), cohort(), on_contribution=lambda _, leaves: contributions.append(leaves)
        )
        empty = engine.run_round(output.state, [], min_clients=0)
    sizes = [len(compression.encode([leaf.numpy() for leaf in leaves])) for leaves in contributions]
    assert output.upload_bytes == pytest.approx(np.mean(sizes))
    assert output.download_bytes is None
    assert np.isnan(empty.upload_bytes), "of nobody, there is no mean"


class Named:
    """Clients by name, as the round loop names them, with the data of `cohort` and a seed of their own."""

    sizes = {b"a": 12, b"b": 20, b"c": 7}

    @staticmethod
    def arguments(names, round_num):
        return [collections.OrderedDict(client_id=n, seed=np.array([round_num, n[0]], np.int64)) for n in names]

    @classmethod
    def process(cls, **options):
        data = {name: tiny.client_data(20, seed=n) for name, n in cls.sizes.items()}
        xs, ys = (np.stack([d[i] for d in data.values()]) for i in (0, 1))

        @tff.tensorflow.computation(collections.OrderedDict(client_id=np.str_, seed=tff.TensorType(np.int64, [2])))
        def batches(client):
            index = tf.argmax(tf.equal(client["client_id"], list(data)))
            return tiny.batches(tf.gather(xs, index), tf.gather(ys, index), 5)

        return tff.simulation.compose_dataset_computation_with_learning_process(batches, process(**options))


@functools.cache
def named_process():
    return Named.process()


def feedback_engine(directory, compressor, rounds_kept=10, threads=2):
    feedback = ClientCompression(compressor, cohorts.ClientStore(str(directory), rounds_kept))
    return LocalEngine(named_process(), threads, encode=compression.encode, hooks=[feedback])


COHORTS = ((b"a", b"b", b"c"), (b"a", b"c"), (b"b", b"c"), (b"a", b"b"))


def run_feedback(engine, state, rounds):
    for round_num in rounds:
        output = engine.run_round(state, Named.arguments(COHORTS[round_num - 1], round_num))
        state = output.state
    return state, output


def test_error_feedback_is_the_papers(tmp_path):
    """Against NumPy over four rounds: top-k of update plus residual, the rest kept by client."""
    k, residuals = 4, {}
    with LocalEngine(named_process()) as plain, feedback_engine(tmp_path, compression.TopK(k / 18)) as engine:
        state = engine.initialize()
        for round_num, names in enumerate(COHORTS, 1):
            updates, weights = [], []
            plain.run_round(
                state["current"],
                Named.arguments(names, round_num),
                on_contribution=lambda _, leaves, u=updates: u.append([leaf.numpy() for leaf in leaves]),
            )
            before = tiny.weights_of(state["current"])
            total = np.zeros(18)
            for name, leaves in zip(names, updates):
                (at,) = (i for i, leaf in enumerate(leaves) if leaf.shape == (5, 3))
                wanted = np.concatenate([leaves[at].reshape(-1), leaves[at + 1]]) + residuals.get(name, 0)
                sent = np.where(np.abs(wanted) >= np.sort(np.abs(wanted))[-k], wanted, 0)
                residuals[name] = wanted - sent
                total += sent
                weights.append(20)
            state = engine.run_round(state, Named.arguments(names, round_num)).state
            step = np.concatenate([w.reshape(-1) for w in before]) - total / sum(weights)
            ours = np.concatenate([w.reshape(-1) for w in tiny.weights_of(state["current"])])
            np.testing.assert_allclose(ours, step, atol=2e-6)


class Killed(BaseException):
    """Stands for the process' end."""


def train(directory, dies_in=None, threads=2):
    """Four rounds with a checkpoint every two; gives the final weights and residuals."""

    def sample(round_num, attempt=0):
        if round_num == dies_in:
            raise Killed
        return [name.decode() for name in COHORTS[round_num - 1]]

    def arguments(ids, round_num):
        return Named.arguments([c.encode() for c in ids], round_num)

    compressor = compression.RandomK(0.2, scaled=False)
    with feedback_engine(directory / "residuals", compressor, rounds_kept=2, threads=threads) as engine:
        weights = loop.train(
            engine,
            str(directory),
            loop.Schedule(4, rounds_per_checkpoint=2),
            cohort_fn=participation.build_cohort_fn(sample, arguments),
            show_progress=False,
        )
    store = cohorts.ClientStore(str(directory / "residuals"), 2)
    return [*weights.trainable, *weights.non_trainable, *(leaf for name in "abc" for leaf in store.read(name, 4))]


@pytest.mark.slow
def test_a_killed_run_with_error_feedback_goes_on_to_the_same_end(tmp_path):
    """Killed after round 3 with a checkpoint of round 2: residuals of round 3 must not count."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    expected = train(tmp_path / "whole")
    with pytest.raises(Killed):
        train(tmp_path / "killed", dies_in=4)
    for ours, theirs in zip(train(tmp_path / "killed", threads=3), expected):
        np.testing.assert_array_equal(ours, theirs)


def test_a_round_that_does_not_count_leaves_no_residuals(tmp_path):
    with feedback_engine(tmp_path, compression.TopK(0.2)) as engine:
        state, _ = run_feedback(engine, engine.initialize(), (1,))
        with pytest.raises(TooFewClientsError):
            engine.run_round(state, Named.arguments((b"a",), 2), min_clients=2)
        store = cohorts.ClientStore(str(tmp_path), 10)
        assert store.read("a", 2) is not None
        for now, before in zip(store.read("a", 2), store.read("a", 1)):
            np.testing.assert_array_equal(now, before)


def test_residuals_that_no_checkpoint_needs_are_removed(tmp_path):
    store = cohorts.ClientStore(str(tmp_path), rounds_kept=3)
    for round_num in (1, 2, 4, 5, 8):
        store.write("client/é", round_num, [np.array([round_num])])
    assert store.read("client/é", 3) is None
    assert [int(store.read("client/é", r)[0][0]) for r in (5, 7, 8, 100)] == [5, 5, 8, 8]
    store.rewind(6)
    assert int(store.read("client/é", 100)[0][0]) == 5
    assert store.read("other", 100) is None
    (path,) = (p for p in tmp_path.rglob("round_5"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="is damaged"):
        store.read("client/é", 100)


def test_error_feedback_of_clients_that_send_codes_is_refused(tmp_path):
    with pytest.raises(UserError, match="send none of the model's shape: set compression.error_feedback to false"):
        LocalEngine(
            process(aggregator=mean_of_codes("eden1")),
            hooks=[ClientCompression(compression.TopK(0.1), cohorts.ClientStore(str(tmp_path), 1))],
        )


def distributor_fn(name):
    return lambda initial: compression.build_delta_distributor(initial, build_compressor(name, fraction=0.2), seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", [pytest.param("fed_prox", marks=pytest.mark.slow), "mime_lite"])
def test_a_download_that_loses_nothing_changes_nothing(algorithm):
    options = {
        "transforms": (algorithms.proximal(0.1),),
        "distributor_fn": lambda i: compression.build_delta_distributor(i, whole),
    }
    whole = compression.TopK(1.0)
    build = algorithms.ALGORITHMS[algorithm].build
    results = []
    for chosen in (options, {**options, "distributor_fn": None}):
        with LocalEngine(process(build, **chosen)) as engine:
            results.append(tiny.weights_of(tiny.run_rounds(engine, cohort(), rounds=2).state))
    for ours, theirs in zip(*results):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_the_download_is_the_code_of_what_has_changed():
    """Clients train from held + decoded; what they hold follows the model, and bytes are those of the code."""
    built = process(distributor_fn=distributor_fn("top_k"))
    with LocalEngine(built, encode=compression.encode) as engine:
        assert engine.traffic().download_bytes == 18 * 4
        state, held = engine.initialize(), None
        for _ in range(3):
            before = np.concatenate([w.reshape(-1) for w in tiny.weights_of(state)])
            start = np.concatenate([np.reshape(w, -1) for w in state.distributor["held"]])
            output = engine.run_round(state, cohort())
            difference = before - start
            sent = np.where(np.abs(difference) >= np.sort(np.abs(difference))[-4], difference, 0)
            held = np.concatenate([np.reshape(w, -1) for w in output.state.distributor["held"]])
            np.testing.assert_allclose(held, start + sent, atol=1e-6)
            state = output.state
        indices = np.flatnonzero(sent).astype(np.int32)
        expected = len(compression.encode([indices, difference[indices].astype(np.float32)]))
        # The round's seed travels along.
        assert expected <= output.download_bytes <= expected + 40
    assert np.max(np.abs(held - 1)) > 0
    with NativeEngine(built) as engine:
        native = tiny.run_rounds(engine, cohort(), rounds=3).state
    for ours, theirs in zip(tiny.weights_of(state), tiny.weights_of(native)):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
