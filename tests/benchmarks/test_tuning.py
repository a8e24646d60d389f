"""Searches with few validation clients, on real data."""

import numpy as np
import pytest

from benchmarks.tuning import BUDGET, RANDOM, World, halving, random_search


@pytest.mark.slow
def test_with_three_validation_clients_plain_halving_falls_to_random_search_and_ours_does_not():
    found = {"random": [], "plain": [], "ours": []}
    for seed in range(1, 9):
        for name, search in (
            ("random", lambda w: random_search(w, RANDOM // 4, 3)),
            ("plain", lambda w: halving(w, BUDGET, 3, racing=False)),
            ("ours", lambda w: halving(w, BUDGET, 3)),
        ):
            world = World(seed)
            found[name].append(world.accuracy(search(world)))
    means = {name: np.mean(values) for name, values in found.items()}
    assert means["plain"] < means["random"] + 0.005
    assert means["ours"] > means["plain"] + 0.005
