"""Audits of mechanisms: a sound one is not refuted, a broken one is."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests.analysis.auditing.gaussian import gaussian_epsilon
from tff_tx import algorithms
from tff_tx.analysis import auditing

DELTA = 1e-5
SIGMA = 2.0
CLIP = 0.5
EPSILON = gaussian_epsilon(SIGMA, DELTA)
AUDIT = auditing.CanaryAudit(canaries=400, norm=10 * CLIP, seed=3, delta=DELTA)


def central(noise_multiplier=SIGMA, clip=CLIP):
    factory = tff.aggregators.DifferentiallyPrivateFactory.gaussian_fixed(noise_multiplier, 100.0, clip)
    return auditing.canary_process_fn(aggregator=factory, weighted=False)


def examples(noise_multiplier=SIGMA, clip=CLIP):
    return auditing.canary_process_fn(
        transforms=(algorithms.dp_sgd(clip, noise_multiplier, batch_size=AUDIT.canaries),)
    )


@pytest.mark.slow
def test_sound_central_noise_is_not_refuted_and_not_trivial():
    """TFF's noise has no seed: the best of three audits, as one in some hundreds is next to nothing by chance."""
    bounds = [auditing.audit_process(central(), "client", AUDIT).epsilon for _ in range(3)]
    assert 0.1 < max(bounds) < EPSILON


@pytest.mark.slow
@pytest.mark.parametrize(
    "broken",
    [
        central(clip=10 * CLIP, noise_multiplier=SIGMA / 10),  # nothing is clipped, the noise is that of the clip
        # The noise is divided by the number of clients twice, say.
        pytest.param(central(noise_multiplier=SIGMA / 10), marks=pytest.mark.slow),
    ],
    ids=["no clipping", "too little noise"],
)
def test_a_broken_aggregator_is_caught(broken):
    assert auditing.audit_process(broken, "client", AUDIT).epsilon > EPSILON


@pytest.mark.slow
def test_rounds_add_up():
    """Noise for one round is too little for eight; enough for eight, it is not refuted."""
    eight = dataclasses.replace(AUDIT, rounds=8, canaries=200)
    claimed = gaussian_epsilon(3.0, DELTA)
    assert auditing.audit_process(examples(3.0 * np.sqrt(8)), "example", eight).epsilon < claimed
    assert auditing.audit_process(examples(0.7), "example", eight).epsilon > claimed


@functools.cache
def sound_dp_sgd():
    return auditing.audit_process(examples(), "example", AUDIT, threads=2)


def test_sound_dp_sgd_is_not_refuted_and_not_trivial():
    assert 0.1 < sound_dp_sgd().epsilon < EPSILON


@pytest.mark.parametrize(
    "broken",
    [pytest.param(examples(SIGMA / 10, 10 * CLIP), marks=pytest.mark.slow), examples(SIGMA / 10)],
    ids=["no clipping", "too little noise"],
)
def test_broken_dp_sgd_is_caught(broken):
    assert auditing.audit_process(broken, "example", AUDIT).epsilon > EPSILON


LOCAL = gaussian_epsilon(SIGMA, DELTA)
SOUND = algorithms.local_dp(CLIP, 2 * SIGMA).privatized  # an update moves by twice the clip


def test_sound_local_privacy_is_not_refuted_and_not_trivial():
    bound = auditing.audit_updates(SOUND, AUDIT)
    assert 0.1 < bound.epsilon < LOCAL


def unclipped(update, seed):
    return [update[0] + 2 * SIGMA * CLIP * tf.random.stateless_normal(tf.shape(update[0]), seed)]


@pytest.mark.parametrize(
    "broken", [unclipped, algorithms.local_dp(CLIP, SIGMA / 5).privatized], ids=["no clipping", "too little noise"]
)
def test_broken_local_privacy_is_caught(broken):
    assert auditing.audit_updates(broken, AUDIT).epsilon > LOCAL


def test_the_same_seed_gives_the_same_audit():
    """On any number of threads: the noise of DP-SGD is decided by the seed."""
    assert auditing.audit_process(examples(), "example", AUDIT, threads=1) == sound_dp_sgd()
