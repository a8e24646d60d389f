"""A lower bound on epsilon from one run (Steinke, Nasr, Jagielski 2023, "Privacy auditing with one (1) training run").

https://arxiv.org/abs/2305.08846. Of m canaries each is in or out of the data by a fair coin. An auditor who sees what
the mechanism released guesses of as many as it likes whether they were in. No (epsilon, delta)-private mechanism lets
it be right too often; how often it was right therefore bounds epsilon from below, at a stated confidence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import optimize, stats

MAX_EPSILON = 50.0
"""No larger lower bound is reported."""


@dataclasses.dataclass(frozen=True)
class Bound:
    """What guessing canaries tells of epsilon.

    Attributes:
      epsilon: The lower bound.
      canaries: m, canaries that were in or out by a coin.
      guesses: r, of how many the auditor guessed.
      correct: v, how many guesses were right.
      delta: The delta that the bound is for.
      confidence: With what probability, at least, the bound holds.
    """

    epsilon: float
    canaries: int
    guesses: int
    correct: int
    delta: float
    confidence: float


def p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """How probable it is, at most, that an (epsilon, delta)-private mechanism lets so many guesses be right.

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
    if not 0 <= correct <= guesses <= canaries:
        raise ValueError(f"{correct} right of {guesses} guesses about {canaries} canaries cannot be.")
    right = 1.0 / (1.0 + np.exp(-epsilon))
    beta = stats.binom.sf(correct - 1, guesses, right)
    alpha = 0.0
    if delta > 0 and correct > 0:
        # W < 0 never happens, so that only i <= v can be the maximum.
        below = np.cumsum(stats.binom.pmf(np.arange(correct - 1, -1, -1), guesses, right))
        alpha = float(np.max(below / np.arange(1, correct + 1)))
    return float(min(1.0, beta + 2 * canaries * delta * alpha))


def epsilon_lower_bound(canaries: int, guesses: int, correct: int, delta: float, confidence: float = 0.95) -> float:
    """The largest epsilon that so many right guesses rule out at this confidence; 0 if they rule out none."""
    error = 1.0 - confidence

    def excess(epsilon):
        return p_value(canaries, guesses, correct, epsilon, delta) - error

    if excess(0.0) >= 0:
        return 0.0
    if excess(MAX_EPSILON) < 0:
        return MAX_EPSILON
    return float(optimize.bisect(excess, 0.0, MAX_EPSILON, xtol=1e-4))


def guess(scores: Sequence[float], was_in: Sequence[bool], num_in: int, num_out: int) -> int:
    """How many guesses are right if the highest scores are guessed to be in and the lowest out.

    Algorithm 1, whose canaries with scores in between are left without a guess. Equal scores count in the order given.

    Args:
      scores: Of every canary, higher where it is more likely that it was in.
      was_in: Whether it was.
      num_in: k+, how many to guess in.
      num_out: k-, how many to guess out.
    """
    order, truth = np.argsort(np.asarray(scores, float), kind="stable"), np.asarray(was_in, bool)
    told_in = truth[order[len(order) - num_in :]] if num_in else truth[:0]
    return int(told_in.sum() + (~truth[order[:num_out]]).sum())


def audit(
    scores: Sequence[float],
    was_in: Sequence[bool],
    delta: float,
    confidence: float = 0.95,
    guesses: int | None = None,
) -> Bound:
    """Guesses from scores and bounds epsilon.

    Args:
      scores: As `guess` takes them.
      was_in: Whether each canary was in, by a fair coin each.
      delta: The delta of the bound.
      confidence: Of the bound.
      guesses: How many guesses, half of them in. None to try several numbers and keep the best bound; the confidence
        is then shared among them (a union bound), so that the bound holds although the best is picked.

    Raises:
      ValueError: If there are more guesses than canaries.
    """
    total = len(scores)
    if total != len(was_in):
        raise ValueError(f"{total} scores of {len(was_in)} canaries.")
    numbers = [guesses] if guesses is not None else _numbers_of_guesses(total)
    each = 1.0 - (1.0 - confidence) / len(numbers)
    best = None
    for number in numbers:
        if number > total:
            raise ValueError(f"{number} guesses about {total} canaries.")
        correct = guess(scores, was_in, number // 2, number - number // 2)
        epsilon = epsilon_lower_bound(total, number, correct, delta, each)
        if best is None or epsilon > best.epsilon:
            best = Bound(epsilon, total, number, correct, delta, confidence)
    return best


def _numbers_of_guesses(canaries: int) -> list[int]:
    """All, a half, a quarter and so on, down to ten: strong mechanisms are told by many, weak ones by few sure ones."""
    numbers = [canaries]
    while numbers[-1] // 2 >= 10:
        numbers.append(numbers[-1] // 2)
    return numbers
