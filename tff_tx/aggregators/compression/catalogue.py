"""Compressors by name."""

from __future__ import annotations

import re

from tff_tx.aggregators.compression.compressor import Compressor
from tff_tx.aggregators.compression.low_rank import LowRank
from tff_tx.aggregators.compression.quantization import GaussianQuantizer, UniformQuantizer
from tff_tx.aggregators.compression.rotation import Rotated
from tff_tx.aggregators.compression.sparsification import RandomK, TopK
from tff_tx.config.aggregation import COMPRESSORS, QUANTIZERS

ROTATION_BLOCK = 4096


def build_compressor(name: str, fraction: float = 0.01, rank: int = 2, error_feedback: bool = False) -> Compressor:
    """Builds a compressor.

    Args:
      name: One of `tff_tx.config.aggregation.COMPRESSORS`: a quantizer and its bits, `uniform` to the nearest level,
        `stochastic` by chance, `rotated` by chance after a rotation, `eden` EDEN (with one bit DRIVE); or a sparsifier
        or sketch.
      fraction: Share of coordinates that `top_k` and `random_k` send.
      rank: Rank of `low_rank`.
      error_feedback: Whether what is lost is sent later, so that `random_k` need not be scaled.

    Raises:
      ValueError: If the name is unknown, or an argument is out of its range.
    """
    if name == "top_k":
        return TopK(fraction)
    if name == "random_k":
        return RandomK(fraction, scaled=not error_feedback)
    if name == "low_rank":
        return LowRank(rank)
    found = re.fullmatch(f"({'|'.join(QUANTIZERS)})([1-8])", name)
    if found is None:
        raise ValueError(f"compressor {name!r} must be one of {', '.join(COMPRESSORS)}.")
    kind, bits = found[1], int(found[2])
    if kind == "eden":
        return Rotated(GaussianQuantizer(bits, ROTATION_BLOCK), ROTATION_BLOCK)
    if kind == "rotated":
        return Rotated(UniformQuantizer(bits, block_size=ROTATION_BLOCK), ROTATION_BLOCK)
    return UniformQuantizer(bits, stochastic=kind == "stochastic")
