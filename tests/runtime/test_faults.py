"""A client that fails is left out of the round, and nothing else changes."""

import concurrent.futures
import dataclasses
import time

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tff_tx import algorithms
from tff_tx.runtime import LocalEngine, TooFewClientsError

OPTIONS = algorithms.Options(
    client_optimizer_fn=lambda rate: algorithms.build_optimizer("sgd", rate),
    server_optimizer=algorithms.build_optimizer("sgd", 1.0, momentum=0.9),
)


@pytest.fixture(scope="module", params=["weighted", "unweighted"])
def engine(request):
    options = dataclasses.replace(OPTIONS, weighted=request.param == "weighted")
    with LocalEngine(algorithms.build_fed_avg(tiny.linear_model(), options), threads=2) as engine:
        yield engine


def good(seed):
    return tiny.batches(*tiny.client_data(12, seed=seed), batch_size=5)


def corrupt():
    """Data that cannot be read from the second batch on."""

    def read(x, y):
        return x, tf.strings.to_number(tf.where(tf.reduce_sum(y) > 0, "no number", "1"), tf.int32) * y

    x, _ = tiny.client_data(10)
    return tiny.batches(x, np.array([0] * 5 + [1] * 5, np.int32), 5).map(read)


def no_such_label():
    """The step itself raises: the model has three classes."""
    x, _ = tiny.client_data(10)
    return tiny.batches(x, np.full(10, 7, np.int32), 5)


def not_finite():
    x, y = tiny.client_data(10)
    x[7, 2] = np.inf
    return tiny.batches(x, y, 5)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [(corrupt, "StringToNumber"), (no_such_label, "label value"), (not_finite, "NotFiniteError: its update is not")],
)
def test_a_client_that_fails_is_left_out(engine, bad, reason):
    state = engine.initialize()
    output = engine.run_round(state, [good(1), bad(), good(2), good(3)], min_clients=3)
    expected = engine.run_round(state, [good(1), good(2), good(3)])
    assert list(output.failures) == [1]
    assert reason in output.failures[1]
    tf.nest.map_structure(np.testing.assert_array_equal, output.state, expected.state)
    tf.nest.map_structure(np.testing.assert_array_equal, output.metrics, expected.metrics)


@pytest.mark.slow
def test_clients_at_work_end_with_the_engine():
    """As on Ctrl-C: a client's epochs may take an hour, and a scheduler waits half a minute before it kills."""
    engine = LocalEngine(algorithms.build_fed_avg(tiny.linear_model(), OPTIONS), threads=2)
    with concurrent.futures.ThreadPoolExecutor(1) as caller:
        hours = caller.submit(engine.run_round, engine.initialize(), [good(1).repeat(200_000)])
        with pytest.raises(concurrent.futures.TimeoutError):
            hours.result(timeout=1)
        started = time.monotonic()
        engine.close()
        with pytest.raises(TooFewClientsError, match="CancelledError"):
            hours.result()
        assert time.monotonic() < started + 30


def test_too_few_are_told_with_the_reasons_and_the_engine_goes_on(engine):
    state = engine.initialize()
    with pytest.raises(TooFewClientsError, match="1 of at least 2 clients finished.*not finite") as caught:
        engine.run_round(state, [not_finite(), good(1), not_finite()], min_clients=2)
    assert sorted(caught.value.failures) == [0, 2]
    assert not engine.run_round(state, [good(1)]).failures


def test_a_client_without_data_counts_for_nothing_and_is_no_failure(engine):
    state = engine.initialize()
    output = engine.run_round(state, [good(1), good(1).take(0)])
    assert not output.failures
    alone = engine.run_round(state, [good(1)])
    assert output.metrics["client_work"]["train"]["num_examples"] == 12
    if "weight_sum_process" in str(alone.state.aggregator):  # weighted: its weight is 0
        np.testing.assert_array_equal(tiny.weights_of(output.state)[0], tiny.weights_of(alone.state)[0])


def test_an_interrupt_ends_the_round_at_once(engine):
    def interrupt(done):
        raise KeyboardInterrupt

    state = engine.initialize()
    with pytest.raises(KeyboardInterrupt):
        engine.run_round(state, [good(seed) for seed in range(50)], on_progress=interrupt)
    assert not engine.run_round(state, [good(1)]).failures


def test_where_the_time_goes_is_told(engine):
    seconds = engine.run_round(engine.initialize(), [good(1), good(2)]).seconds
    assert set(seconds) == {"prepare", "clients", "data", "aggregation", "server"}
    assert all(value >= 0 for value in seconds.values())
    assert seconds["clients"] > 0
