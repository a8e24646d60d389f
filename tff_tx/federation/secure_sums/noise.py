"""Discrete noise from a cryptographic generator: a participant's share, added before it masks or encrypts."""

from __future__ import annotations

import dataclasses
import functools
import math
import secrets
from collections.abc import Sequence

import numpy as np
from scipy import special

from tff_tx.federation.secure_sums.masks import KEY_BYTES, Stream

_MOST_STEPS = 2**24
_DEVIATIONS, _SPARE = 9.5, 60
"""The table ends where less than 2^-64 is left."""
_EXPANDED_ABOVE = 1e7


@dataclasses.dataclass(frozen=True)
class Noise:
    """The law of one participant's noise.

    Attributes:
      kind: "skellam", the difference of two Poisson variables of mean variance / 2; or "discrete_gaussian", with
        probabilities proportional to exp(-k^2 / (2 variance)) (Canonne et al. 2020, https://arxiv.org/abs/2004.00010).
      variance: In steps of the grid; 0 or more.

    Raises:
      ValueError: If the kind is another, or the variance too large for a table of probabilities.
    """

    kind: str
    variance: float

    def __post_init__(self):
        if self.kind not in _PROBABILITIES:
            raise ValueError(f"kind={self.kind}: must be one of {', '.join(_PROBABILITIES)}.")
        if not 0 <= self.variance <= (_MOST_STEPS / _DEVIATIONS) ** 2:
            raise ValueError(f"variance={self.variance}: must be from 0 to {(_MOST_STEPS / _DEVIATIONS) ** 2:.0e}.")

    def draw(self, length: int, stream: Stream) -> np.ndarray:
        """The next numbers of the noise, int64 [length].

        Magnitudes by inversion: one of at least k has the probability that a table says, to the precision of float64
        also where it is small, and is drawn with 64 bits. What is beyond the table has less than 2^-64 of it.
        """
        if self.variance == 0:
            return np.zeros(length, np.int64)
        uniform = (stream.words(length, np.dtype(np.uint64)).astype(np.float64) + 1) * 2.0**-64
        magnitudes = np.searchsorted(_tail(self.kind, self.variance), -uniform, side="right")
        return np.where(stream.words(length, np.dtype(np.uint8)) & 1, -magnitudes, magnitudes).astype(np.int64)


@dataclasses.dataclass(frozen=True)
class Share:
    """One party's share of the noise of a secure sum.

    Attributes:
      noise: Its law.
      modulus: Of the sums that it is for.
    """

    noise: Noise
    modulus: int

    def positions(self, moduli: Sequence[int]) -> tuple[int, ...]:
        """Those of the leaves of this modulus; ValueError: there are none."""
        found = tuple(i for i, modulus in enumerate(moduli) if modulus == self.modulus)
        if not found:
            raise ValueError(f"the process has no secure sum modulo {self.modulus}, so nothing would have noise.")
        return found

    def add(self, leaves: Sequence[np.ndarray], positions: Sequence[int], key: bytes | None = None) -> list[np.ndarray]:
        """Leaves with noise at these positions, drawn with a key, by default of the operating system's randomness."""
        noised, stream = list(leaves), Stream(key or secrets.token_bytes(KEY_BYTES))
        for position in positions:
            leaf = np.asarray(noised[position])
            drawn = leaf.astype(np.int64) + self.noise.draw(leaf.size, stream).reshape(leaf.shape)
            noised[position] = (drawn % self.modulus).astype(leaf.dtype)
        return noised


def _steps(variance):
    return math.ceil(_DEVIATIONS * math.sqrt(variance)) + _SPARE


@functools.lru_cache(maxsize=4)
def _tail(kind, variance):
    """-Pr[|X| >= k] for k = 1, 2, ...: ascending."""
    k = np.arange(_steps(variance), dtype=np.float64)
    probabilities = _PROBABILITIES[kind](k, variance)
    probabilities[1:] *= 2
    tail = np.cumsum(probabilities[::-1])[::-1]
    return -tail[1:] / tail[0]


def _skellam(k, variance):
    """e^-v I_k(v); for large v by Debye's expansion (DLMF 10.41.3), whose second term is the last that is not 0."""
    if variance <= _EXPANDED_ABOVE:
        return special.ive(k, variance)
    root = np.hypot(k, variance)
    exponent = k**2 / (root + variance) - k * np.arcsinh(k / variance)
    return np.exp(exponent) / np.sqrt(2 * np.pi * root) * (1 + (3 - 5 * (k / root) ** 2) / (24 * root))


def _discrete_gaussian(k, variance):
    return np.exp(-(k**2) / (2 * variance))


_PROBABILITIES = {"skellam": _skellam, "discrete_gaussian": _discrete_gaussian}
