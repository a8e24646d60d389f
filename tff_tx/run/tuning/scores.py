"""Scores of arms on clients, and comparisons that know their noise.

With few evaluation clients the order of arms is mostly noise, and halving falls to random search (Kuo et al. 2023, "On
Noisy Evaluation in Federated Hyperparameter Tuning", https://arxiv.org/abs/2212.08930). Here arms are compared on the
same clients, in pairs, so that what is common to both (a client whose data are hard) cancels out; where the difference
is within its standard error, more clients are asked.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np

CONFIDENCE = 1.645
"""Standard errors by which arms must differ: one sided, 95 %."""


@dataclasses.dataclass(frozen=True)
class Scores:
    """An arm's scores, on the first clients of a fixed order.

    Attributes:
      values: Score of each client, float64 [clients]; lower is better, infinite of an arm that has diverged.
      weights: What clients count, such as numbers of examples, float64 [clients].
    """

    values: np.ndarray
    weights: np.ndarray

    @property
    def mean(self) -> float:
        """Weighted mean over clients."""
        return _mean_and_error(self.values, self.weights)[0]

    @property
    def standard_error(self) -> float:
        """Of the mean, over clients; infinite for a single one."""
        return _mean_and_error(self.values, self.weights)[1]

    def beats(self, other: Scores) -> bool:
        """Whether this arm is better by more than the noise, on the clients that both were scored on."""
        if not np.isfinite(self.values).all() or not np.isfinite(other.values).all():
            return self.mean < other.mean
        both = min(len(self.values), len(other.values))
        mean, error = _mean_and_error(other.values[:both] - self.values[:both], self.weights[:both])
        return mean > CONFIDENCE * error


def _mean_and_error(values, weights):
    """Weighted mean, and its standard error by linearization of the ratio (Cochran 1977, section 6.4)."""
    total, count = weights.sum(), len(values)
    mean = float((weights * values).sum() / total)
    if not math.isfinite(mean):
        return math.inf, math.nan
    if count < 2:
        return mean, math.inf
    residuals = weights * (values - mean)
    return mean, float(math.sqrt((residuals**2).sum() * count / (count - 1)) / total)


def race(
    arms: Sequence[Hashable],
    quota: int,
    score_fn: Callable[[Hashable, int], Scores],
    first: int,
    most: int,
) -> list:
    """The best `quota` arms, best first, by racing (Maron and Moore 1994, "Hoeffding Races").

    All are scored on `first` clients. Arms that are better than the best that would be dropped, or worse than the worst
    that would survive, by more than the noise are decided; the others are scored on twice as many clients, until
    none is left or all `most` clients have been asked, whose order then decides.
    """
    survivors, undecided, clients = [], list(arms), min(first, most)
    while True:
        scores = {arm: score_fn(arm, clients) for arm in undecided}
        undecided.sort(key=lambda arm: scores[arm].mean)
        left = quota - len(survivors)
        best, rest = undecided[:left], undecided[left:]
        if not rest or not best or clients >= most:
            return survivors + best
        sure = [arm for arm in best if scores[arm].beats(scores[rest[0]])]
        lost = [arm for arm in rest if scores[best[-1]].beats(scores[arm])]
        if len(sure) == len(best) or len(lost) == len(rest):
            return survivors + best
        survivors += sure
        undecided = [arm for arm in undecided if arm not in sure and arm not in lost]
        clients = min(2 * clients, most)
