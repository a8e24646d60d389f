"""A mean of clients' updates on a grid of whole numbers, to which clients add discrete noise before a secure sum.

Algorithm 1 of Agarwal, Kairouz and Liu 2021, "The Skellam mechanism for differentially private federated learning",
https://arxiv.org/abs/2110.04995, with the grid and the rounding of Kairouz, Liu and Steinke 2021,
https://arxiv.org/abs/2102.06387. The noise is not drawn here: graphs have no cryptographic generator, so that each
client adds its share to what its graph has computed (`tff_tx.federation.simulated_noise`). TFF's
`DistributedDpSumFactory` is not used: it seeds noise with the time of day, so that clients who draw in one microsecond
draw the same and the server can try the seeds out, its clipping makes every number of an update that is not finite not
a number, and it has no fixed denominator.
"""

from __future__ import annotations

import collections

import dp_accounting
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from tff_tx.aggregators.compression.compressor import fold_in
from tff_tx.aggregators.compression.factories import own_seed
from tff_tx.aggregators.compression.quantization import hadamard_transform, random_signs
from tff_tx.aggregators.dp.factories import PrivateMeanFactory, clip_to_norm
from tff_tx.core.integer_grid import IntegerGrid, rotated_size, rotation_block

_MOST_TRIES = 100


class GridQuery(tfp.SumAggregationDPQuery):
    """Rotates a vector, clips it, rounds it to the grid and takes it modulo 2^bits, all in the client.

    Records are float vectors [length], what is summed is int32 [grid.size] in [0, 2^bits), the result is float32
    [length]. The rotation has one seed for all, as the server undoes it; rounding is seeded by the record, and protects
    nothing: the guarantee holds for whatever rounding is no longer than the sensitivity.
    """

    def __init__(self, grid: IntegerGrid, length: int, seed: int = 0):
        if grid.size != rotated_size(length):
            raise ValueError(f"a grid of {grid.size} numbers is not for vectors of {length}: {rotated_size(length)}.")
        self._grid, self._length, self._seed = grid, length, seed

    def initial_global_state(self):
        return ()

    def derive_sample_params(self, global_state):
        return ()

    def initial_sample_state(self, template):
        return tf.zeros([self._grid.size], tf.int32)

    def preprocess_record(self, params, record):
        grid = self._grid
        record, seed = tf.cast(record, tf.float32), tf.constant([self._seed, 0], tf.int64)
        clipped, _ = clip_to_norm(self._rotate(record), grid.clip)
        position = tf.cast(clipped, tf.float64) * grid.scale
        rounded = round_to_norm(position, grid.l2_sensitivity, own_seed([record], seed))
        return tf.cast(tf.math.floormod(rounded, grid.modulus), tf.int32)

    def get_noised_result(self, sample_state, global_state):
        half = self._grid.modulus // 2
        # A plain sum of int32 wraps at 2^32, which 2^bits divides.
        centered = tf.math.floormod(tf.cast(sample_state, tf.int64) + half, 2 * half) - half
        rotated = tf.cast(tf.cast(centered, tf.float64) / self._grid.scale, tf.float32)
        return self._rotate_back(rotated), global_state, dp_accounting.UnsupportedDpEvent()

    def derive_metrics(self, global_state):
        return collections.OrderedDict(scale=tf.constant(self._grid.scale, tf.float32))

    # Blocks take every n-th number of the vector, so that each has its part of every layer.

    def _rotate(self, vector):
        rows = tf.transpose(tf.reshape(tf.pad(vector, [[0, self._grid.size - self._length]]), [self._block, -1]))
        return tf.reshape(hadamard_transform(rows * self._signs(rows.shape)), [-1])

    def _rotate_back(self, vector):
        rows = hadamard_transform(tf.reshape(vector, [-1, self._block]))
        return tf.reshape(tf.transpose(rows * self._signs(rows.shape)), [-1])[: self._length]

    def _signs(self, shape):
        return random_signs(shape, tf.constant([self._seed, 1], tf.int64))

    @property
    def _block(self):
        return rotation_block(self._length)


def round_to_norm(x: tf.Tensor, most: float, seed: tf.Tensor) -> tf.Tensor:
    """Rounds up or down at random, without bias, until the result is no longer than some norm.

    Conditional rounding, Kairouz et al. 2021, Section 4.1. What is too long after a hundred tries becomes zeros, so
    that the bound always holds; with a bound of `IntegerGrid.l2_sensitivity` the chance of that is below 1e-21 for the
    default beta. From float64 [n] to int64 [n]; the seed int64 [2] decides.
    """
    below = tf.floor(x)

    def too_long(rounded):
        return tf.norm(rounded) > most

    def attempt(tries, _):
        uniform = tf.random.stateless_uniform(tf.shape(x), fold_in(seed, tries), dtype=x.dtype, alg="philox")
        return tries + 1, below + tf.cast(uniform < x - below, x.dtype)

    def again(tries, rounded):
        return tf.logical_and(tries < _MOST_TRIES, too_long(rounded))

    _, rounded = tf.while_loop(again, attempt, attempt(tf.constant(0, tf.int64), None))
    return tf.cast(tf.where(too_long(rounded), tf.zeros_like(rounded), rounded), tf.int64)


def discrete_aggregator(
    grid: IntegerGrid, clients_per_round: float, seed: int = 0
) -> tff.aggregators.UnweightedAggregationFactory:
    """The mean of updates clipped to a fixed norm, as whole numbers that are summed securely modulo 2^bits.

    A client rotates its update, a vector, so that its numbers are alike in size; clips it, one that is not finite to
    nothing; rounds it to the grid; and sends it modulo 2^bits. **It adds no noise**: `ParticipantNoise`, a hook of the
    engine, adds a client's share before anything leaves it. The denominator is the number of clients that a round
    expects; who does not report counts as zero, and takes its share of the noise along.

    Args:
      grid: What updates are rounded to, for `rotated_size` numbers.
      clients_per_round: The denominator, above 0.
      seed: Of rotation and rounding; known to all.

    Returns:
      An unweighted factory, for updates that are float tensors of one dtype. `create` raises a ValueError for updates
      of another size than the grid's.
    """
    sum_factory = tff.aggregators.SecureModularSumFactory(grid.modulus)
    mean = PrivateMeanFactory(
        lambda spec: GridQuery(grid, spec.shape.num_elements(), seed), clients_per_round, sum_factory
    )
    return tff.aggregators.concat_factory(mean)
