"""Accounting of Skellam noise: what clients add to whole numbers before a secure sum.

Agarwal, Kairouz and Liu 2021, "The Skellam mechanism for differentially private federated learning",
https://arxiv.org/abs/2110.04995. A client is hidden in the sense of `tff_tx.privacy.mechanisms.ZERO_OUT`: with or
without its data it takes part in the same rounds, and adds its share of the noise. Cohorts that are drawn at random
amplify nothing here: noise that comes and goes with clients is outside of what is proven of sampling.
"""

from __future__ import annotations

import math

import numpy as np
from dp_accounting import rdp

from tff_tx.core.errors import UserError

# The bound is proven for whole orders; large epsilons, whose best order is below 3, come out a little larger for it.
_ORDERS = (*range(2, 257), 320, 384, 512, 768, 1024, 2048, 4096)


def skellam_rdp(order: float, l1_sensitivity: float, l2_sensitivity: float, variance: float) -> float:
    """Renyi divergence at most, in nats, of a vector of whole numbers with Skellam noise.

    Agarwal et al. 2021, Corollary 3.6: a D2^2 / (2 mu) + min(((2 a - 1) D2^2 + 6 D1) / (4 mu^2), 3 D1 / (2 mu)).

    Args:
      order: a, a whole number, 2 or more.
      l1_sensitivity: D1, by how much a client changes the vector at most, in L1 norm, 0 or more.
      l2_sensitivity: D2, the same in L2 norm.
      variance: mu, of each number of the noise, above 0.
    """
    gaussian = order * l2_sensitivity**2 / (2 * variance)
    excess = ((2 * order - 1) * l2_sensitivity**2 + 6 * l1_sensitivity) / (4 * variance**2)
    return gaussian + min(excess, 3 * l1_sensitivity / (2 * variance))


def skellam_epsilon(
    l1_sensitivity: float, l2_sensitivity: float, variance: float, participations: int, delta: float
) -> float:
    """An upper bound on epsilon of sums of whole numbers with Skellam noise, infinite without noise.

    Args:
      l1_sensitivity: Of one sum; that of `tff_tx.aggregators.dp.SkellamParameters`.
      l2_sensitivity: Likewise.
      variance: Of each number of the noise of a sum: the variance of a client's share times the fewest shares in a
        round that those who are not trusted do not know, so less the shares of clients that would tell them theirs.
      participations: The most rounds that one client takes part in, 0 or more; which ones has nothing to do with
        its data.
      delta: Above 0 and below 1.

    Raises:
      UserError: If a value is out of range.
    """
    if not 0 < delta < 1:
        raise UserError(f"delta={delta}: must be above 0 and below 1.")
    names = ("l1_sensitivity", "l2_sensitivity", "variance", "participations")
    for name, value in zip(names, (l1_sensitivity, l2_sensitivity, variance, participations)):
        if not 0 <= value < math.inf:
            raise UserError(f"{name}={value}: must be a number, at least 0.")
    if participations == 0:
        return 0.0
    if variance == 0:
        return math.inf
    by_order = [participations * skellam_rdp(a, l1_sensitivity, l2_sensitivity, variance) for a in _ORDERS]
    return float(rdp.compute_epsilon(np.array(_ORDERS), np.array(by_order), delta)[0])
