"""A lower bound on epsilon from one run (Steinke, Nasr, Jagielski 2023, "Privacy auditing with one (1) training run").

https://arxiv.org/abs/2305.08846. Of m canaries each is in or out of the data by a fair coin. An auditor who sees what
the mechanism released guesses of as many as it likes whether they were in. No (epsilon, delta)-private mechanism lets
it be right too often; how often it was right therefore bounds epsilon from below, at a stated confidence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import optimize

MAX_EPSILON = 50.0
"""No larger lower bound is reported."""


@dataclasses.dataclass(frozen=True)
class Bound:
    """A lower bound on epsilon from guesses about canaries.

    Attributes:
      epsilon: The lower bound.
      canaries: m, canaries that were in or out by a coin.
      guesses: r, number of guesses.
      correct: v, number of correct guesses.
      delta: Delta of the bound.
      confidence: Confidence level of the bound.
    """

    epsilon: float
    canaries: int
    guesses: int
    correct: int
    delta: float
    confidence: float


def p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """Maximum probability that this many guesses about an (epsilon, delta)-private mechanism are correct.

    Theorem 5.2: beta + 2 m delta alpha, where W is Binomial(r, e^epsilon / (1 + e^epsilon)), beta = P[W >= v] and
    alpha = max over i in 1..m of P[v - i <= W < v] / i.

    Args:
      canaries: m.
      guesses: r <= m.
      correct: v <= r.
      epsilon: At least 0.
      delta: In [0, 1].

    Returns:
      The bound, at most 1.
    """
    from scipy import stats

    if not 0 <= correct <= guesses <= canaries:
        raise ValueError(f"{correct} correct of {guesses} guesses about {canaries} canaries are impossible.")
    right = 1.0 / (1.0 + np.exp(-epsilon))
    beta = stats.binom.sf(correct - 1, guesses, right)
    alpha = 0.0
    if delta > 0 and correct > 0:
        # W < 0 never happens, so that only i <= v can be the maximum.
        below = np.cumsum(stats.binom.pmf(np.arange(correct - 1, -1, -1), guesses, right))
        alpha = float(np.max(below / np.arange(1, correct + 1)))
    return float(min(1.0, beta + 2 * canaries * delta * alpha))


def epsilon_lower_bound(canaries: int, guesses: int, correct: int, delta: float, confidence: float = 0.95) -> float:
    """The largest epsilon that the guesses refute at this confidence; 0 if they refute none."""
    error = 1.0 - confidence

    def excess(epsilon):
        return p_value(canaries, guesses, correct, epsilon, delta) - error

    if excess(0.0) >= 0:
        return 0.0
    if excess(MAX_EPSILON) < 0:
        return MAX_EPSILON
    return float(optimize.bisect(excess, 0.0, MAX_EPSILON, xtol=1e-4))


def guess(scores: Sequence[float], was_in: Sequence[bool], num_in: int, num_out: int) -> int:
    """Number of correct guesses if the highest scores are guessed to be in and the lowest out.

    Algorithm 1, whose canaries with scores in between are left without a guess. Equal scores count in the order given.

    Args:
      scores: Score by canary, higher where it is more likely that it was in.
      was_in: Whether it was.
      num_in: k+, number of canaries guessed to be in.
      num_out: k-, number of canaries guessed to be out.
    """
    order, truth = np.argsort(np.asarray(scores, float), kind="stable"), np.asarray(was_in, bool)
    guessed_in = truth[order[len(order) - num_in :]] if num_in else truth[:0]
    return int(guessed_in.sum() + (~truth[order[:num_out]]).sum())


def audit(
    scores: Sequence[float], was_in: Sequence[bool], delta: float, confidence: float = 0.95, guesses: int | None = None
) -> Bound:
    """Guesses from scores and bounds epsilon.

    Args:
      scores: As `guess` takes them.
      was_in: Whether each canary was in, by a fair coin each.
      delta: Delta of the bound.
      confidence: Confidence level of the bound.
      guesses: Number of guesses, half of them in; None: the best bound of several numbers, among which the confidence
        is shared (a union bound), so that it holds although the best is picked.

    Raises:
      ValueError: If there are more guesses than canaries.
    """
    total = len(scores)
    if total != len(was_in):
        raise ValueError(f"{total} scores of {len(was_in)} canaries.")
    # All, a half, a quarter and so on, down to ten: many guesses detect weak leaks, few sure ones strong leaks.
    halves = [total, *(number for k in range(1, total.bit_length()) if (number := total >> k) >= 10)]
    numbers = halves if guesses is None else [guesses]
    each = 1.0 - (1.0 - confidence) / len(numbers)

    def bound(number):
        if number > total:
            raise ValueError(f"{number} guesses about {total} canaries.")
        correct = guess(scores, was_in, number // 2, number - number // 2)
        epsilon = epsilon_lower_bound(total, number, correct, delta, each)
        return Bound(epsilon, total, number, correct, delta, confidence)

    return max(map(bound, numbers), key=lambda found: found.epsilon)
