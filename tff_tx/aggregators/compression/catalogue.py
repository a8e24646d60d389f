"""Compressors by name, as `--compression` spells them."""

from __future__ import annotations

import re

from tff_tx.aggregators.compression.compressor import Compressor
from tff_tx.aggregators.compression.low_rank import LowRank
from tff_tx.aggregators.compression.quantization import GaussianQuantizer, UniformQuantizer
from tff_tx.aggregators.compression.rotation import Rotated
from tff_tx.aggregators.compression.sparsification import RandomK, TopK

QUANTIZERS = ("uniform", "stochastic", "rotated", "eden")
"""Followed by the number of bits, 1 to 8."""

COMPRESSORS = (*(f"{name}{bits}" for name in QUANTIZERS for bits in range(1, 9)), "top_k", "random_k", "low_rank")

ROTATION_BLOCK = 4096


def build_compressor(name: str, fraction: float = 0.01, rank: int = 2, error_feedback: bool = False) -> Compressor:
    """Builds a compressor.

    Args:
      name: One of `COMPRESSORS`: `uniform` rounds to the nearest level, `stochastic` by chance, `rotated` by chance
        after a rotation, `eden` is EDEN, with one bit DRIVE.
      fraction: Of the coordinates that `top_k` and `random_k` send.
      rank: Of `low_rank`.
      error_feedback: Whether what is lost is sent later, so that `random_k` need not be scaled.

    Raises:
      ValueError: If there is none of that name, or an argument is out of its range.
    """
    if name == "top_k":
        return TopK(fraction)
    if name == "random_k":
        return RandomK(fraction, scaled=not error_feedback)
    if name == "low_rank":
        return LowRank(rank)
    found = re.fullmatch(f"({'|'.join(QUANTIZERS)})([1-8])", name)
    if found is None:
        raise ValueError(f"compressor {name!r} is none of {', '.join(COMPRESSORS)}.")
    kind, bits = found[1], int(found[2])
    if kind == "eden":
        return Rotated(GaussianQuantizer(bits, ROTATION_BLOCK), ROTATION_BLOCK)
    if kind == "rotated":
        return Rotated(UniformQuantizer(bits, block_size=ROTATION_BLOCK), ROTATION_BLOCK)
    return UniformQuantizer(bits, stochastic=kind == "stochastic")
