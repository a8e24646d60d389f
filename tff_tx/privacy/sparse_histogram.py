"""Histograms over items nobody can list beforehand, such as words: noise on those that occur, and a threshold.

A client adds 1 to the counts of at most k items, each count gets Gaussian noise, and what stays below a threshold is
not released: an item that a single client has would otherwise reveal the client by its presence, whatever its count
(Korolova et al. 2009, https://doi.org/10.1145/1526709.1526733, which released words of search queries so, and Wilson et
al. 2020, https://arxiv.org/abs/1909.01917, Section 3.2, which has the bound that adds both deltas). Delta is computed
exactly here.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import scipy.optimize
from scipy import special

from tff_tx.core.errors import UserError, setting
from tff_tx.privacy.accounting import check_delta, gaussian_delta


@dataclasses.dataclass(frozen=True)
class SparseHistogram:
    """The Gaussian sparse histogram mechanism.

    Attributes:
      noise_stddev: Standard deviation of the noise of a count, above 0.
      threshold: A noisy count is released if it is at least this.
      max_items: k, counts that a client adds 1 to, at most.
    """

    noise_stddev: float
    threshold: float
    max_items: int

    def delta(self, epsilon: float) -> float:
        """The least delta for an epsilon, for data with and without one client.

        Wilkins, Kifer, Zhang, Karrer, "Exact privacy analysis of the Gaussian sparse histogram mechanism", 2024,
        https://arxiv.org/abs/2202.01100: the worst over how many of the client's k things others have too.

        Args:
          epsilon: 0 or more.
        """
        shared = np.arange(self.max_items + 1)
        # That nothing is released which only this client has: each of them stays below the threshold.
        log_hidden = (self.max_items - shared) * special.log_ndtr((self.threshold - 1) / self.noise_stddev)
        hidden = np.exp(log_hidden)
        # With the client there, its own things are seen, or else the shared ones differ by noise, whose probability is
        # lessened by that of hiding: P - e^eps Q = (1 - h) + h (P' - e^(eps - log h) Q').
        with_client = -np.expm1(log_hidden) + hidden * self._noise_delta(epsilon - log_hidden, shared)
        # Without it nothing of its own is ever seen, which with it happens less often: Q is h Q'.
        without_client = self._noise_delta(epsilon + log_hidden, shared)
        return float(min(1.0, max(with_client.max(), without_client.max())))

    def _noise_delta(self, epsilon, shared):
        """Balle and Wang 2018, https://arxiv.org/abs/1805.06530, Theorem 8, for counts that differ in `shared` ones."""
        sensitivity = np.sqrt(np.maximum(shared, 1)) / self.noise_stddev
        upper = special.ndtr(sensitivity / 2 - epsilon / sensitivity)
        lower = np.exp(epsilon + special.log_ndtr(-sensitivity / 2 - epsilon / sensitivity))
        nothing_shared = -np.expm1(np.minimum(epsilon, 0.0))
        return np.where(shared == 0, nothing_shared, np.maximum(0.0, upper - lower))

    def release_probability(self, count: float) -> float:
        """Probability that an item held by `count` clients is released."""
        return float(special.ndtr((count - self.threshold) / self.noise_stddev))


def find_sparse_histogram(max_items: int, target_epsilon: float, delta: float) -> SparseHistogram:
    """The mechanism of a guarantee: half of delta decides the noise, and what is left the least threshold.

    Args:
      max_items: Counts that a client adds 1 to, at most; 1 or more.
      target_epsilon: Above 0 and finite.
      delta: Above 0 and below 1.

    Raises:
      UserError: If a value is out of range.
    """
    if not 0 < target_epsilon < math.inf:
        raise UserError(f"{setting('privacy.target_epsilon')}={target_epsilon}: must be a finite number above 0.")
    check_delta(delta)

    def log_excess(log_stddev):
        found = gaussian_delta(max_items * math.exp(-2 * log_stddev) / 2, target_epsilon)
        return math.log(max(found, 1e-300)) - math.log(delta / 2)

    stddev = math.exp(scipy.optimize.brentq(log_excess, math.log(1e-4), math.log(1e8), xtol=1e-9))

    def excess(threshold):
        return SparseHistogram(stddev, threshold, max_items).delta(target_epsilon) - delta

    # One of k counts of noise is above 1 + highest with probability delta / 4 at most, and the bound of the sum holds.
    highest = 1 - stddev * special.ndtri(delta / 4 / max_items)
    threshold = scipy.optimize.brentq(excess, 1.0, highest, xtol=1e-9 * stddev)
    while excess(threshold) > 0:
        threshold += 1e-6 * stddev
    return SparseHistogram(stddev, threshold, max_items)
