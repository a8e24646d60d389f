"""Tree aggregation: what a client changes of a tree's nodes, and the noise of running sums made from them.

Kairouz et al., "Practical and Private (Deep) Learning without Sampling or Shuffling", 2021,
https://arxiv.org/abs/2103.00039. The leaves of a tree are rounds; a node is the sum of the rounds below it with noise
of its own, and is there when all of them are over. `tensorflow_privacy` computes the sensitivity as well
(`tree_aggregation_accountant`), but importing it imports TensorFlow, its recursion takes minutes for a thousand rounds,
and it knows no restarts with several participations a tree.
"""

from __future__ import annotations

import functools

import numpy as np

from tff_tx.privacy.mechanism import Participation

_NEVER = -np.inf


@functools.lru_cache(maxsize=4096)
def squared_sensitivity(rounds: int, participation: Participation, restart_every: int | None = None) -> float:
    """Square of the L2 norm by which a client of clip norm 1 changes the nodes, exact.

    The largest sum over the nodes of (the client's rounds below the node)^2 over all patterns of participation:
    Kairouz et al. 2021, Appendix D.2 (and D.1 with restarts and one participation a tree).
    """
    gap = min(participation.min_separation, rounds)
    if participation.max_participations is None:
        # best[w]: with w more rounds to wait before the next participation is allowed.
        best = np.where(np.arange(gap) == 0, 0.0, _NEVER)
        for height in _trees(rounds, restart_every):
            best = np.max(best[:, None] + _any_number(height, gap), axis=0)
        return float(best.max())
    limit = participation.count(rounds)
    best = np.full((limit + 1, gap), _NEVER)  # [c, w], with c participations so far
    best[0, 0] = 0.0
    for height in _trees(rounds, restart_every):
        after = np.full_like(best, _NEVER)
        for more, inside in enumerate(_subtree(height, gap)[: limit + 1]):
            reached = _follow(best[: limit + 1 - more], inside[None])[0]
            after[more:] = np.maximum(after[more:], reached)
        best = after
    return float(best.max())


@functools.lru_cache(maxsize=64)
def _any_number(height, gap):
    """Largest contribution of a tree with any number of participations, [wait at its start, wait at its end]."""
    return _subtree(height, gap).max(axis=0)


@functools.lru_cache(maxsize=64)
def _subtree(height: int, gap: int) -> np.ndarray:
    """Largest contribution of 2^height leaves, [participations, wait at its start, wait at its end]; -inf: none."""
    leaves = 2**height
    if leaves <= gap:
        return _subtree_of_one(height, gap)
    half = _subtree(height - 1, gap)
    most = min(2 * (len(half) - 1), -(-leaves // gap))
    result = np.full((most + 1, gap, gap), _NEVER)
    for left, values in enumerate(half):
        total = result[left : left + len(half)]
        np.maximum(total, _follow(values, half[: len(total)]), out=total)
    return result + np.arange(most + 1.0)[:, None, None] ** 2


def _subtree_of_one(height, gap):
    """That with room for one participation."""
    leaves = 2**height
    wait = np.arange(gap)
    result = np.full((2, gap, gap), _NEVER)
    result[0, wait, np.maximum(wait - leaves, 0)] = 0.0
    for leaf in range(leaves):
        result[1, : leaf + 1, gap - leaves + leaf] = height + 1.0
    return result


def _follow(before, trees):
    """The largest before[s, w] + trees[c, w, v] over the waits w in between, [c, s, v]."""
    result = np.full((len(trees), len(before), trees.shape[2]), _NEVER)
    for wait in range(before.shape[1]):
        np.maximum(result, before[None, :, wait, None] + trees[:, None, wait], out=result)
    return result


def sum_variances(rounds: int, restart_every: int | None = None) -> np.ndarray:
    """Variances of the noise in the running sums after each round, [rounds], for nodes of variance 1.

    A running sum is estimated from all nodes that are there (Honaker, "Efficient use of differentially private binary
    trees", 2015, "from below", as `tfp.tree_aggregation.EfficientTreeAggregator` has it): the precision of the sum over
    2^h rounds is its node's 1 and half that of 2^(h-1) rounds, 2 - 2^-h in all. With restarts the noise of the earlier
    trees stays in the sums.
    """
    every = min(restart_every or rounds, rounds)
    bits = np.arange(every.bit_length())
    within = (np.arange(1, every + 1)[:, None] >> bits & 1) @ (1 / (2 - 2.0**-bits))
    done, age = np.divmod(np.arange(rounds), every)
    return done * within[-1] + within[age]


def sum_weights(rounds: int, restart_every: int | None = None) -> np.ndarray:
    """The running sums' noise as sums of the nodes' noise, [rounds, nodes]; see `sum_variances`.

    A node's precision is 1, that of the sum of the two estimates below it half of one's: both are weighted with them.
    """
    weights, nodes = np.zeros((rounds, 2 * rounds)), iter(np.eye(2 * rounds))
    done, estimates = np.zeros(2 * rounds), []
    for t in range(rounds):
        if restart_every and t % restart_every == 0:
            done, estimates = done + sum(vector for _, vector in estimates), []
        height, estimate = 0, next(nodes)
        while estimates and estimates[-1][0] == height:
            height, share = height + 1, 1 / (2 - 2.0 ** -(height + 1))
            estimate = share * next(nodes) + (1 - share) * (estimates.pop()[1] + estimate)
        estimates.append((height, estimate))
        weights[t] = done + sum(vector for _, vector in estimates)
    return weights


def _trees(rounds, restart_every):
    """Heights of the complete subtrees, in the order of their rounds."""
    heights = []
    for start in range(0, rounds, restart_every or rounds):
        leaves = min(restart_every or rounds, rounds - start)
        heights += [h for h in reversed(range(leaves.bit_length())) if leaves >> h & 1]
    return heights
