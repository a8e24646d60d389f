"""Noise where the server uses the sum of updates: DP-FTRL and BandMF as server optimizers."""

from __future__ import annotations

import collections
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.aggregators.dp.noise import NoiseFn


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
