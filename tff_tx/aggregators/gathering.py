"""Aggregation rules that need all updates of a round at once, in one `tff.federated_aggregate`.

The accumulator is the matrix of the updates so far, a row a client, parted into blocks of 1, 2, 4, ... rows as the bits
of their number say (a binary counter, Cormen et al. 2009, section 17.1). A new row is put together with the full blocks
before it, so that it is copied once a block size and not once a client: n rows cost n log2(n) copies in all, and the
blocks that do not change are handed on as they are. Rows stay in the order of the cohort.

Memory is n x d floats for n clients and d parameters. The rules themselves compute on chunks of columns.
"""

from __future__ import annotations

import collections
from typing import Any, Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.aggregators.aggregator import Aggregator, build_one_pass, structure_of
from tff_tx.config import AggregationConfig

MAX_CLIENTS = 1023
"""Maximum number of clients whose updates are held in a round, by default."""

_COLUMNS = 1 << 14  # of a chunk: 13 MB for a hundred clients in float64


class Updates:
    """The updates of a round in a rule: a matrix float32 [n, d] that is never put together as a whole.

    Attributes:
      num_clients: n, an int32 scalar, at least 1.
      weights: The clients' weights, float32 [n], above 0.
    """

    def __init__(self, blocks: list[tf.Tensor], weights: tf.Tensor):
        self._blocks, self.weights = blocks, weights
        self.num_clients = tf.size(weights)
        self._num_columns = blocks[0].shape[1]

    def map_columns(self, fn: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        """A figure a column, float32 [d], from a function of chunks of columns, float32 [n, c] -> float32 [c]."""
        starts = range(0, self._num_columns, _COLUMNS)
        if len(starts) <= 1:
            return tf.ensure_shape(fn(self._chunk(0)), [self._num_columns])
        results = tf.TensorArray(tf.float32, len(starts), infer_shape=False, element_shape=[None])
        _, results = tf.while_loop(
            lambda i, _: i < len(starts),
            lambda i, found: (i + 1, found.write(i, fn(self._chunk(i * _COLUMNS)))),
            (0, results),
            parallel_iterations=1,
        )
        return tf.ensure_shape(results.concat(), [self._num_columns])

    def inner_products(self) -> tf.Tensor:
        """The inner products of the updates' differences from their mean, float64 [n, n].

        Distances and combinations with weights that add up to 1 do not depend on where the origin is, and near their
        mean the products lose the fewest digits.
        """

        def add(i, products):
            chunk = tf.cast(self._chunk(i * _COLUMNS), tf.float64)
            chunk -= tf.reduce_mean(chunk, 0)
            return i + 1, products + tf.matmul(chunk, chunk, transpose_b=True)

        chunks = -(-self._num_columns // _COLUMNS)
        zero = tf.zeros([self.num_clients, self.num_clients], tf.float64)
        return tf.while_loop(lambda i, _: i < chunks, add, (0, zero), parallel_iterations=1)[1]

    def squared_distances(self) -> tf.Tensor:
        """Between each two updates, float64 [n, n], symmetric to the bit: ties are ties."""
        products = self.inner_products()
        products = 0.5 * (products + tf.transpose(products))
        squares = tf.linalg.diag_part(products)
        return tf.maximum(squares[:, None] + squares[None, :] - 2.0 * products, 0.0)

    def mean_of(self, selected: tf.Tensor) -> tf.Tensor:
        """The mean of some updates, float32 [d]; int32 [m] says which."""
        return self.map_columns(lambda chunk: tf.reduce_mean(tf.gather(chunk, selected), 0))

    def _chunk(self, start):
        stop = tf.minimum(start + _COLUMNS, self._num_columns)
        return tf.concat([block[:, start:stop] for block in reversed(self._blocks)], 0)


# Updates -> the aggregate, float32 [d], and figures to report.
Rule = Callable[[Updates], tuple[tf.Tensor, collections.OrderedDict]]


class GatheringFactory(tff.aggregators.WeightedAggregationFactory):
    """Aggregates with a rule that looks at all updates of a round at once.

    The server sees every single update: so this cannot be secure aggregation, which shows it sums alone, and it cannot
    be made differentially private by noise, as what one client changes in the result has no small bound.

    Clients of weight 0, and those whose update is not finite, are left out. If none is left the aggregate is 0.

    Process: `create(value_type, weight_type)` takes a structure of float tensors and a float scalar; `next` is
    (<state=<>@SERVER, value={V}@CLIENTS, weight={W}@CLIENTS> -> <state, result=V@SERVER, measurements>). Measurements
    are the rule's, and `clients`, how many were not left out.

    Args:
      rule: A function from `Updates` to (float32 [d], OrderedDict of scalars).
      max_clients: Rounds with more fail, before the memory does.
    """

    def __init__(self, rule: Rule, max_clients: int = MAX_CLIENTS):
        if max_clients < 1:
            raise ValueError(f"max_clients={max_clients}: must be at least 1.")
        self._rule, self._max_clients = rule, max_clients

    def create(self, value_type, weight_type):
        matrix = _Matrix(structure_of(value_type), self._max_clients, self._rule)
        return build_one_pass(
            value_type, weight_type, _contribution, matrix.zero, matrix.append, matrix.merge, matrix.report
        )


def _contribution(value, weight):
    return collections.OrderedDict(value=value, weight=weight)


class _Matrix:
    """The accumulator: blocks of rows, the smallest first, and the weights in the order of the rows."""

    def __init__(self, specs, max_clients, rule):
        self._specs, self._max_clients, self._rule = specs, max_clients, rule
        self._num_columns = sum(spec.shape.num_elements() for spec in tf.nest.flatten(specs))
        self._num_blocks = max_clients.bit_length()

    def zero(self):
        return self._of(tf.zeros([0, self._num_columns]), tf.zeros([0]))

    def append(self, accumulator, contribution):
        leaves = tf.nest.flatten(contribution["value"])
        row = tf.concat([tf.cast(tf.reshape(leaf, [-1]), tf.float32) for leaf in leaves], 0)[None]
        weight = tf.cast(contribution["weight"], tf.float32)
        counts = tf.reduce_all(tf.math.is_finite(row)) & tf.math.is_finite(weight) & (weight > 0.0)
        blocks, weights = list(accumulator["blocks"]), accumulator["weights"]
        return tf.cond(counts, lambda: self._push(blocks, weights, row, weight), lambda: self._state(blocks, weights))

    def _push(self, blocks, weights, row, weight):
        num_rows = tf.size(weights)
        full = 2 ** np.arange(1, self._num_blocks, dtype=np.int32) - 1  # 1, 3, 7: the lowest blocks are full
        first_empty = tf.math.count_nonzero(tf.equal(tf.bitwise.bitwise_and(num_rows, full), full), dtype=tf.int32)

        def into(block):
            def push():
                whole = tf.concat([*reversed(blocks[:block]), row], 0)
                return [row[:0]] * block + [whole] + blocks[block + 1 :]

            return push

        with self._checked(num_rows + 1):
            blocks = tf.switch_case(first_empty, [into(block) for block in range(self._num_blocks)])
        return self._state(list(blocks), tf.concat([weights, weight[None]], 0))

    def merge(self, a, b):
        rows = [block for part in (a, b) for block in reversed(list(part["blocks"]))]
        weights = tf.concat([a["weights"], b["weights"]], 0)
        with self._checked(tf.size(weights)):
            rows = tf.concat(rows, 0)
        return self._of(rows, weights)

    def _checked(self, num_rows):
        """A context whose operations fail if there are too many rows."""
        message = f"more than the {self._max_clients} clients whose updates are held at once: raise max_clients."
        return tf.control_dependencies([tf.debugging.Assert(num_rows <= self._max_clients, [message])])

    def _of(self, rows, weights):
        """Rows parted by the bits of their number."""
        num_rows, blocks, start = tf.size(weights), [], 0
        for block in reversed(range(self._num_blocks)):
            stop = start + tf.bitwise.bitwise_and(num_rows, 1 << block)
            blocks.append(rows[start:stop])
            start = stop
        return self._state(blocks[::-1], weights)

    def _state(self, blocks, weights):
        # An unknown number of rows, also where it is known while tracing: the types must be the same.
        blocks = [tf.compat.v1.placeholder_with_default(b, [None, self._num_columns]) for b in blocks]
        return collections.OrderedDict(blocks=blocks, weights=tf.compat.v1.placeholder_with_default(weights, [None]))

    def report(self, accumulator):
        blocks, weights = list(accumulator["blocks"]), accumulator["weights"]
        num_rows = tf.size(weights)
        # Of no client every rule makes what it makes of one whose update is 0.
        none = tf.cast(tf.equal(num_rows, 0), tf.int32)
        blocks[0] = tf.concat([blocks[0], tf.zeros([none, self._num_columns])], 0)
        result, measurements = self._rule(Updates(blocks, tf.concat([weights, tf.ones([none])], 0)))
        measurements["clients"] = num_rows
        return collections.OrderedDict(result=_unflattened(result, self._specs), measurements=measurements)


def robust_aggregator(build: Callable[[AggregationConfig, int], GatheringFactory], **record: Any) -> Aggregator:
    """The record of a robust rule, from settings and `max_clients` to its factory."""

    def build_for(settings, cohort):
        # Cohorts of random size are hardly ever twice as large.
        return build(settings, max(MAX_CLIENTS, 2 * cohort.clients_per_round))

    return Aggregator(build_for, needs_all_updates=True, **{"breakdown": 0.5, **record})


def _unflattened(vector, specs):
    leaves = tf.nest.flatten(specs)
    parts = tf.split(vector, [leaf.shape.num_elements() for leaf in leaves])
    parts = [tf.cast(tf.reshape(part, leaf.shape), leaf.dtype) for part, leaf in zip(parts, leaves)]
    return tf.nest.pack_sequence_as(specs, parts)


def assumed_attackers(num_clients: tf.Tensor, share: float, at_most: tf.Tensor) -> tf.Tensor:
    """Number of attackers that a rule assumes among n clients, int32: floor(share n), at most what is guaranteed."""
    # 0.29 * 100 is less than 29 in floating point.
    wanted = tf.cast(tf.floor(share * tf.cast(num_clients, tf.float64) + 1e-9), tf.int32)
    return tf.clip_by_value(wanted, 0, tf.maximum(at_most, 0))


def check_share(share: float, below: float) -> None:
    """Raises a ValueError if a share of attackers is not in [0, below)."""
    if not 0 <= share < below:
        raise ValueError(f"attacker_share={share}: must be at least 0 and less than {below}.")
