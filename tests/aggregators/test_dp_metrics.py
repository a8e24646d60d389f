"""Metrics of training that keep the guarantee."""

import collections
import functools

import numpy as np
import pytest

from tests import tiny
from tff_tx import algorithms
from tff_tx.aggregators import dp
from tff_tx.runtime import ENGINES, LocalEngine

KEY = dp.noise_key(1)
SIZES = (7, 12, 3)
BOUNDS = {"loss": 2.0, "accuracy": 1.0}


pytestmark = pytest.mark.usefixtures("compiled_once")

WITHHELD = dp.WithheldMetricsFactory()
WITHOUT_NOISE = dp.PrivateMetricsFactory(BOUNDS, 0.0, 3, KEY)
NOISY = dp.PrivateMetricsFactory(BOUNDS, 3.0, 10, KEY)


@functools.cache
def fed_avg(metrics_aggregator=None):
    options = algorithms.Options(
        client_optimizer_fn=lambda rate: algorithms.build_optimizer("sgd", rate),
        server_optimizer=algorithms.build_optimizer("sgd", 1.0),
        weighted=False,
        metrics_aggregator=metrics_aggregator,
    )
    return algorithms.build_fed_avg(tiny.linear_model(), options)


def clients():
    return [tiny.batches(*tiny.client_data(n, seed=i), 4) for i, n in enumerate(SIZES)]


def rounds(engine, cohorts):
    """The training metrics of each round."""
    state, found = engine.initialize(), []
    for cohort in cohorts:
        output = engine.run_round(state, cohort, min_clients=0)
        state = output.state
        found.append(output.metrics["client_work"]["train"])
    return found


@functools.cache
def alone():
    """Each client's own figures in a first round."""
    with LocalEngine(fed_avg()) as engine:
        return [rounds(engine, [[client]])[0] for client in clients()]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "tff_native"])
def test_without_noise_they_are_the_mean_of_what_clients_measure(engine):
    expected = alone()
    with ENGINES[engine](fed_avg(WITHOUT_NOISE)) as opened:
        (found,) = rounds(opened, [clients()])
    assert set(found) == {"loss", "accuracy"}
    for name in found:
        assert found[name] == pytest.approx(np.mean([own[name] for own in expected]), rel=1e-5)


def test_figures_are_cut_to_their_bounds_and_those_who_miss_count_as_the_middle():
    expected = alone()
    with LocalEngine(fed_avg(dp.PrivateMetricsFactory({"loss": 1.0}, 0.0, 4, KEY))) as engine:
        found, nobody = rounds(engine, [clients(), []])
    assert min(own["loss"] for own in expected) > 1.0
    assert found["loss"] == pytest.approx((3 * 1.0 + 0.5) / 4)
    assert nobody["loss"] == pytest.approx(0.5)


def test_their_noise_has_the_stated_deviation():
    """In units of half the root of two: two figures, each a half from the middle at most."""
    with LocalEngine(fed_avg(NOISY)) as engine:
        found = rounds(engine, [[]] * 300)
    for name, bound in BOUNDS.items():
        noise = np.array([f[name] for f in found]) / bound - 0.5
        assert noise.std() == pytest.approx(3.0 * np.sqrt(0.5) / 10, rel=5 / np.sqrt(600))
        assert abs(noise.mean()) < 5 * noise.std() / np.sqrt(300)


def test_what_is_withheld_is_not_in_the_metrics_nor_in_the_upload():
    with LocalEngine(fed_avg(WITHHELD)) as withheld, LocalEngine(fed_avg()) as exact:
        assert withheld.traffic().upload_bytes == exact.traffic().upload_bytes - 28  # four sums, 4 + 3 * 8 bytes
        (found,) = rounds(withheld, [clients()])
        assert found == collections.OrderedDict() or found == ()


@pytest.mark.slow
def test_metrics_do_not_change_the_training():
    weights = []
    for aggregator in (None, WITHHELD, NOISY):
        with LocalEngine(fed_avg(aggregator)) as engine:
            weights.append(tiny.weights_of(tiny.run_rounds(engine, clients(), 2).state))
    for other in weights[1:]:
        for a, b in zip(weights[0], other):
            np.testing.assert_allclose(a, b, atol=1e-6)
