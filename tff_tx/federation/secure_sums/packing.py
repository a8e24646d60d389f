"""Vectors modulo M as bytes: as many bits a number as the modulus needs, little-endian, without gaps."""

from __future__ import annotations

import numpy as np

from tff_tx.federation.secure_sums.errors import MalformedMessageError
from tff_tx.federation.secure_sums.modular import Ring


def packed_size(length: int, ring: Ring) -> int:
    """Bytes of a packed vector."""
    return (length * ring.bits + 7) // 8


def pack(numbers: np.ndarray, ring: Ring) -> bytes:
    """Packs numbers in [0, M), of the ring's words.

    Eight numbers of b bits are b bytes: byte j of a group is put together from the numbers that overlap its bits.
    """
    bits, length = ring.bits, len(numbers)
    padded = np.zeros(-(-length // 8) * 8, ring.dtype)
    padded[:length] = numbers
    groups = np.ascontiguousarray(padded.reshape(-1, 8).T)
    out = np.zeros([bits, groups.shape[1]], np.uint8)
    for j in range(bits):
        for i in range(8 * j // bits, min(7, (8 * j + 7) // bits) + 1):
            shift = 8 * j - i * bits
            part = groups[i] >> ring.dtype.type(shift) if shift >= 0 else groups[i] << ring.dtype.type(-shift)
            out[j] |= part.astype(np.uint8)  # of wider numbers the low byte
    return out.T.tobytes()[: packed_size(length, ring)]


def unpack(packed: bytes, length: int, ring: Ring) -> np.ndarray:
    """The numbers, words of the ring [length].

    Raises:
      MalformedMessageError: If there are not as many bytes, or a number is not below the modulus.
    """
    bits = ring.bits
    if len(packed) != packed_size(length, ring):
        raise MalformedMessageError(f"a vector has {len(packed)} bytes instead of {packed_size(length, ring)}.")
    columns = -(-length // 8)
    padded = np.zeros(columns * bits, np.uint8)
    padded[: len(packed)] = np.frombuffer(packed, np.uint8)
    octets = np.ascontiguousarray(padded.reshape(columns, bits).T)
    groups = np.zeros([8, columns], ring.dtype)
    for i in range(8):
        for j in range(i * bits // 8, (i * bits + bits - 1) // 8 + 1):
            shift, part = 8 * j - i * bits, octets[j].astype(ring.dtype)
            groups[i] |= part << ring.dtype.type(shift) if shift >= 0 else part >> ring.dtype.type(-shift)
        groups[i] &= ring.dtype.type(2**bits - 1)
    numbers = groups.T.reshape(-1)[:length]
    if not ring.is_power_of_two and np.any(numbers >= ring.modulus):
        raise MalformedMessageError(f"a vector has a number that is not below its modulus {ring.modulus}.")
    return numbers
