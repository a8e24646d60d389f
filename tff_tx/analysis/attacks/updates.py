"""Forged updates.

An update is the server's weights minus the client's, float32, as in `tff.learning`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf
from scipy import special

from tff_tx.analysis.attacks import poisoning
from tff_tx.analysis.attacks.simulation import Attack, AttackKind
from tff_tx.config import AttackConfig


@dataclasses.dataclass(frozen=True)
class SignFlip:
    """Sends -`scale` Delta: leads the model uphill (Li et al. 2019, https://arxiv.org/abs/1811.03761, section 6)."""

    scale: float = 1.0

    def forge(self, update: Any, seed: tf.Tensor) -> Any:
        """The forged update; `seed` is int64 [2], unique to client and round."""
        del seed
        return tf.nest.map_structure(lambda leaf: -self.scale * leaf, update)


@dataclasses.dataclass(frozen=True)
class GaussianUpdate:
    """Sends `noise` times N(0, 1) in each coordinate (Blanchard et al. 2017, https://papers.nips.cc/paper/6617)."""

    noise: float = 1.0

    def forge(self, update: Any, seed: tf.Tensor) -> Any:
        """The forged update; `seed` is int64 [2], unique to client and round."""
        if not self.noise:
            return tf.nest.map_structure(tf.zeros_like, update)

        def draw(i, leaf):
            leaf_seed = tf.random.experimental.stateless_fold_in(seed, i)
            return tf.random.stateless_normal(leaf.shape, leaf_seed, 0.0, self.noise, leaf.dtype)

        return tf.nest.pack_sequence_as(update, [draw(i, leaf) for i, leaf in enumerate(tf.nest.flatten(update))])


@dataclasses.dataclass(frozen=True)
class ModelReplacement:
    """Sends `scale` Delta, with Delta from poisoned data, so that the mean becomes the attacker's model.

    Bagdasaryan et al. 2020, https://arxiv.org/abs/1807.00459, equation 3: with a scale of n / eta, n clients a round
    and the server's rate eta, a single attacker among clients that have converged replaces the model.
    """

    scale: float

    def forge(self, update: Any, seed: tf.Tensor) -> Any:
        """The forged update; `seed` is int64 [2], unique to client and round."""
        del seed
        return tf.nest.map_structure(lambda leaf: self.scale * leaf, update)


@dataclasses.dataclass(frozen=True)
class FreeRider(GaussianUpdate):
    """Sends no update, or noise that looks like one, and takes the model.

    Fraboni, Vidal and Lorenzi 2021, https://arxiv.org/abs/2006.11901, section 3: plain free-riders return the model
    they were given; disguised ones add noise. Their number of examples still counts as their weight.

    Attributes:
      noise: Standard deviation, in units of the weights; 0: a plain free-rider.
    """

    noise: float = 0.0


@dataclasses.dataclass(frozen=True)
class LittleIsEnough:
    """Colluding attackers send mu - z sigma, which stays within the spread of honest updates.

    Baruch, Baruch and Goldberg 2019, "A Little Is Enough", https://arxiv.org/abs/1902.06156, Algorithm 3. mu and
    sigma are mean and standard deviation of each coordinate, of the updates that the attackers compute themselves, or
    of all clients' if they are omniscient, as in the paper too. In a round of TFF clients learn of each other through
    the next broadcast at the earliest, so mu and sigma are of the last round with at least 2 attackers; until then they
    send honest updates. mu and sigma add two models to a client's download, and two to its upload.

    Attributes:
      z: Number of standard deviations from the mean; see `little_is_enough_z`.
      omniscient: Whether they know the updates of all clients.
    """

    z: float
    omniscient: bool = False

    def forge_together(self, mean: Any, deviation: Any) -> Any:
        """The forged update, the same for all attackers."""
        return tf.nest.map_structure(lambda mu, sigma: mu - self.z * sigma, mean, deviation)


def little_is_enough_z(num_clients: int, num_attackers: int) -> float:
    """The largest z at which enough honest clients are further out: the paper's z_max.

    Algorithm 3: of a cohort of n clients, m attackers included, s = floor(n / 2 + 1) - m supporters are needed for a
    majority, and z_max is the quantile (n - m - s) / (n - m) of the standard normal distribution.

    Raises:
      ValueError: If the attackers are not a minority.
    """
    n, m = num_clients, num_attackers
    if not 0 <= m < n / 2:
        raise ValueError(f"{m} attackers are not less than half of {n} clients.")
    supporters = n // 2 + 1 - m
    return float(special.ndtri((n - m - supporters) / (n - m)))


def build_model_replacement(settings: AttackConfig, clients_per_round: int, task: Any) -> Attack:
    """Attackers that send scaled updates with a backdoor.

    Raises:
      UserError: As of `poisoning.build_backdoor`.
    """
    scale = clients_per_round if settings.scale is None else settings.scale
    backdoor = poisoning.build_backdoor(settings, clients_per_round, task)
    return dataclasses.replace(backdoor, update=ModelReplacement(scale))


def build_little_is_enough(settings: AttackConfig, clients_per_round: int, task: Any) -> Attack:
    """Attackers that collude.

    Raises:
      ValueError: If no scale is set, and the attackers are not a minority.
    """
    del task
    z = settings.scale
    if z is None:
        z = little_is_enough_z(clients_per_round, settings.per_round(clients_per_round))
    return Attack(update=LittleIsEnough(z, settings.omniscient))


SIGN_FLIP = AttackKind(
    lambda settings, cohort, task: Attack(update=SignFlip(1.0 if settings.scale is None else settings.scale)),
    ("scale",),
    forges_updates=True,
)
GAUSSIAN = AttackKind(
    lambda settings, cohort, task: Attack(update=GaussianUpdate(1.0 if settings.noise is None else settings.noise)),
    ("noise",),
    forges_updates=True,
)
MODEL_REPLACEMENT = dataclasses.replace(
    poisoning.BACKDOOR,
    build=build_model_replacement,
    settings=("scale", *poisoning.BACKDOOR_SETTINGS),
    forges_updates=True,
)
FREE_RIDER = AttackKind(
    lambda settings, cohort, task: Attack(update=FreeRider(settings.noise or 0.0)), ("noise",), forges_updates=True
)
LITTLE_IS_ENOUGH = AttackKind(build_little_is_enough, ("scale", "omniscient"), forges_updates=True)
