"""Noise for sums that are released one after another: independent, along a tree, or with a banded factorization.

Each is a `tfp.tree_aggregation.ValueGenerator`: its state holds all that the next draw depends on, the seed included,
so that a run which is resumed draws on as it would have. Numbers come from a counter-based generator (Philox, Salmon et
al. 2011), so they do not depend on threads, and nobody predicts them without the seed. tensorflow-privacy's own
`GaussianNoiseGenerator` is not used: by default it takes the time of day as its seed, and a given seed s it counts up,
so that run s + 1 repeats run s with a shift. Its `GaussianSumQuery` cannot be seeded at all.
"""

from __future__ import annotations

import collections
import hashlib
import secrets
from typing import Any, Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from tff_tx.aggregators.aggregator import zeros_of

NoiseFn = Callable[[Any], tfp.tree_aggregation.ValueGenerator]
"""From the structure of `tf.TensorSpec` of a sum to the noise added to it, one draw a release."""

_tree = tfp.tree_aggregation


def noise_key(seed: int | None = None, purpose: str = "updates") -> np.ndarray:
    """The seed of a generator, int64 [2].

    Args:
      seed: For repeatable noise, which gives no protection against those who know it; None takes 128 bits of the
        operating system's randomness.
      purpose: With the same seed, each purpose has noise of its own.
    """
    if seed is None:
        entropy = secrets.token_bytes(16)
    else:
        entropy = hashlib.sha256(f"noise/{purpose}/{seed}".encode()).digest()[:16]
    return np.frombuffer(entropy, np.int64)


def independent_noise(stddev: float, key: np.ndarray) -> NoiseFn:
    """Noise that is drawn anew for every release: the Gaussian mechanism.

    Args:
      stddev: Of each number of the noise, 0 or more.
      key: See `noise_key`.
    """
    return lambda specs: IndependentNoise(stddev, specs, key)


def tree_noise(stddev: float, key: np.ndarray, restart_every: int | None = None) -> NoiseFn:
    """Noise whose sum over releases grows with the logarithm of their number.

    Args:
      stddev: Of each number of a tree node's noise, 0 or more.
      key: See `noise_key`.
      restart_every: Releases after which a new tree begins; None: never.
    """
    return lambda specs: TreeNoise(IndependentNoise(stddev, specs, key), restart_every)


def banded_noise(strategy: np.ndarray, stddev: float, key: np.ndarray) -> NoiseFn:
    """Noise C^-1 Z for a banded lower-triangular C and independent Z.

    Args:
      strategy: C by its bands, [releases, bands]: strategy[t, j] = C[t, t - j]; what lies outside of C is not used.
      stddev: Of each number of Z, 0 or more.
      key: See `noise_key`.
    """
    return lambda specs: BandedNoise(strategy, IndependentNoise(stddev, specs, key))


class IndependentNoise(_tree.ValueGenerator):
    """Independent normal noise of a structure of `tf.TensorSpec`."""

    _State = collections.namedtuple("_State", ["key", "draw", "stddev"])

    def __init__(self, stddev: float, specs: Any, key: np.ndarray):
        self._stddev, self.specs, self._key = stddev, specs, key

    def initialize(self):
        stddev = tf.constant(self._stddev, tf.float32)
        return self._State(tf.constant(self._key, tf.int64), tf.constant(0, tf.int64), stddev)

    def next(self, state):
        draw_key = tf.random.experimental.stateless_fold_in(state.key, state.draw)

        def draw(i, leaf):
            key = tf.random.experimental.stateless_fold_in(draw_key, tf.constant(i, tf.int64))
            return tf.random.stateless_normal(leaf.shape, key, 0.0, tf.cast(state.stddev, leaf.dtype), leaf.dtype)

        noise = [draw(i, leaf) for i, leaf in enumerate(tf.nest.flatten(self.specs))]
        return tf.nest.pack_sequence_as(self.specs, noise), state._replace(draw=state.draw + 1)


class TreeNoise(_tree.ValueGenerator):
    """Increments, by release, of the tree-aggregated noise of a running sum.

    Kairouz et al. 2021, https://arxiv.org/abs/2103.00039, with the variance reduction of Honaker 2015
    (`tfp.tree_aggregation.EfficientTreeAggregator`). With restarts (DP-FTRL-TreeRestart) the noise of earlier trees
    stays in the running sum, and the new tree's is added.
    """

    _State = collections.namedtuple("_State", ["tree", "previous", "releases"])

    def __init__(self, nodes: IndependentNoise, restart_every: int | None = None):
        self._aggregator = _tree.EfficientTreeAggregator(nodes)
        self._specs, self._restart_every = nodes.specs, restart_every

    def initialize(self):
        return self._State(self._aggregator.init_state(), zeros_of(self._specs), tf.constant(0, tf.int32))

    def next(self, state):
        total, tree = self._aggregator.get_cumsum_and_update(state.tree)
        noise = tf.nest.map_structure(tf.subtract, total, state.previous)
        releases = state.releases + 1
        if self._restart_every is None:
            return noise, self._State(tree, total, releases)
        tree, previous = tf.cond(
            tf.equal(releases % self._restart_every, 0),
            lambda: (self._aggregator.reset_state(tree), zeros_of(self._specs)),
            lambda: (tree, total),
        )
        return noise, self._State(tree, previous, releases)


class BandedNoise(_tree.ValueGenerator):
    """Rows of C^-1 Z, one a release, for a lower-triangular C with b bands.

    BandMF, Choquette-Choo et al. 2023, https://arxiv.org/abs/2306.08153: row t of W = C^-1 Z is
    (Z_t - sum_{j=1}^{b-1} C[t, t-j] W_{t-j}) / C[t, t], so that b - 1 earlier rows are all it takes. They are part of
    the state: as many copies of the model.

    Raises:
      ValueError: If the strategy has a diagonal that is not above 0, or is not a matrix.
    """

    _State = collections.namedtuple("_State", ["independent", "release", "past"])

    def __init__(self, strategy: np.ndarray, independent: IndependentNoise):
        strategy = np.asarray(strategy, np.float32)
        if strategy.ndim != 2 or not np.all(strategy[:, 0] > 0):
            raise ValueError("a strategy is a matrix [releases, bands] whose first column, C's diagonal, is above 0.")
        self._strategy, self._independent = strategy, independent

    def initialize(self):
        def no_past(spec):
            return tf.zeros([self._strategy.shape[1] - 1, *spec.shape], spec.dtype)

        past = tf.nest.map_structure(no_past, self._independent.specs)
        return self._State(self._independent.initialize(), tf.constant(0, tf.int32), past)

    def next(self, state):
        fresh, independent = self._independent.next(state.independent)
        # Fails after the last release that the strategy is for.
        row = tf.gather(tf.constant(self._strategy), state.release)

        def correlated(z, past):
            return (z - tf.tensordot(row[1:], past, 1)) / row[0]

        noise = tf.nest.map_structure(correlated, fresh, state.past)
        past = tf.nest.map_structure(lambda w, past: tf.concat([w[None], past], 0)[:-1], noise, state.past)
        return noise, self._State(independent, state.release + 1, past)


class NoisedOptimizer(tff.learning.optimizers.Optimizer):
    """Adds noise to gradients before another optimizer takes its step.

    For a server whose aggregator clips and adds no noise, as `fixed_clip_aggregator` without any. With `tree_noise` and
    SGD, w_t = w_0 - rate * (g_1 + ... + g_t + the tree's noise), which is DP-FTRL (Kairouz et al. 2021,
    https://arxiv.org/abs/2103.00039, Algorithm 1 without a regularizer but the distance to w_0), with momentum
    DP-FTRLM (their section 3.3); with `banded_noise` it is the matrix mechanism of Choquette-Choo et al. 2023,
    https://arxiv.org/abs/2306.08153.

    Args:
      optimizer: Takes the step.
      noise_fn: The noise of a sum of clipped updates.
      denominator: By which the aggregator has divided the sum, and so the noise is divided.
    """

    def __init__(self, optimizer: tff.learning.optimizers.Optimizer, noise_fn: NoiseFn, denominator: float):
        self._optimizer, self._noise_fn, self._denominator = optimizer, noise_fn, denominator

    def initialize(self, specs: Any) -> collections.OrderedDict:
        return collections.OrderedDict(
            optimizer=self._optimizer.initialize(specs), noise=self._noise_fn(specs).initialize()
        )

    def next(self, state: Any, weights: Any, gradients: Any) -> tuple[Any, Any]:
        specs = tf.nest.map_structure(tf.TensorSpec.from_tensor, weights)
        noise, noise_state = self._noise_fn(specs).next(state["noise"])
        noised = tf.nest.map_structure(lambda g, z: g + z / tf.cast(self._denominator, z.dtype), gradients, noise)
        inner, weights = self._optimizer.next(state["optimizer"], weights, noised)
        return collections.OrderedDict(optimizer=inner, noise=noise_state), weights

    def get_hparams(self, state: Any) -> Any:
        return self._optimizer.get_hparams(state["optimizer"])

    def set_hparams(self, state: Any, hparams: Any) -> Any:
        inner = self._optimizer.set_hparams(state["optimizer"], hparams)
        return collections.OrderedDict(optimizer=inner, noise=state["noise"])
