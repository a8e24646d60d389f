"""Shamir's secret sharing, vectorized: secrets of 32 bytes in pieces of 31 bits, modulo the prime 2^31 + 11."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from tff_tx.federation.secure_sums.errors import SecureSumError
from tff_tx.federation.secure_sums.masks import KEY_BYTES, Stream
from tff_tx.federation.secure_sums.modular import Ring

PRIME = 2**31 + 11
PIECES = -(-8 * KEY_BYTES // 31)
SHARE_BYTES = 4 * PIECES
_FIELD = Ring(PRIME)
_MASK = 2**31 - 1


def split(secret: bytes, threshold: int, holders: Sequence[int]) -> dict[int, bytes]:
    """Shares of a secret, of which any `threshold` give it and fewer say nothing.

    Each piece is the value at 0 of a polynomial of degree threshold - 1 with uniform coefficients; the share of holder
    i is its value at i + 1 (Shamir 1979, https://doi.org/10.1145/359168.359176).

    Args:
      secret: 32 bytes.
      threshold: From 1 to the number of holders.
      holders: Their indices, 0 or more, distinct.

    Returns:
      A share of 36 bytes by holder.
    """
    coefficients = Stream(os.urandom(KEY_BYTES)).numbers(threshold * PIECES, _FIELD).reshape(threshold, PIECES)
    coefficients = coefficients.astype(np.uint64)
    coefficients[0] = _pieces(secret)
    at = np.array(holders, np.uint64)[:, None] + 1
    values = np.zeros([len(holders), PIECES], np.uint64)
    for row in coefficients[::-1]:
        values = (values * at + row) % PRIME  # below 2^63
    return {holder: row.astype("<u4").tobytes() for holder, row in zip(holders, values)}


def combine(shares: dict[int, bytes], threshold: int) -> bytes:
    """The secret, from at least `threshold` shares by holder; as many are used.

    Raises:
      SecureSumError: If there are too few, or they are of no secret.
    """
    if len(shares) < threshold:
        raise SecureSumError(f"{len(shares)} shares of a secret are there, and {threshold} are needed.")
    used = sorted(shares)[:threshold]
    values = np.array([np.frombuffer(shares[holder], "<u4") for holder in used], np.uint64)
    total = np.zeros(PIECES, np.uint64)
    for weight, row in zip(_weights(used), values):
        total = (total + np.uint64(weight) * row) % PRIME
    pieces = [int(piece) for piece in total]
    number = sum(piece << (31 * i) for i, piece in enumerate(pieces))
    if max(pieces) > _MASK or number >> (8 * KEY_BYTES):
        raise SecureSumError("shares do not fit together.")
    return number.to_bytes(KEY_BYTES, "little")


def _pieces(secret):
    number = int.from_bytes(secret, "little")
    return [(number >> (31 * i)) & _MASK for i in range(PIECES)]


def _weights(holders):
    """Lagrange's weights at 0: prod over j != i of x_j / (x_j - x_i)."""
    at = np.array(holders, np.uint64) + 1
    weights = []
    for i, x in enumerate(at):
        others = np.delete(at, i)
        numerator = denominator = 1
        for other, difference in zip(others.tolist(), ((others + PRIME - x) % PRIME).tolist()):
            numerator, denominator = numerator * other % PRIME, denominator * difference % PRIME
        weights.append(numerator * pow(denominator, -1, PRIME) % PRIME)
    return weights
