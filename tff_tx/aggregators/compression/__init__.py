"""Compression of what clients and the server send: codes, the bytes of codes, and factories that use them."""

from tff_tx.aggregators.compression.compressor import Compressor
from tff_tx.aggregators.compression.download import build_delta_distributor
from tff_tx.aggregators.compression.factories import (
    CompressedFactory,
    CompressedSumFactory,
    WeightedCompressedFactory,
    build_compressor,
)
from tff_tx.aggregators.compression.quantization import Rotated, UniformQuantizer
from tff_tx.aggregators.compression.sparsification import LowRank, RandomK, TopK
from tff_tx.core.codec import CodecError, decode, encode
