"""Example-level differential privacy of the rows that a party trains on: DP-SGD on its weights, and the accounting."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable

import tensorflow as tf

from tff_tx.algorithms.client.noise import GaussianNoise, add_noise, clip_factors, squared_norms, weighted_sum
from tff_tx.config.vertical import VerticalConfig
from tff_tx.models import vectorized_map
from tff_tx.privacy import accounting

_WEIGHT_NOISE = -1


@dataclasses.dataclass(frozen=True)
class PrivateSteps(GaussianNoise):
    """Clips the gradient of each row in all weights of a party together, and adds noise to their sum.

    Rows are computed one by one, so that none influences what is sent of another in the same batch, as by batch
    normalization. What is sent of a row is noised by itself; what later messages tell of it they tell by the weights,
    which have noise from here.
    """

    @classmethod
    def of(cls, settings: VerticalConfig) -> PrivateSteps | None:
        """The settings' own; None: weights are trained without clipping and noise."""
        return None if settings.weight_clip is None else cls(settings.weight_clip, settings.weight_noise)

    def mean(self, gradients: tuple, weights: tuple, key: tf.Tensor) -> tuple:
        """The noised mean over a batch of gradients [batch, ...] in weights; `key`, int64 [2], decides the noise."""
        squared = squared_norms(gradients)
        rows = tf.cast(tf.size(squared), tf.float32)
        factors = clip_factors(squared, self.clip)
        total = tuple(weighted_sum(gradient, factors, weight) for gradient, weight in zip(gradients, weights))
        return tuple(tf.convert_to_tensor(g) / rows for g in add_noise(total, self.stddev, key, _WEIGHT_NOISE))


def for_each_row(function: Callable[[Any, tf.Tensor], Any], batch: Any, seed: tf.Tensor) -> Any:
    """Results, stacked, of (batch of one row, seed) -> a structure without the batch's dimension."""

    def of_row(row, seed):
        return function(tf.nest.map_structure(lambda value: value[tf.newaxis], row), seed)

    return vectorized_map(of_row, batch, seed)


def gradients_of(tape: tf.GradientTape, loss: tf.Tensor, weights: tuple) -> tuple:
    """Gradients as `PrivateSteps.mean` takes them, of an embedding table (values, indices)."""
    found = tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return tuple((g.values, g.indices) if isinstance(g, tf.IndexedSlices) else g for g in found)


def epsilons(settings: VerticalConfig, epochs: int, receivers: int, rows: int) -> dict[str, float]:
    """Epsilon of a row after so many epochs, by what is protected; nothing where there is no guarantee.

    A row is in one batch of each epoch, and who receives it knows in which, so that sampling amplifies nothing. Each
    time two Gaussian mechanisms see it, with a sensitivity of two clips (any other row in its place): what is sent of
    it, and the step of its party's weights. Each may depend on all that was released before; as the composition of
    Gaussian mechanisms is one of the sum of their squared ratios of sensitivity and noise (Dong et al. 2019, "Gaussian
    differential privacy", https://arxiv.org/abs/1905.02383, corollary 3.3), whatever the gradients that come.

    Args:
      settings: Of the federation.
      epochs: Passes over the rows.
      receivers: Parties that get gradients, who may put them together.
      rows: Number of rows, which decides delta.

    Returns:
      "epsilon_features": what a feature party knows of a row, against all others; "epsilon_label_party": what the party
      with the labels knows of it, with its label, against all others.
    """
    if not settings.weight_noise:
        return {}
    sent = {"epsilon_features": (1, settings.cut_noise)}
    if settings.gradient_defence == "noise":
        sent["epsilon_label_party"] = receivers, settings.gradient_noise
    delta, found = accounting.default_delta(rows, "example"), {}
    for name, (times, noise) in sent.items():
        if noise:
            rho = epochs * (2.0 * times / noise**2 + 2.0 / settings.weight_noise**2)
            found[name] = accounting.gaussian_epsilon(rho, delta)
    return found
