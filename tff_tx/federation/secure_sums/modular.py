"""Vectors of numbers modulo M, in place: what is summed, and what masks it."""

from __future__ import annotations

import dataclasses

import numpy as np

MOST_BITS = 62
"""Of a modulus: the sum of two numbers below it is an int64."""


@dataclasses.dataclass(frozen=True)
class Ring:
    """Whole numbers modulo M.

    Numbers are kept as words of 32 or 64 bits. Modulo a power of two, words are any representatives: they wrap around
    by themselves, and the bits above are cut off once, at the end.

    Attributes:
      modulus: M, from 2 to 2^62.

    Raises:
      ValueError: If the modulus is out of range.
    """

    modulus: int

    def __post_init__(self):
        if not 2 <= self.modulus <= 2**MOST_BITS:
            raise ValueError(f"modulus={self.modulus}: must be from 2 to 2^{MOST_BITS}.")

    @property
    def bits(self) -> int:
        """Bits that a number takes: ceil(log2 M)."""
        return (self.modulus - 1).bit_length()

    @property
    def is_power_of_two(self) -> bool:
        """Whether M is a power of two."""
        return self.modulus & (self.modulus - 1) == 0

    @property
    def dtype(self) -> np.dtype:
        """Of a word: of other moduli with a bit to spare, for the sum of two numbers."""
        return np.dtype(np.uint32 if self.bits + (not self.is_power_of_two) <= 32 else np.uint64)

    def of(self, values: np.ndarray) -> np.ndarray:
        """A copy of whole numbers, of any sign, as words; uint64 are below M."""
        values = np.asarray(values)
        if self.is_power_of_two or values.dtype.kind == "u":
            return values.astype(self.dtype)
        return (values.astype(np.int64) % self.modulus).astype(self.dtype)

    def add(self, total: np.ndarray, words: np.ndarray) -> None:
        """Adds words to a total, in place."""
        total += words
        self._wrap(total)

    def subtract(self, total: np.ndarray, words: np.ndarray) -> None:
        """Subtracts words from a total, in place."""
        if not self.is_power_of_two:
            total += self.dtype.type(self.modulus)
        total -= words
        self._wrap(total)

    def _wrap(self, total):
        if not self.is_power_of_two:
            np.subtract(total, self.dtype.type(self.modulus), out=total, where=total >= self.modulus)

    def reduced(self, words: np.ndarray) -> np.ndarray:
        """The numbers in [0, M) that words stand for."""
        return words & self.dtype.type(self.modulus - 1) if self.is_power_of_two else words
