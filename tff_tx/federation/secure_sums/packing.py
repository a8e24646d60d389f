"""Vectors modulo M as bytes: as many bits a number as the modulus needs, little-endian, without gaps."""

from __future__ import annotations

import numpy as np

from tff_tx.federation.secure_sums.errors import MalformedMessageError
from tff_tx.federation.secure_sums.modular import Ring

_SPARE = 72
"""Bytes that words may reach beyond the last group's."""


def packed_size(length: int, ring: Ring) -> int:
    """Bytes of a packed vector."""
    return (length * ring.bits + 7) // 8


def pack(numbers: np.ndarray, ring: Ring) -> bytes:
    """Packs numbers in [0, M), of the ring's words.

    Eight numbers of b bits are b bytes. The i-th of all groups of eight are put into place at once, as words that start
    at the byte that has their first bit.
    """
    groups = -(-len(numbers) // 8)
    padded = np.zeros(groups * 8, ring.dtype)
    padded[: len(numbers)] = numbers
    out = np.zeros(groups * ring.bits + _SPARE, np.uint8)
    for i, column in enumerate(padded.reshape(groups, 8).T):
        words, spilled, shift = _columns(out, groups, ring.bits, i)
        words |= column.astype(words.dtype) << words.dtype.type(shift)
        if spilled is not None:
            spilled |= (column >> column.dtype.type(64 - shift)).astype(np.uint8)
    return out[: packed_size(len(numbers), ring)].tobytes()


def unpack(packed: bytes, length: int, ring: Ring) -> np.ndarray:
    """The numbers, words of the ring [length].

    Raises:
      MalformedMessageError: If there are not as many bytes, or a number is not below the modulus.
    """
    if len(packed) != packed_size(length, ring):
        raise MalformedMessageError(f"a vector has {len(packed)} bytes instead of {packed_size(length, ring)}.")
    groups = -(-length // 8)
    padded = np.zeros(groups * ring.bits + _SPARE, np.uint8)
    padded[: len(packed)] = np.frombuffer(packed, np.uint8)
    numbers = np.empty([groups, 8], ring.dtype)
    for i in range(8):
        words, spilled, shift = _columns(padded, groups, ring.bits, i)
        found = words >> words.dtype.type(shift)
        if spilled is not None:
            found |= spilled.astype(np.uint64) << np.uint64(64 - shift)
        numbers[:, i] = found & words.dtype.type(2**ring.bits - 1)
    numbers = numbers.reshape(-1)[:length]
    if not ring.is_power_of_two and np.any(numbers >= ring.modulus):
        raise MalformedMessageError(f"a vector has a number that is not below its modulus {ring.modulus}.")
    return numbers


def _columns(octets, groups, bits, i):
    """Words that have the i-th number of each group, the byte after them if it has a part too, and the number's shift.

    Words of a column do not overlap, as they are no longer than a group's bytes.
    """
    start, shift = divmod(i * bits, 8)
    size = next((size for size in (1, 2, 4, 8) if 8 * size >= bits + shift), 8)
    words = np.ndarray([groups], f"<u{size}", octets, start, [bits])
    spilled = np.ndarray([groups], np.uint8, octets, start + 8, [bits]) if bits + shift > 64 else None
    return words, spilled, shift
