"""Sums of whole numbers modulo M, of which secure aggregation can hide the terms.

Everything that a client sends in a secure run passes one of the two factories here: figures, of which there are few,
exactly; updates on a common grid of few bits, which adapts to their size as rounds go by.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.aggregators.aggregator import build_process, stateless
from tff_tx.aggregators.compression.compressor import PHILOX, blocks, fold_in, from_blocks
from tff_tx.aggregators.compression.factories import own_seed
from tff_tx.aggregators.compression.quantization import hadamard_transform, random_signs
from tff_tx.core.integer_grid import rotation_block
from tff_tx.runtime import MOST_CLIENTS

FIGURE_BITS, FRACTION_BITS = 31, 16
"""Figures are from -2^31 to 2^31, in steps of 2^-16."""
_FIGURE_MODULUS = 2 ** (FIGURE_BITS + FRACTION_BITS + 1 + MOST_CLIENTS.bit_length() - 1)
_FIRST_BOUND = 16.0
_ROOM, _DEVIATIONS = 2.0, 3.0
_LOWEST, _HIGHEST = -12.0, 4.0
"""Bounds of the logarithm of a client's largest magnitude in units of the bound: no client moves it far by itself."""


@dataclasses.dataclass(frozen=True)
class SecureSums:
    """The sums that a secure aggregator is made of.

    Attributes:
      values: Of updates.
      figures: Of weights, counts and metrics.
    """

    values: tff.aggregators.UnweightedAggregationFactory
    figures: tff.aggregators.UnweightedAggregationFactory


class FigureSumFactory(tff.aggregators.UnweightedAggregationFactory):
    """Sums figures in fixed point: exactly, if they are whole numbers of at most 31 bits.

    A figure is rounded to a multiple of 2^-16; one that is not a number counts as 0. The modulus of 2^62 holds the sum
    of 16,384 clients with figures in [-2^31, 2^31], to which others are cut. How many clients had to cut is summed for
    each leaf, too: a sum of floats with such a figure is not a number, rather than a wrong one. `create` takes any
    structure of numbers.
    """

    def create(self, value_type: tff.Type) -> tff.templates.AggregationProcess:
        specs = tff.types.structure_from_tensor_type_tree(lambda t: tf.TensorSpec(t.shape, t.dtype), value_type)

        @tff.tensorflow.computation(value_type)
        def encode(value):
            leaves = [_bounded(leaf) for leaf in tf.nest.flatten(value)]
            cut = tf.stack([tf.cast(was_cut, tf.int64) for _, was_cut in leaves])
            return [*(tf.cast(tf.round(leaf * 2.0**FRACTION_BITS), tf.int64) for leaf, _ in leaves), cut]

        @tff.tensorflow.computation(encode.type_signature.result)
        def decode(sums):
            *sums, cut = sums
            sums = [_centered(leaf, _FIGURE_MODULUS) for leaf in sums]
            figures = [
                tf.cast(tf.cast(leaf, tf.float64) / 2**FRACTION_BITS, spec.dtype)
                for leaf, spec in zip(sums, tf.nest.flatten(specs))
            ]
            known = [
                tf.where(cut[i] > 0, tf.constant(np.nan, figure.dtype), figure) if figure.dtype.is_floating else figure
                for i, figure in enumerate(figures)
            ]
            return tf.nest.pack_sequence_as(specs, known)

        def next_fn(state, value):
            total = tff.backends.mapreduce.federated_secure_modular_sum(
                tff.federated_map(encode, value), np.int64(_FIGURE_MODULUS)
            )
            return tff.templates.MeasuredProcessOutput(
                state, tff.federated_map(decode, total), tff.federated_value((), tff.SERVER)
            )

        return build_process(stateless(), next_fn, value_type)


def _bounded(leaf):
    """A figure's numbers, cut to 31 bits, and whether one had to be."""
    value, most = tf.cast(leaf, tf.float64), 2.0**FIGURE_BITS
    value = tf.where(tf.math.is_nan(value), tf.zeros_like(value), value)
    return tf.clip_by_value(value, -most, most), tf.reduce_any(tf.abs(value) > most)


def _centered(sums, modulus):
    """The whole numbers from -M/2 on that are congruent to sums in [0, M)."""
    return tf.where(sums >= modulus // 2, sums - modulus, sums)


class GridSumFactory(tff.aggregators.UnweightedAggregationFactory):
    """Sums updates on a common grid: each number becomes one of 2 L + 1 levels, and levels are added modulo 2^bits.

    x becomes round(L x / c), with L the largest for which the sum of all clients does not wrap around; what exceeds the
    bound c is cut. c is 2 exp(mu + 3 sigma), for mean and deviation of the logarithms of the clients' largest
    magnitudes in the round before, which are summed as figures: so it follows updates of any scale within a round.
    Rounding is stochastic, which makes the sum unbiased, or to the nearest level. Rotated, updates are first multiplied
    by random signs and the Walsh-Hadamard matrix, in blocks of 4,096 and with one seed for all clients of a round, so
    that a few large numbers do not decide the grid (Suresh et al. 2017, https://arxiv.org/abs/1611.00429, section 3).

    Process: state `OrderedDict(round_num, bound)`; measurements `OrderedDict(bound)`. It takes floats.

    Args:
      bits: Of a number of the sum, 2 to 30.
      clients: Most clients of a round.
      stochastic: How to round.
      rotate: Whether to rotate.
      seed: Decides everything random.

    Raises:
      ValueError: If the bits are out of range, or hold no sum of so many clients.
    """

    def __init__(self, bits: int, clients: int, stochastic: bool = True, rotate: bool = False, seed: int = 0):
        if not 2 <= bits <= 30:
            raise ValueError(f"bits={bits}: must be 2 to 30.")
        self._modulus, self._levels = 2**bits, (2 ** (bits - 1) - 1) // clients
        if self._levels < 1:
            raise ValueError(f"a sum of {clients} clients needs at least {clients.bit_length() + 1} bits.")
        self._stochastic, self._rotate, self._seed = stochastic, rotate, seed

    def create(self, value_type: tff.Type) -> tff.templates.AggregationProcess:
        if not tff.types.is_structure_of_floats(value_type):
            raise TypeError(f"updates are floats, and this one is {value_type}.")
        specs = tff.types.type_to_tf_tensor_specs(value_type)
        names = ("log", "square", "clients")
        figures_type = tff.to_type(collections.OrderedDict((name, np.float32) for name in names))
        figures = FigureSumFactory().create(figures_type)
        state_type = tff.to_type(collections.OrderedDict(round_num=np.int32, bound=np.float32))

        @tff.tensorflow.computation
        def initial():
            return collections.OrderedDict(round_num=tf.constant(0), bound=tf.constant(_FIRST_BOUND))

        @tff.tensorflow.computation(value_type, state_type)
        def encode(value, state):
            return self._encode(value, state["bound"], self._round_seed(state["round_num"]))

        levels_type = encode.type_signature.result[0]

        @tff.tensorflow.computation(levels_type, state_type)
        def decode(levels, state):
            return self._decode(levels, state["bound"], self._round_seed(state["round_num"]), specs)

        @tff.tensorflow.computation(state_type, figures_type)
        def follow(state, total):
            mean = tf.math.divide_no_nan(total["log"], total["clients"])
            variance = tf.math.divide_no_nan(total["square"], total["clients"]) - mean**2
            factor = _ROOM * tf.exp(mean + _DEVIATIONS * tf.sqrt(tf.maximum(variance, 0.0)))
            bound = tf.where(total["clients"] > 0.0, factor, 1.0) * state["bound"]
            return collections.OrderedDict(round_num=state["round_num"] + 1, bound=bound)

        @tff.federated_computation
        def initialize():
            return tff.federated_eval(initial, tff.SERVER)

        def next_fn(state, value):
            encoded = tff.federated_map(encode, (value, tff.federated_broadcast(state)))
            modulus = np.int32(self._modulus)
            total = tff.backends.mapreduce.federated_secure_modular_sum(encoded[0], modulus)
            known = figures.next(tff.federated_value((), tff.SERVER), encoded[1])
            return tff.templates.MeasuredProcessOutput(
                tff.federated_map(follow, (state, known.result)),
                tff.federated_map(decode, (total, state)),
                tff.federated_zip(collections.OrderedDict(bound=tff.federated_map(_bound_of(state_type), state))),
            )

        return build_process(initialize, next_fn, value_type)

    def _round_seed(self, round_num):
        return fold_in(tf.constant([self._seed, 0], tf.int64), round_num)

    def _encode(self, value, bound, seed):
        """Levels, int32 [d], and the figures that the next bound is made of."""
        leaves = [tf.cast(leaf, tf.float32) for leaf in tf.nest.flatten(value)]
        vector = tf.concat([tf.reshape(leaf, [-1]) for leaf in leaves], axis=0)
        if self._rotate:
            rows = blocks(vector, rotation_block(vector.shape[0]))
            vector = tf.reshape(hadamard_transform(rows * random_signs(rows.shape, fold_in(seed, 1))), [-1])
        vector = tf.where(tf.math.is_finite(vector), vector, tf.zeros_like(vector))
        largest = tf.reduce_max(tf.abs(vector))
        position = tf.clip_by_value(vector / bound, -1.0, 1.0) * float(self._levels)
        if self._stochastic:
            uniform = tf.random.stateless_uniform(position.shape, own_seed(leaves, seed), alg=PHILOX)
            position = tf.floor(position + uniform)
        levels = tf.clip_by_value(tf.round(position), -float(self._levels), float(self._levels))
        counts = tf.cast(largest > 0.0, tf.float32)
        log = counts * tf.clip_by_value(tf.math.log(tf.maximum(largest / bound, 1e-37)), _LOWEST, _HIGHEST)
        return tf.cast(levels, tf.int32), collections.OrderedDict(log=log, square=log**2, clients=counts)

    def _decode(self, levels, bound, seed, structure):
        specs = tf.nest.flatten(structure)
        sizes = [math.prod(spec.shape) for spec in specs]
        vector = tf.cast(_centered(levels, self._modulus), tf.float32) * (bound / float(self._levels))
        if self._rotate:
            rows = blocks(vector, rotation_block(sum(sizes)))
            vector = from_blocks(hadamard_transform(rows) * random_signs(rows.shape, fold_in(seed, 1)), sum(sizes))
        parts = zip(tf.split(vector, sizes), specs)
        return tf.nest.pack_sequence_as(structure, [tf.cast(tf.reshape(p, s.shape), s.dtype) for p, s in parts])


def _bound_of(state_type) -> Any:
    @tff.tensorflow.computation(state_type)
    def bound(state):
        return state["bound"]

    return bound


def secure_mean(sums: SecureSums, weighted: bool) -> tff.aggregators.AggregationFactory:
    """The mean of updates, by weight or equally; 0 if there is none."""
    if weighted:
        return tff.aggregators.MeanFactory(sums.values, sums.figures, no_nan_division=True)
    return tff.aggregators.UnweightedMeanFactory(sums.values, sums.figures)
