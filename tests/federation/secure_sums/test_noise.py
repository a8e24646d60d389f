"""Laws of participants' noise: its distribution, what is left after dropouts, and where it comes from."""

import math

import numpy as np
import pytest
from scipy import stats

from tff_tx.federation.secure_sums import noise as noise_lib
from tff_tx.federation.secure_sums.masks import Stream
from tff_tx.federation.secure_sums.noise import Noise

BOTH = pytest.mark.parametrize("kind", ["skellam", "discrete_gaussian"])


def stream(number=0):
    return Stream(bytes([number]) * 32)


@BOTH
@pytest.mark.parametrize("variance", [0.4, 60.0, 3e7, 2e9])
def test_noise_has_the_stated_moments(kind, variance):
    noise = Noise(kind, variance).draw(200_000, stream()).astype(float)
    stated = variance if kind == "skellam" or variance > 1 else exact_variance(variance)
    kurtosis = 3 + 1 / stated
    assert abs(noise.mean()) <= 5 * math.sqrt(stated / noise.size)
    assert noise.var() == pytest.approx(stated, rel=5 * math.sqrt((kurtosis - 1) / noise.size))


def exact_variance(parameter):
    k = np.arange(-50, 51)
    weights = np.exp(-(k**2) / (2 * parameter))
    return (k**2 * weights).sum() / weights.sum()


@BOTH
def test_noise_has_the_stated_probabilities(kind):
    noise, values = Noise(kind, 3.0).draw(200_000, stream(1)), np.arange(-7, 8)
    gaussian = np.exp(-(np.arange(-60, 61) ** 2) / 6.0)
    expected = stats.skellam.pmf(values, 1.5, 1.5) if kind == "skellam" else np.exp(-(values**2) / 6) / gaussian.sum()
    found = np.array([np.mean(noise == value) for value in values])
    assert np.all(np.abs(found - expected) <= 5 * np.sqrt(expected / noise.size))


def test_both_formulas_of_skellams_probabilities_agree(monkeypatch):
    k = np.arange(0, 50_000, 500.0)
    exact = noise_lib._skellam(k, 1e7)
    monkeypatch.setattr(noise_lib, "_EXPANDED_ABOVE", 0)
    np.testing.assert_allclose(noise_lib._skellam(k, 1e7), exact, rtol=1e-10)


@BOTH
@pytest.mark.parametrize("left", [10, 7])
def test_what_is_left_after_dropouts_and_without_colluders_is_what_is_accounted(kind, left):
    """m of n shares have m / n of the variance of all."""
    share = Noise(kind, 400.0)
    total = sum(share.draw(100_000, stream(i)) for i in range(left))
    assert total.var() == pytest.approx(400.0 * left, rel=5 * math.sqrt(2 / total.size))
    if kind == "skellam":  # sums of shares are Skellam noise, with its tails
        assert stats.kstest(total / total.std(), "norm").statistic < 0.02


def test_keys_decide_the_noise_and_a_stream_does_not_repeat():
    noise, first = Noise("skellam", 1e4), stream(3)
    once, again = noise.draw(1000, first), noise.draw(1000, first)
    np.testing.assert_array_equal(once, noise.draw(1000, stream(3)))
    for other in (again, noise.draw(1000, stream(4))):
        assert abs(np.corrcoef(once, other)[0, 1]) < 5 / math.sqrt(1000)
    assert not Noise("skellam", 0.0).draw(5, stream()).any()


@pytest.mark.parametrize(("kind", "variance"), [("normal", 1.0), ("skellam", -1.0), ("skellam", 1e14)])
def test_what_is_out_of_range_is_named(kind, variance):
    with pytest.raises(ValueError, match="must be"):
        Noise(kind, variance)
