"""Measurements of mechanisms: noise or clipping that is a tenth off is found, and what is sound is not refuted."""

import dataclasses

import numpy as np
import pytest

from tff_tx import algorithms, privacy
from tff_tx.aggregators import dp
from tff_tx.analysis import auditing
from tff_tx.privacy import matrix_factorization

ROUNDS, COHORT, CLIP, Z = 4, 10, 0.5, 3.0
INDEPENDENT = np.minimum.outer(np.arange(1, ROUNDS + 1.0), np.arange(1, ROUNDS + 1.0))
CLAIM = auditing.Claim(1.0, INDEPENDENT)
BANDED = matrix_factorization.optimize_banded(ROUNDS, 2)


def increments(seed=0, size=20_000):
    return np.random.default_rng(seed).normal(size=[ROUNDS, size])


def shared(noise):
    """Two halves, as two weights of a model that got the same noise."""
    half = noise[:, : noise.shape[1] // 2]
    return np.concatenate([half, half], 1)


def faults(noise, moved=1.0):
    return auditing.measure(np.array([0.5, moved]), np.cumsum(noise, 0), CLAIM).faults


def test_what_is_as_claimed_is_not_refuted():
    assert not any(faults(increments(seed)) for seed in range(20))


@pytest.mark.parametrize(
    ("noise", "moved", "fault"),
    [
        (0.9 * increments(), 1.0, "too small"),
        (0 * increments(), 1.0, "too small"),
        (increments(), 1.1, "more than the clip norm"),
        (increments(), np.inf, "more than the clip norm"),
        (np.random.default_rng(0).uniform(-(3**0.5), 3**0.5, [ROUNDS, 20_000]), 1.0, "not normal"),
        (shared(increments()), 1.0, "not independent between coordinates"),
        (np.tile(increments()[:1], [ROUNDS, 1]), 1.0, "not correlated between rounds as"),
    ],
    ids=["little noise", "no noise", "clip", "no clip", "uniform", "shared by weights", "the same every round"],
)
def test_what_is_not_as_claimed_is_refuted(noise, moved, fault):
    assert any(fault in found for found in faults(noise, moved))


def test_more_noise_than_claimed_is_private():
    measured = auditing.measure(np.array([1.0]), np.cumsum(1.1 * increments(), 0), CLAIM)
    assert measured.interval[0] > 1
    assert "the noise is too small" not in measured.faults


KEY = dp.noise_key(3)
CENTRAL = {
    "gaussian": (privacy.Gaussian(Z), lambda stddev: dp.independent_noise(stddev, KEY)),
    "tree": (privacy.TreeAggregation(Z, 3), lambda stddev: dp.tree_noise(stddev, KEY, 3)),
    "banded": (privacy.MatrixFactorization(Z, BANDED), lambda stddev: dp.banded_noise(BANDED.rows, stddev, KEY)),
}


def measured(name, noise=1.0, clip=1.0):
    """Of a mechanism whose noise and clip are these times those that are accounted for."""
    if name == "local":
        claim = auditing.Claim(2 * CLIP, CLIP**2 * privacy.LocalGaussian(Z).sum_covariance(ROUNDS))
        # The noise is a multiple of the clip.
        return auditing.measure_updates(algorithms.local_dp(clip * CLIP, noise / clip * Z).privatized, claim)
    if name == "examples":
        transform = algorithms.dp_sgd(clip * CLIP, noise / clip * Z, 1, None)
        claim = auditing.Claim(CLIP, CLIP**2 * privacy.ExampleLevelSgd(Z).sum_covariance(ROUNDS))
        return auditing.measure_process(auditing.canary_process_fn(transforms=(transform,)), claim)
    unit = CLIP / COHORT
    if name == "adaptive":
        process = dp.adaptive_clip_aggregator(noise / clip * Z, 5.0, COHORT, KEY, initial_clip=clip * CLIP)
        claim = auditing.Claim(unit, unit**2 * privacy.Gaussian(Z).sum_covariance(1))
    else:
        mechanism, noise_of = CENTRAL[name]
        process = dp.fixed_clip_aggregator(clip * CLIP, COHORT, noise_of(noise * Z * CLIP))
        claim = auditing.Claim(unit, unit**2 * mechanism.sum_covariance(ROUNDS))
    return auditing.measure_process(auditing.canary_process_fn(aggregator=process, weighted=False), claim)


NAMES = [
    "local",
    "gaussian",
    *(pytest.param(n, marks=pytest.mark.slow) for n in ("tree", "banded", "adaptive", "examples")),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_mechanism_is_sound(name):
    found = measured(name)
    assert found.faults == ()
    assert found.sensitivity == pytest.approx(1, abs=1e-3)
    assert found.stddev == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_a_tenth_less_noise_is_refuted(name):
    assert "the noise is too small" in measured(name, noise=0.9).faults


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_tenth_more_clip_is_refuted(name):
    assert "a record moves the releases by more than the clip norm" in measured(name, clip=1.1).faults


def test_independent_noise_in_place_of_correlated_is_refuted():
    """Of the same standard deviation in every release."""
    stated = dataclasses.replace(CLAIM, covariance=privacy.MatrixFactorization(1.0, BANDED).sum_covariance(ROUNDS))
    stddevs = np.sqrt(np.diag(np.linalg.inv(BANDED.dense()) @ np.linalg.inv(BANDED.dense()).T))
    found = auditing.measure(np.array([1.0]), np.cumsum(stddevs[:, None] * increments(), 0), stated)
    assert "the noise is not correlated between rounds as accounted for" in found.faults
