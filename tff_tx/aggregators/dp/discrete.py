"""A mean of clients' updates with discrete noise that the clients add: distributed privacy under secure aggregation.

The distributed Skellam mechanism, Agarwal, Kairouz and Liu 2021, https://arxiv.org/abs/2110.04995, Algorithm 1, with
the grid and the rounding of Kairouz, Liu and Steinke 2021, https://arxiv.org/abs/2102.06387. What TFF has of it is
used: rotation, DP aggregation and secure modular sum. Its `DistributedDpSumFactory` as a whole is not: it seeds noise
with the time of day, so that clients who draw in one microsecond draw the same and the server can try the seeds out,
its clipping makes every number of an update that is not finite not a number, and it has no fixed denominator. Skellam
noise and no discrete Gaussian: sums of Skellam noises are Skellam noise again, so that a sum of shares is accounted as
it is, however many of them arrived.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import statistics
from typing import Any

import dp_accounting
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from tff_tx.aggregators.dp.factories import PrivateMeanFactory, clip_to_norm

ROTATIONS = {
    "fourier": tff.aggregators.DiscreteFourierTransformFactory,
    "hadamard": tff.aggregators.HadamardTransformFactory,
}
_MOST_BITS = 30
_FLOAT32_LEEWAY = 1 + 1e-5
"""Clipping in float32 may leave a norm above the clip by this."""
_MOST_TRIES = 100


@dataclasses.dataclass(frozen=True)
class SkellamParameters:
    """The grid that updates are rounded to, and the noise on it; sensitivities and variances are in steps of the grid.

    Attributes:
      clip: The L2 norm that updates are clipped to, above 0, finite.
      noise_multiplier: Standard deviation of the noise of the sum in units of `clip`, if all expected clients report;
        0 or more.
      clients_per_round: The clients a round expects: each adds one share of so many, and it is the denominator.
      size: Numbers a client sends; see `rotated_size`.
      bits: Of each of them; sums are taken modulo 2^bits. 2 to 30.
      beta: Bias of conditional rounding in [0, 1): a rounding is repeated that lengthens the update by more than one in
        1 - beta would; 0 rounds once, and bounds the length by the worst case.
      wrap_probability: With which a number of a sum may wrap around, above 0 and below 1, were it normal. It costs
        accuracy, not privacy.

    Raises:
      ValueError: If a value is out of range, or the bits do not hold a sum.
    """

    clip: float
    noise_multiplier: float
    clients_per_round: int
    size: int
    bits: int = 20
    beta: float = math.exp(-0.5)
    wrap_probability: float = 1e-4

    def __post_init__(self):
        for name, holds, rule in (
            ("clip", 0 < self.clip < math.inf, "above 0 and finite"),
            ("noise_multiplier", 0 <= self.noise_multiplier < math.inf, "0 or more and finite"),
            ("clients_per_round", self.clients_per_round >= 1, "1 or more"),
            ("size", self.size >= 1, "1 or more"),
            ("bits", self.bits in range(2, _MOST_BITS + 1), f"a whole number, 2 to {_MOST_BITS}"),
            ("beta", 0 <= self.beta < 1, "0 or more and below 1"),
            ("wrap_probability", 0 < self.wrap_probability < 1, "above 0 and below 1"),
        ):
            if not holds:
                raise ValueError(f"{name}={getattr(self, name)} must be {rule}.")
        if 4**self.bits <= self._deviations**2 * self.clients_per_round:
            raise ValueError(f"bits={self.bits} do not hold the sum of {self.clients_per_round} clients: raise them.")

    @property
    def _deviations(self) -> float:
        """Standard deviations from the middle of the ring to its end."""
        return statistics.NormalDist().inv_cdf(1 - self.wrap_probability / 2)

    @property
    def scale(self) -> float:
        """Steps of the grid in 1: 1 / gamma.

        The finest with which 2^bits steps are 2 k standard deviations of a number of the sum:
        (2^bits gamma)^2 = 4 k^2 (c^2 n^2 / d + (gamma^2 / 4 + sigma^2) n), Kairouz et al. 2021, Section 4.4, for
        updates that are alike and flat (rho = 1), as a rotation makes them.
        """
        n, k = self.clients_per_round, self._deviations
        spread = self.clip**2 * (n**2 / self.size + self.noise_multiplier**2)
        return math.sqrt((4**self.bits - k**2 * n) / (4 * k**2 * spread))

    @property
    def l2_sensitivity(self) -> float:
        """The largest L2 norm of a rounded update: Kairouz et al. 2021, Theorem 1 (there in units of the clip)."""
        clip, root = self.clip * self.scale * _FLOAT32_LEEWAY, math.sqrt(self.size)
        worst = clip + root
        if self.beta == 0:
            return worst
        likely = clip**2 + root**2 / 4 + math.sqrt(2 * math.log(1 / self.beta)) * (clip + root / 2)
        return min(worst, math.sqrt(likely))

    @property
    def l1_sensitivity(self) -> float:
        """The largest L1 norm of a rounded update: no whole number is above its square."""
        return self.l2_sensitivity * min(math.sqrt(self.size), self.l2_sensitivity)

    @property
    def share_variance(self) -> float:
        """Of the noise that one client adds; the variance of the sum is this times the clients that reported."""
        return (self.noise_multiplier * self.clip * self.scale) ** 2 / self.clients_per_round


def rotated_size(size: int, rotation: str | None) -> int:
    """How many numbers an update of some size is after a rotation, one of `ROTATIONS` or None."""
    return {"fourier": size + size % 2, "hadamard": 1 << (size - 1).bit_length(), None: size}[rotation]


class SkellamQuery(tfp.SumAggregationDPQuery):
    """Clips a vector, rounds it to the grid, adds a share of noise and takes it modulo 2^bits, all in the client.

    Records are float vectors [size], what is summed is int32 [size] in [0, 2^bits), the result is float32 [size].
    Rounding and noise are seeded in the client, anew for each record, so that nobody else knows the seeds and no run
    repeats them.
    """

    def __init__(self, parameters: SkellamParameters):
        self._parameters = parameters

    def initial_global_state(self):
        return ()

    def derive_sample_params(self, global_state):
        return ()

    def initial_sample_state(self, template):
        return tf.zeros([self._parameters.size], tf.int32)

    def preprocess_record(self, params, record):
        p = self._parameters
        clipped, _ = clip_to_norm(record, p.clip)
        rounded = round_to_norm(tf.cast(clipped, tf.float64) * p.scale, p.l2_sensitivity)
        noised = rounded + skellam_noise([p.size], p.share_variance)
        return tf.cast(tf.math.floormod(noised, 2**p.bits), tf.int32)

    def get_noised_result(self, sample_state, global_state):
        half = 2 ** (self._parameters.bits - 1)
        # A plain sum of int32 wraps at 2^32, which 2^bits divides.
        centered = tf.math.floormod(tf.cast(sample_state, tf.int64) + half, 2 * half) - half
        result = tf.cast(tf.cast(centered, tf.float64) / self._parameters.scale, tf.float32)
        return result, global_state, dp_accounting.UnsupportedDpEvent()

    def derive_metrics(self, global_state):
        p = self._parameters
        return collections.OrderedDict(
            scale=tf.constant(p.scale, tf.float32), share_stddev=tf.constant(p.share_variance**0.5, tf.float32)
        )


def round_to_norm(x: tf.Tensor, most: float) -> tf.Tensor:
    """Rounds up or down at random, without bias, until the result is no longer than some norm.

    Conditional rounding, Kairouz et al. 2021, Section 4.1. What is too long after a hundred tries becomes zeros, so
    that the bound always holds; with a bound of `SkellamParameters.l2_sensitivity` the chance of that is below 1e-21
    for the default beta. From float64 [n] to int64 [n].
    """
    key, below = _secret_key(), tf.floor(x)

    def too_long(rounded):
        return tf.norm(rounded) > most

    def attempt(tries, _):
        seed = tf.random.experimental.stateless_fold_in(key, tries)
        uniform = tf.random.stateless_uniform(tf.shape(x), seed, dtype=x.dtype, alg="philox")
        return tries + 1, below + tf.cast(uniform < x - below, x.dtype)

    def again(tries, rounded):
        return tf.logical_and(tries < _MOST_TRIES, too_long(rounded))

    _, rounded = tf.while_loop(again, attempt, attempt(tf.constant(0, tf.int64), None))
    return tf.cast(tf.where(too_long(rounded), tf.zeros_like(rounded), rounded), tf.int64)


def skellam_noise(shape: Any, variance: float) -> tf.Tensor:
    """The difference of two independent Poisson variables of mean variance / 2, int64."""
    pair = tf.random.stateless_poisson([2, *shape], _secret_key(), tf.constant(variance / 2, tf.float64), tf.int64)
    return pair[0] - pair[1]


def _secret_key():
    # The best a TensorFlow graph has: a generator of the process that 32 bits of the operating system's seeded.
    return tf.raw_ops.NonDeterministicInts(shape=[2], dtype=tf.int64)


def discrete_aggregator(
    clip: float,
    noise_multiplier: float,
    clients_per_round: int,
    *,
    bits: int = 20,
    beta: float = math.exp(-0.5),
    rotation: str | None = "hadamard",
    wrap_probability: float = 1e-4,
    secure: bool = True,
) -> tff.aggregators.UnweightedAggregationFactory:
    """The mean of updates clipped to a fixed norm, with Skellam noise of which each client adds a share.

    A client rotates its update, a vector, at random, so that its numbers are alike in size; clips it, one that is not
    finite to nothing; rounds it to a grid; adds its share of the noise; and sends it modulo 2^bits. The server sees
    the sum alone. The denominator is the number of clients that a round expects; who does not report counts as zero,
    but takes its share along: the noise of m of n clients has m / n of the variance, and of nobody none. So the
    guarantee must be accounted with the fewest that may report (`tff_tx.privacy.skellam_epsilon`), and rounds with
    fewer are to be dropped (`min_clients` of the engines).

    With `secure`, the engines local and ray sum modulo 2^bits, in the open or with masks
    (`tff_tx.federation.simulated_sums`); TFF's native runtime fails with "Cannot embed a federated value". Without, all
    run the same arithmetic with a plain sum, and whoever runs the server is trusted not to look at what is added.

    The seeds of the noise come from TensorFlow's generator of the client's process, which starts from 32 bits of the
    operating system's randomness. An adversary with the means to try all of them needs a better source in the client.

    Args:
      clip: The L2 norm, above 0, finite.
      noise_multiplier: Standard deviation of the noise of the sum in units of the clip, 0 or more.
      clients_per_round: The denominator, 1 or more, and the number of shares of the noise.
      bits: Of each number that is sent, 2 to 30: finer grids need more, and so do more clients.
      beta: See `SkellamParameters`.
      rotation: One of `ROTATIONS`, None for none. "hadamard" sends vectors padded to a power of two.
      wrap_probability: See `SkellamParameters`.
      secure: Whether the sum is a secure one.

    Returns:
      An unweighted factory, for updates that are float tensors of one dtype.

    Raises:
      ValueError: If a value is out of range; of the bits, when the factory creates a process.
    """
    if rotation not in (None, *ROTATIONS):
        raise ValueError(f"rotation={rotation} must be None or one of {', '.join(ROTATIONS)}.")
    options = {"bits": bits, "beta": beta, "wrap_probability": wrap_probability}
    parameters = functools.partial(SkellamParameters, clip, noise_multiplier, clients_per_round, **options)
    parameters(size=1)  # rejects what is wrong for every size
    sum_factory = tff.aggregators.SecureModularSumFactory(2**bits) if secure else tff.aggregators.SumFactory()
    mean = PrivateMeanFactory(
        lambda spec: SkellamQuery(parameters(size=spec.shape.num_elements())), clients_per_round, sum_factory
    )
    return tff.aggregators.concat_factory(mean if rotation is None else ROTATIONS[rotation](mean))
