"""The Gaussian mechanism's epsilon, exactly: Balle & Wang 2018, https://arxiv.org/abs/1805.06530, Theorem 8."""

import numpy as np
from scipy import optimize, stats


def gaussian_epsilon(sigma, delta):
    """Of noise of standard deviation sigma on what changes by 1."""

    def excess(epsilon):
        above, below = 1 / (2 * sigma) - epsilon * sigma, -1 / (2 * sigma) - epsilon * sigma
        return stats.norm.cdf(above) - np.exp(epsilon) * stats.norm.cdf(below) - delta

    return optimize.brentq(excess, 0.0, 200.0)
