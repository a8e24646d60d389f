"""Simulated time to accuracy of samplers."""

import numpy as np

from benchmarks.samplers import seconds_to


def test_oort_reaches_an_accuracy_sooner_than_uniform_sampling():
    oort, uniform = ([seconds_to(name, seed, 0.8) for seed in (1, 2, 3)] for name in ("oort", "uniform"))
    assert np.isfinite(uniform).all()
    assert np.mean(oort) < 0.7 * np.mean(uniform)
