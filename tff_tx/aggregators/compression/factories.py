"""Compression as `tff.aggregators` factories, and compressors by name."""

from __future__ import annotations

import re
from typing import Any, Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.aggregators.aggregator import build_process, zeros_of
from tff_tx.aggregators.compression.compressor import Compressor, fold_in
from tff_tx.aggregators.compression.quantization import GaussianQuantizer, Rotated, UniformQuantizer
from tff_tx.aggregators.compression.sparsification import LowRank, RandomK, TopK
from tff_tx.config.aggregation import COMPRESSORS, QUANTIZERS

_SEED_TYPE = tff.TensorType(np.int64, [2])
_ROTATION_BLOCK = 4096


class CompressedSumFactory(tff.aggregators.UnweightedAggregationFactory):
    """Sums values of which clients send codes; the server decodes each as it adds it up.

    The contribution of a client is the code, and it is what travels. Inside of `tff.aggregators.MeanFactory` it makes a
    (weighted) mean, inside of clipping and zeroing a stack like `tff.learning.compression_aggregator`:

        tff.aggregators.zeroing_factory(zeroing_norm, tff.aggregators.MeanFactory(CompressedSumFactory(compressor)))

    Each client draws with a key of its own, made of the seed, the round and a hash of its value: aggregators see
    nothing else of a client. The same seed gives the same numbers, at any number of threads; but an engine or machine
    whose arithmetic differs in a last bit draws others. Two clients with values alike to the last bit err alike.

    A code may decode to a larger value than it was made of. As the sum inside of differential privacy it must therefore
    clip what it decodes, once more, with `finalize`.

    Args:
      compressor: Makes the codes.
      seed: Decides everything random.
      finalize: Applied to a decoded value, a structure of tensors, before it is added; None: the identity.
    """

    def __init__(self, compressor: Compressor, seed: int = 0, finalize: Callable[[Any], Any] | None = None):
        self._compressor, self._seed, self._finalize = compressor, seed, finalize or (lambda value: value)

    def create(self, value_type: tff.Type) -> tff.templates.AggregationProcess:
        client = _Client(self._compressor, value_type)
        initialize, round_seed, add_one = _rounds(self._seed)

        @tff.tensorflow.computation(value_type, _SEED_TYPE)
        def encode(value, seed):
            return client.encode(value, seed)

        @tff.tensorflow.computation
        def zero():
            return zeros_of(client.structure)

        @tff.tensorflow.computation(value_type, encode.type_signature.result)
        def accumulate(total, code):
            return tf.nest.map_structure(tf.add, total, self._finalize(client.decode(code)))

        @tff.tensorflow.computation(value_type, value_type)
        def merge(a, b):
            return tf.nest.map_structure(tf.add, a, b)

        @tff.tensorflow.computation(value_type)
        def report(total):
            return total

        def next_fn(round_num, value):
            seed = tff.federated_broadcast(tff.federated_map(round_seed, round_num))
            codes = tff.federated_map(encode, (value, seed))
            total = tff.federated_aggregate(codes, zero(), accumulate, merge, report)
            measurements = tff.federated_value((), tff.SERVER)
            return tff.templates.MeasuredProcessOutput(tff.federated_map(add_one, round_num), total, measurements)

        return build_process(initialize, next_fn, value_type)


class _Compressed:
    """Aggregates decoded values by an inner factory of `_kind`."""

    def __init__(self, compressor: Compressor, inner: tff.aggregators.AggregationFactory, seed: int = 0):
        if not isinstance(inner, self._kind):
            weighted = self._kind is tff.aggregators.WeightedAggregationFactory
            wanted = "a weighted" if weighted else "an unweighted"
            raise TypeError(f"the inner factory must be {wanted} one, not {type(inner).__name__}.")
        self._compressor, self._inner, self._seed = compressor, inner, seed

    def create(self, value_type: tff.Type, *weight_type: tff.Type) -> tff.templates.AggregationProcess:
        inner, client = self._inner.create(value_type, *weight_type), _Client(self._compressor, value_type)
        first_round, round_seed, add_one = _rounds(self._seed)

        @tff.tensorflow.computation(value_type, _SEED_TYPE)
        def there_and_back(value, seed):
            return client.decode(client.encode(value, seed))

        @tff.federated_computation
        def initialize():
            return tff.federated_zip((first_round(), inner.initialize()))

        def next_fn(state, value, *weight):
            seed = tff.federated_broadcast(tff.federated_map(round_seed, state[0]))
            output = inner.next(state[1], tff.federated_map(there_and_back, (value, seed)), *weight)
            new_state = tff.federated_zip((tff.federated_map(add_one, state[0]), output.state))
            return tff.templates.MeasuredProcessOutput(new_state, output.result, output.measurements)

        return build_process(initialize, next_fn, value_type, *weight_type)


class CompressedFactory(_Compressed, tff.aggregators.UnweightedAggregationFactory):
    """Aggregates, by any inner factory, the values that a server would decode from clients' codes.

    For inner factories that are more than a sum: robust ones, which need every value, and differential privacy with an
    adaptive clip. The client part of the inner factory runs after decoding, so that in this simulation decoded values
    travel, and bytes are not smaller.

    Args:
      compressor: Makes the codes.
      inner: Aggregates what is decoded.
      seed: As of `CompressedSumFactory`.

    Raises:
      TypeError: If the inner factory is a weighted one.
    """

    _kind = tff.aggregators.UnweightedAggregationFactory


class WeightedCompressedFactory(_Compressed, tff.aggregators.WeightedAggregationFactory):
    """`CompressedFactory` for an inner factory that takes weights, which are not compressed."""

    _kind = tff.aggregators.WeightedAggregationFactory


class _Client:
    """Codes of values of a type."""

    def __init__(self, compressor, value_type):
        if not tff.types.is_structure_of_floats(value_type):
            raise TypeError(f"only floats can be compressed, and the values are {value_type}.")
        self._compressor = compressor
        self.structure = tff.types.type_to_tf_tensor_specs(value_type)
        self._specs = tf.nest.flatten(self.structure)

    def encode(self, value, seed):
        leaves = [tf.cast(leaf, tf.float32) for leaf in tf.nest.flatten(value)]
        return self._compressor.encode(leaves, own_seed(leaves, seed))

    def decode(self, code):
        leaves = self._compressor.decode(code, self._specs)
        leaves = [tf.cast(leaf, spec.dtype) for leaf, spec in zip(leaves, self._specs)]
        return tf.nest.pack_sequence_as(self.structure, leaves)


def own_seed(leaves, seed):
    """A client's seed in a round: int64[2], from the round's and a hash of what the client has."""
    hashes = [tf.fingerprint(tf.reshape(tf.bitcast(leaf, tf.uint8), [1, -1])) for leaf in leaves]
    own = tf.bitcast(tf.fingerprint(tf.reshape(tf.concat(hashes, axis=0), [1, -1]))[0], tf.int64)
    return tf.stack([tf.bitwise.bitwise_xor(seed[0], own), seed[1]])


def _rounds(seed):
    """The state of a factory that draws: computations for the first round, the seed of a round and the next round."""

    @tff.federated_computation
    def initialize():
        return tff.federated_value(0, tff.SERVER)

    @tff.tensorflow.computation(np.int32)
    def round_seed(round_num):
        return fold_in(tf.constant([seed, 0], tf.int64), round_num)

    @tff.tensorflow.computation(np.int32)
    def add_one(round_num):
        return round_num + 1

    return initialize, round_seed, add_one


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
        return Rotated(GaussianQuantizer(bits, _ROTATION_BLOCK), _ROTATION_BLOCK)
    if kind == "rotated":
        return Rotated(UniformQuantizer(bits, block_size=_ROTATION_BLOCK), _ROTATION_BLOCK)
    return UniformQuantizer(bits, stochastic=kind == "stochastic")
