"""All patterns of participation, and what they add up to, by brute force."""

import itertools

import numpy as np


def patterns(rounds, participation):
    """Every set of rounds that a client may be in, as indices."""
    for size in range(participation.count(rounds) + 1):
        for chosen in itertools.combinations(range(rounds), size):
            if all(b - a >= participation.min_separation for a, b in zip(chosen, chosen[1:])):
                yield list(chosen)


def squared_sensitivity(encoder, participation):
    """The largest squared norm of encoder @ x over patterns and signs of the numbers in x."""
    gram = encoder.T @ encoder
    best = 0.0
    for chosen in patterns(encoder.shape[1], participation):
        part = gram[np.ix_(chosen, chosen)]
        for signs in itertools.product([1, -1], repeat=max(0, len(chosen) - 1)):
            x = np.array([1, *signs][: len(chosen)])
            best = max(best, float(x @ part @ x))
    return best


def nodes(rounds, restart_every=None):
    """The sums that are released, [nodes, rounds]: all complete dyadic intervals of every tree, with their ends."""
    rows, ends = [], []
    for start in range(0, rounds, restart_every or rounds):
        leaves = min(restart_every or rounds, rounds - start)
        size = 1
        while size <= leaves:
            for first in range(0, leaves - size + 1, size):
                row = np.zeros(rounds)
                row[start + first : start + first + size] = 1
                rows.append(row)
                ends.append(start + first + size)
            size *= 2
    return np.array(rows), np.array(ends)
