"""Numbers modulo M as what BFV encrypts: digits modulo a prime t, and pads that hide them."""

from __future__ import annotations

import numpy as np
from tenseal import sealapi

from tff_tx.federation.secure_sums.errors import SecureSumError
from tff_tx.federation.secure_sums.masks import mask
from tff_tx.federation.secure_sums.modular import Ring
from tff_tx.federation.secure_sums.terms import Terms, Vector

DEGREE = 4096
"""N: numbers of a ciphertext, whose coefficients have 109 bits in all, the most for 128 bits of security."""
PLAIN = Ring(sealapi.PlainModulus.Batching(DEGREE, 35).value())
"""Numbers modulo t, a prime of 35 bits with t = 1 modulo 2 N."""


def limb_bits(terms: Terms) -> int:
    """w, with n (2^w - 1) < t for the most clients n: no sum of limbs wraps around."""
    return (PLAIN.modulus // terms.most_clients).bit_length() - 1


def num_residues(terms: Terms, vector: Vector) -> int:
    """Numbers modulo t of a vector.

    Raises:
      SecureSumError: If its modulus is no power of two.
    """
    return vector.length * _num_limbs(terms, vector)


def ciphertext_sizes(terms: Terms) -> list[int]:
    """Numbers of each ciphertext of a contribution; SecureSumError: a modulus is no power of two."""
    total = sum(num_residues(terms, vector) for vector in terms.vectors)
    return [min(DEGREE, total - start) for start in range(0, total, DEGREE)]


def to_limbs(terms: Terms, vector: Vector, numbers: np.ndarray) -> np.ndarray:
    """Digits to the base 2^w, the lowest first: uint64 [limbs * length]."""
    bits, each = limb_bits(terms), np.uint64(2 ** limb_bits(terms) - 1)
    return np.concatenate([(numbers >> np.uint64(bits * i)) & each for i in range(_num_limbs(terms, vector))])


def from_limbs(terms: Terms, vector: Vector, sums: np.ndarray) -> np.ndarray:
    """The number modulo M whose digits' sums are given; what is beyond 2^64 is beyond M."""
    rows = sums.reshape(_num_limbs(terms, vector), vector.length)
    total = np.zeros(vector.length, np.uint64)
    for i, row in enumerate(rows):
        total += row << np.uint64(limb_bits(terms) * i)
    return total & np.uint64(vector.modulus - 1)


def pad(terms: Terms, vector: Vector, seed: bytes) -> np.ndarray:
    """Uniform numbers modulo t, for each of a vector's, of a client's seed."""
    return mask(seed, terms.digest, vector.name, num_residues(terms, vector), PLAIN)


def _num_limbs(terms, vector):
    if not vector.ring.is_power_of_two:
        raise SecureSumError(f"numbers modulo {vector.modulus} are not encrypted: the modulus is no power of two.")
    return -(-vector.ring.bits // limb_bits(terms))
