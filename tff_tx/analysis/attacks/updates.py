"""Attacks on updates: what attackers send instead of what they have computed.

An update is the server's weights minus the client's, float32, as in `tff.learning`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import scipy.stats
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class SignFlip:
    """Sends -s Delta: leads the model uphill (Li et al. 2019, https://arxiv.org/abs/1811.03761, section 6).

    Attributes:
      scale: s.
    """

    scale: float = 1.0

    def forge(self, update: Any, seed: tf.Tensor) -> Any:
        """The forged update; `seed` is int64 [2], other for each client and round."""
        del seed
        return tf.nest.map_structure(lambda leaf: -self.scale * leaf, update)


@dataclasses.dataclass(frozen=True)
class GaussianUpdate:
    """Sends noise, N(0, sigma^2) in each coordinate (Blanchard et al. 2017, https://papers.nips.cc/paper/6617).

    Attributes:
      noise: sigma, in units of the weights.
    """

    noise: float = 1.0

    def forge(self, update: Any, seed: tf.Tensor) -> Any:
        """The forged update; `seed` is int64 [2], other for each client and round."""
        return _noise(update, seed, self.noise)


@dataclasses.dataclass(frozen=True)
class ModelReplacement:
    """Sends gamma Delta, Delta from poisoned data, so that the mean becomes the attacker's model.

    Bagdasaryan et al. 2020, https://arxiv.org/abs/1807.00459, equation 3: with gamma = n / eta, n clients a round and
    the server's rate eta, a single attacker among clients that have converged replaces the model.

    Attributes:
      scale: gamma.
    """

    scale: float

    def forge(self, update: Any, seed: tf.Tensor) -> Any:
        """The forged update; `seed` is int64 [2], other for each client and round."""
        del seed
        return tf.nest.map_structure(lambda leaf: self.scale * leaf, update)


@dataclasses.dataclass(frozen=True)
class FreeRider:
    """Sends no update, or noise that looks like one, to get the model for nothing.

    Fraboni, Vidal and Lorenzi 2021, https://arxiv.org/abs/2006.11901, section 3: plain free-riders return the model
    they were given; disguised ones add noise. What they claim to have trained on still counts as their weight.

    Attributes:
      noise: Standard deviation, in units of the weights; 0: a plain free-rider.
    """

    noise: float = 0.0

    def forge(self, update: Any, seed: tf.Tensor) -> Any:
        """The forged update; `seed` is int64 [2], other for each client and round."""
        return _noise(update, seed, self.noise)


@dataclasses.dataclass(frozen=True)
class LittleIsEnough:
    """All attackers send mu - z sigma, mean and standard deviation of each coordinate: within the spread of the honest.

    Baruch, Baruch and Goldberg 2019, "A Little Is Enough", https://arxiv.org/abs/1902.06156, Algorithm 3. The attackers
    work together: mu and sigma are of the updates that they compute themselves, or of all clients' if they are
    omniscient, as the paper also has it. In a round of TFF clients hear of each other through the next broadcast at the
    earliest, so mu and sigma are of the last round in which there were attackers (at least 2, for a spread); until then
    they send what they have computed. mu and sigma add two models to what a client is sent, and two to what it sends.

    Attributes:
      z: How many standard deviations from the mean; see `little_is_enough_z`.
      omniscient: Whether they know what all clients send.
    """

    z: float
    omniscient: bool = False

    def forge_together(self, mean: Any, deviation: Any) -> Any:
        """The forged update, the same for all attackers."""
        return tf.nest.map_structure(lambda mu, sigma: mu - self.z * sigma, mean, deviation)


def little_is_enough_z(num_clients: int, num_attackers: int) -> float:
    """How far the attackers may go so that enough of the honest are further out: the paper's z_max.

    Algorithm 3: s = floor(n / 2 + 1) - m supporters are needed for a majority, and z_max is the quantile (n - m - s) /
    (n - m) of the standard normal distribution.

    Args:
      num_clients: n of a round, attackers among them.
      num_attackers: m, of a round; less than half.

    Raises:
      ValueError: If the attackers are not a minority.
    """
    n, m = num_clients, num_attackers
    if not 0 <= m < n / 2:
        raise ValueError(f"{m} attackers are not less than half of {n} clients.")
    supporters = n // 2 + 1 - m
    return float(scipy.stats.norm.ppf((n - m - supporters) / (n - m)))


def _noise(update, seed, deviation):
    leaves = tf.nest.flatten(update)
    if not deviation:
        return tf.nest.map_structure(tf.zeros_like, update)
    seeds = [tf.random.experimental.stateless_fold_in(seed, i) for i in range(len(leaves))]
    forged = [tf.random.stateless_normal(leaf.shape, s, 0.0, deviation, leaf.dtype) for leaf, s in zip(leaves, seeds)]
    return tf.nest.pack_sequence_as(update, forged)
