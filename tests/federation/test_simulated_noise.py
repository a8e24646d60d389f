"""Noise of simulated participants: its variance whoever drops out, and where it comes from."""

import math

import numpy as np
import pytest

from tests.aggregators import echo
from tff_tx.aggregators import dp
from tff_tx.core.integer_grid import IntegerGrid
from tff_tx.federation.secure_sums.noise import Noise
from tff_tx.federation.simulated_noise import ParticipantNoise
from tff_tx.runtime import LocalEngine, TooFewClientsError

EXPECTED, LEAST, CLIP, SIZE = 6, 4, 0.5, 4096
GRID = IntegerGrid.for_sums(CLIP, 1.2, EXPECTED, SIZE, 20)
SHARE = (1.2 * CLIP * GRID.scale) ** 2 / LEAST
"""With as few as report at least, the noise has 1.2 clip norms."""


@pytest.fixture(scope="module")
def process():
    return echo.process(dp.discrete_aggregator(GRID, EXPECTED), SIZE)


def noise_of(process, reporting, seed=None, rounds=1, kind="skellam"):
    hook = ParticipantNoise(Noise(kind, SHARE), GRID.modulus, LEAST, seed)
    with LocalEngine(process, hooks=[hook]) as engine:
        return echo.aggregates(engine, [[echo.client(np.zeros(SIZE))] * reporting] * rounds)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["skellam", "discrete_gaussian"])
@pytest.mark.parametrize("reporting", [LEAST, EXPECTED])
def test_noise_of_the_mean_has_the_accounted_deviation_or_more(process, reporting, kind):
    first, second = noise_of(process, reporting, rounds=2, kind=kind)
    stated = 1.2 * CLIP / EXPECTED * math.sqrt(reporting / LEAST)
    assert first.std() == pytest.approx(stated, rel=5 / math.sqrt(2 * SIZE))
    assert abs(np.vdot(first, second)) <= 5 * stated**2 * math.sqrt(SIZE)


def test_a_round_of_fewer_than_the_accounting_assumes_is_none(process):
    with pytest.raises(TooFewClientsError, match="3 of at least 4 clients finished"):
        noise_of(process, LEAST - 1)


@pytest.mark.slow
def test_seeds_repeat_noise_and_nothing_else_does(process):
    seeded = [noise_of(process, EXPECTED, seed)[0] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(seeded[0], seeded[1])
    unseeded = [noise_of(process, EXPECTED)[0] for _ in range(2)]
    for other in (seeded[2], *unseeded):
        assert abs(np.corrcoef(seeded[0], other)[0, 1]) < 5 / math.sqrt(SIZE)
    assert abs(np.corrcoef(*unseeded)[0, 1]) < 5 / math.sqrt(SIZE)


def test_sums_that_would_have_no_noise_are_refused():
    coarse = IntegerGrid.for_sums(CLIP, 1.0, EXPECTED, SIZE, 16)
    others = echo.process(dp.discrete_aggregator(coarse, EXPECTED), SIZE)
    with pytest.raises(ValueError, match="nothing would have noise"):
        noise_of(others, EXPECTED)
