"""Compression of what clients and the server send: codes, the bytes of codes, and factories that use them."""

from tff_tx.aggregators.compression.catalogue import build_compressor
from tff_tx.aggregators.compression.codec import CodecError, decode, encode
from tff_tx.aggregators.compression.compressor import Compressor, VectorCompressor
from tff_tx.aggregators.compression.download import build_delta_distributor
from tff_tx.aggregators.compression.factories import CompressedFactory, CompressedSumFactory, WeightedCompressedFactory
from tff_tx.aggregators.compression.low_rank import LowRank
from tff_tx.aggregators.compression.quantization import GaussianQuantizer, UniformQuantizer
from tff_tx.aggregators.compression.residuals import ResidualStore
from tff_tx.aggregators.compression.rotation import Rotated
from tff_tx.aggregators.compression.sparsification import RandomK, TopK

__all__ = [
    "CodecError",
    "CompressedFactory",
    "CompressedSumFactory",
    "Compressor",
    "GaussianQuantizer",
    "LowRank",
    "RandomK",
    "ResidualStore",
    "Rotated",
    "TopK",
    "UniformQuantizer",
    "VectorCompressor",
    "WeightedCompressedFactory",
    "build_compressor",
    "build_delta_distributor",
    "decode",
    "encode",
]
