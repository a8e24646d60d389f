"""FedBuff's update, against the paper's formula in NumPy, synchronous FedAvg, and itself undisturbed."""

import dataclasses
import functools

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests import tiny
from tff_tx import algorithms, tasks
from tff_tx.cohorts import buffered as asynchrony
from tff_tx.cohorts import devices as participation
from tff_tx.cohorts import sampling
from tff_tx.cohorts.devices import Devices
from tff_tx.core.errors import UserError
from tff_tx.run import callbacks, loop
from tff_tx.run.checkpoints import Checkpoints
from tff_tx.runtime import LocalEngine, Staleness, TooFewClientsError

RATE = 0.1
OPTIONS = algorithms.Options(
    client_optimizer_fn=lambda rate: algorithms.build_optimizer("sgd", rate),
    server_optimizer=algorithms.build_optimizer("sgd", 1.0, momentum=0.9),
    client_learning_rate=RATE,
)
PLAIN = dataclasses.replace(OPTIONS, server_optimizer=algorithms.build_optimizer("sgd", 1.0))
DATA = [tiny.client_data(n, seed=n) for n in (4, 7, 12, 5)]
CLIENTS = [tiny.batches(x, y, 100) for x, y in DATA]


pytestmark = pytest.mark.usefixtures("compiled_once")


@functools.cache
def fed_avg(momentum=False, weighted=True):
    options = dataclasses.replace(OPTIONS if momentum else PLAIN, weighted=weighted)
    return algorithms.build_fed_avg(tiny.linear_model(), options)


def build(process=None, threads=2, hooks=(), **kwargs):
    process = fed_avg() if process is None else process
    return LocalEngine(process, threads, hooks=[Staleness(**kwargs), *hooks])


def gradients(weights, x, y):
    """Of softmax regression's mean loss."""
    kernel, bias = weights
    logits = x @ kernel + bias
    p = np.exp(logits - logits.max(-1, keepdims=True))
    error = (p / p.sum(-1, keepdims=True) - np.eye(3)[y]) / len(x)
    return [x.T @ error, error.sum(0)]


def by_hand(rounds, weighted, exponent):
    """Algorithm 1 of the paper with one local step, in float64: the weights after the rounds."""
    versions = [[np.ones([5, 3]), np.ones([3])]]
    for clients in rounds:
        total, denominator = [0.0, 0.0], 0.0
        for client, tau in clients:
            x, y = DATA[client]
            weight = len(x) if weighted else 1
            update = gradients(versions[-1 - tau], x, y)
            total = [t + weight * (1 + tau) ** -exponent * RATE * g for t, g in zip(total, update)]
            denominator += weight
        versions.append([w - t / denominator for w, t in zip(versions[-1], total)])
    return versions[-1]


ROUNDS = [[(0, 0), (1, 0)], [(2, 1), (0, 0)], [(3, 2), (1, 1)], [(2, 3), (3, 0), (0, 1)], [(1, 0), (2, 3)]]


def run(engine, rounds=ROUNDS, clients=CLIENTS):
    with engine:
        state = engine.initialize()
        for arrivals in rounds:
            output = engine.run_round(state, [(clients[client], tau) for client, tau in arrivals])
            state = output.state
        return engine.model_weights(state), output


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("exponent", [0.5, 0.0, 2.0])
def test_an_update_is_the_papers(weighted, exponent):
    weights, output = run(build(fed_avg(weighted=weighted), max_staleness=3, staleness_exponent=exponent))
    for ours, expected in zip(weights.trainable, by_hand(ROUNDS, weighted, exponent)):
        np.testing.assert_allclose(ours, expected, rtol=2e-6)
    # Metrics count every example once, however stale.
    assert output.metrics["client_work"]["train"]["num_examples"] == 7 + 12
    assert output.metrics["staleness"] == {"mean": 1.5, "max": 3}


def test_zeroing_and_clipping_come_before_the_scaling():
    """With a norm too large to matter the robust aggregator is the mean."""
    robust = tff.learning.robust_aggregator(zeroing=True, clipping=False)
    process = algorithms.build_fed_avg(tiny.linear_model(), dataclasses.replace(PLAIN, aggregator=robust))
    weights, _ = run(build(process, max_staleness=3))
    for ours, expected in zip(weights.trainable, by_hand(ROUNDS, True, 0.5)):
        np.testing.assert_allclose(ours, expected, rtol=2e-6)


def test_the_number_of_threads_changes_nothing():
    one, _ = run(build(fed_avg(momentum=True), max_staleness=3, threads=1))
    four, _ = run(build(fed_avg(momentum=True), max_staleness=3, threads=4))
    tf.nest.map_structure(np.testing.assert_array_equal, one, four)


def test_without_staleness_it_is_the_local_engine():
    rounds = [[(c, 0) for c, _ in arrivals] for arrivals in ROUNDS]
    ours, _ = run(build(fed_avg(momentum=True), max_staleness=0), rounds)
    with LocalEngine(fed_avg(momentum=True)) as engine:
        state = engine.initialize()
        for arrivals in rounds:
            state = engine.run_round(state, [CLIENTS[c] for c, _ in arrivals]).state
        theirs = engine.model_weights(state)
    # Not even a rounding may differ.
    tf.nest.map_structure(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("staleness", [-1, 4])
def test_a_staleness_beyond_what_is_kept_is_refused(staleness):
    with build(max_staleness=3) as engine, pytest.raises(ValueError, match="between 0 and 3"):
        engine.run_round(engine.initialize(), [(CLIENTS[0], staleness)])


def test_too_few_clients_leave_the_state_as_it_was():
    bad = (np.full([4, 5], np.nan, np.float32), DATA[0][1])
    with build(max_staleness=2) as engine:
        state = engine.initialize()
        with pytest.raises(TooFewClientsError, match="0 of at least 1"):
            engine.run_round(state, [(tiny.batches(*bad, 4), 1)])
        output = engine.run_round(state, [(tiny.batches(*bad, 4), 1), (CLIENTS[0], 0)])
        assert list(output.failures) == [0]
        assert len(output.state["past"]) == len(state["past"]) == 2


def test_what_does_not_change_is_kept_once():
    """Twice the same work on the same model is twice the same step, with a frozen layer in front as well."""
    process = algorithms.build_fed_avg(tiny.linear_model(frozen=True), PLAIN)
    with LocalEngine(process, hooks=[Staleness(2, 0.0)]) as engine:
        states = [engine.initialize()]
        for tau in (0, 1):
            states.append(engine.run_round(states[-1], [(CLIENTS[0], tau)]).state)
        assert [len(kept) for kept in states[-1]["past"]] == [2, 2]
        assert states[-1]["past"][1][0] is states[-2]["past"][0][0]
        first, second, third = (engine.model_weights(s).trainable[0] for s in states)
        assert not np.allclose(first, second)
        np.testing.assert_allclose(third - second, second - first, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("max_staleness", [0, 2])
def test_a_state_is_what_it_was_after_a_checkpoint(tmp_path, max_staleness):
    with build(fed_avg(momentum=True), max_staleness=max_staleness) as engine:
        start = engine.initialize()
        state = engine.run_round(start, [(CLIENTS[0], 0)]).state
        Checkpoints(str(tmp_path)).save(state, 1)
        loaded, round_num = Checkpoints(str(tmp_path)).load_latest(start)
        assert round_num == 1
        tf.nest.map_structure(np.testing.assert_array_equal, loaded["past"], state["past"])
        next_round = [(CLIENTS[1], max_staleness // 2)]
        resumed, undisturbed = (engine.model_weights(engine.run_round(s, next_round).state) for s in (loaded, state))
        tf.nest.map_structure(np.testing.assert_array_equal, resumed, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "options", "found"),
    [
        ("mime_lite", PLAIN, "2"),
        # Compressed updates come in tensors of another shape.
        ("fed_avg", dataclasses.replace(PLAIN, aggregator=tff.learning.compression_aggregator()), "none"),
    ],
)
def test_what_is_not_one_update_is_refused(algorithm, options, found):
    with pytest.raises(UserError, match=f"clients of this process send {found} of the model's shape"):
        build(algorithms.ALGORITHMS[algorithm].build(tiny.linear_model(), options))


class TestTraining:
    """Whole runs."""

    @pytest.fixture(scope="class")
    def engine(self, compiled_once, digits_task):
        task = tiny.linear_digits_task(digits_task)
        process = task.process(algorithms.build_fed_avg(task.model, OPTIONS))
        with LocalEngine(process, hooks=[Staleness(3)]) as engine:
            yield engine

    @staticmethod
    def train(engine, directory, cohort_fn, dies_in=None):
        def dying(round_num, attempt, start):
            if round_num == dies_in:
                raise SystemExit
            return cohort_fn(round_num, attempt, start)

        schedule, metrics = loop.Schedule(6, rounds_per_checkpoint=2, max_retries=0), callbacks.MetricsCsv()
        weights = loop.train(
            engine, str(directory), schedule, cohort_fn=dying, callbacks=[metrics], show_progress=False
        )
        rows = pd.read_csv(directory / "metrics.csv", dtype=str)
        return weights, rows[[c for c in rows if not c.startswith("time/")]]

    @staticmethod
    def cohort_fn(task, devices, concurrency, buffer_size):
        ids = task.train.client_ids
        line = asynchrony.AsyncSchedule(
            sampling.uniform(ids, min(len(ids), concurrency + buffer_size - 1), 1),
            devices,
            concurrency=concurrency,
            buffer_size=buffer_size,
            max_staleness=3,
            num_examples=task.train.sizes(),
            bytes_per_client=100,
        )
        return asynchrony.build_cohort_fn(line, lambda c, r: tasks.client_arguments(c, 1, r))

    @pytest.mark.slow
    @pytest.mark.parametrize("dies_in", [4, pytest.param(5, marks=pytest.mark.slow)])
    def test_a_killed_run_goes_on_to_the_same_end(self, engine, digits_task, tmp_path, dies_in):
        devices = Devices(seconds_per_example=1, speed_spread=0.5, dropout_rate=0.1, seed=1)
        (tmp_path / "whole").mkdir()
        (tmp_path / "killed").mkdir()
        weights, rows = self.train(engine, tmp_path / "whole", self.cohort_fn(digits_task, devices, 5, 1))
        assert rows["staleness/max"].astype(int).max() >= 2
        assert rows["simulated/total_seconds"].astype(float).is_monotonic_increasing
        with pytest.raises(SystemExit):
            self.train(engine, tmp_path / "killed", self.cohort_fn(digits_task, devices, 5, 1), dies_in)
        again, rows_again = self.train(engine, tmp_path / "killed", self.cohort_fn(digits_task, devices, 5, 1))
        pd.testing.assert_frame_equal(rows_again, rows)
        tf.nest.map_structure(np.testing.assert_array_equal, again, weights)

    @pytest.mark.slow
    def test_equally_fast_clients_give_synchronous_fed_avg(self, engine, digits_task, tmp_path):
        devices = Devices(bytes_per_second=10)
        for name in ("ours", "theirs"):
            (tmp_path / name).mkdir()
        ours, rows = self.train(engine, tmp_path / "ours", self.cohort_fn(digits_task, devices, 3, 3))
        synchronous = participation.build_cohort_fn(
            sampling.uniform(digits_task.train.client_ids, 3, 1),
            lambda c, r: tasks.client_arguments(c, 1, r),
            devices=devices,
            bytes_per_client=100,
        )
        with LocalEngine(engine.process) as local:
            theirs, their_rows = self.train(local, tmp_path / "theirs", synchronous)
        pd.testing.assert_frame_equal(rows.drop(columns=["staleness/mean", "staleness/max"]), their_rows)
        tf.nest.map_structure(np.testing.assert_array_equal, ours, theirs)
