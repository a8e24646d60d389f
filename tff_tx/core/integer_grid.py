"""The grid that clients round their updates to before a secure sum with discrete noise, and what a client may change.

Kairouz, Liu and Steinke 2021, "The distributed discrete Gaussian mechanism for federated learning with secure
aggregation", https://arxiv.org/abs/2102.06387.
"""

from __future__ import annotations

import dataclasses
import math
import statistics

ROTATION_BLOCK = 4096
_FLOAT32_LEEWAY = 1 + 1e-5
"""Clipping in float32 may leave a norm above the clip by this."""


@dataclasses.dataclass(frozen=True)
class IntegerGrid:
    """Whole numbers in place of updates; sensitivities are in steps of the grid.

    Attributes:
      clip: The L2 norm that updates are clipped to, above 0, finite.
      scale: Steps of the grid in 1: 1 / gamma.
      size: Numbers that a client sends.
      bits: Of each of them; sums are taken modulo 2^bits. 2 to 30.
      beta: Bias of conditional rounding in [0, 1): a rounding is repeated that lengthens the update by more than one in
        1 - beta would; 0 rounds once, and bounds the length by the worst case.

    Raises:
      ValueError: If a value is out of range.
    """

    clip: float
    scale: float
    size: int
    bits: int
    beta: float = math.exp(-0.5)

    def __post_init__(self):
        for name, holds, rule in (
            ("clip", 0 < self.clip < math.inf, "above 0 and finite"),
            ("scale", 0 < self.scale < math.inf, "above 0 and finite"),
            ("size", self.size >= 1, "1 or more"),
            ("bits", self.bits in range(2, 31), "a whole number, 2 to 30"),
            ("beta", 0 <= self.beta < 1, "0 or more and below 1"),
        ):
            if not holds:
                raise ValueError(f"{name}={getattr(self, name)} must be {rule}.")

    @classmethod
    def for_sums(
        cls,
        clip: float,
        noise_multiplier: float,
        clients: int,
        size: int,
        bits: int,
        beta: float = math.exp(-0.5),
        wrap_probability: float = 1e-4,
    ) -> IntegerGrid:
        """The finest grid with which sums seldom wrap around.

        2^bits steps are 2 k standard deviations of a number of the sum: (2^bits gamma)^2 = 4 k^2 (c^2 n^2 / d +
        (gamma^2 / 4 + sigma^2) n), Section 4.4, for updates that are alike and flat (rho = 1), as a rotation makes
        them.

        Args:
          clip: As of the grid, as are size, bits and beta.
          noise_multiplier: Standard deviation of the noise of the sum over all clients, in units of the clip.
          clients: n, 1 or more.
          size: d.
          bits: See above.
          beta: See above.
          wrap_probability: With which a number of a sum may wrap around, were it normal. It costs accuracy, not
            privacy.

        Raises:
          ValueError: If a value is out of range, or the bits do not hold a sum.
        """
        deviations = statistics.NormalDist().inv_cdf(1 - wrap_probability / 2)
        spare = 4**bits - deviations**2 * clients
        if spare <= 0:
            raise ValueError(f"{bits} bits do not hold the sum of {clients} clients with noise.")
        spread = clip**2 * (clients**2 / size + noise_multiplier**2)
        return cls(clip, math.sqrt(spare / spread) / (2 * deviations), size, bits, beta)

    @property
    def modulus(self) -> int:
        """2^bits."""
        return 2**self.bits

    @property
    def l2_sensitivity(self) -> float:
        """The largest L2 norm of a rounded update: Theorem 1 (there in units of the clip)."""
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


def rotation_block(size: int) -> int:
    """Numbers that are rotated together: a vector shorter than a block is filled up to the next power of two."""
    return min(ROTATION_BLOCK, max(2, 1 << (size - 1).bit_length()))


def rotated_size(size: int) -> int:
    """How many numbers a vector is after its rotation, in whole blocks."""
    return -(-size // rotation_block(size)) * rotation_block(size)
