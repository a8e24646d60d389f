"""Marvell: the noise on gradients that hides two classes from each other best, for its power."""

from __future__ import annotations

import tensorflow as tf

from tff_tx.vertical.label_party import Defend

_SHARES = 65
_SPLITS = 513
_LEAST_VARIANCE = 1e-9


def marvell(power: float) -> Defend:
    """Noise whose covariance, by class, minimizes what the two classes' gradients tell them apart by.

    Li et al. 2021, "Label leakage and protection in two-party split learning", https://arxiv.org/abs/2102.08504,
    section 4.2. With D the difference of the classes' mean gradients, and u and v the variances of a coordinate in
    class 0 and 1, both taken to be isotropic Gaussians, class i gets noise of variance l_i along D and m_i across it.
    They minimize the sum of both Kullback-Leibler divergences (`sum_of_divergences`) under
    p tr(S_1) + (1 - p) tr(S_0) <= power |D|^2 (theorem 2). No attacker's AUC on such a batch is then above
    1/2 + sqrt(divergence) / 2 - divergence / 8 (theorem 1). A batch of one class is sent as it is.

    Args:
      power: s, in units of |D|^2: the smaller it is, the smaller are noise and protection.
    """

    def defend(gradients, labels, key):
        shape = tf.shape(gradients)
        flat = tf.reshape(gradients, [shape[0], -1])
        rare = tf.cast(labels == 1, tf.float32)[:, tf.newaxis]
        share = tf.reduce_mean(rare)
        means = [_mean(flat, of) for of in (1.0 - rare, rare)]
        difference = means[1] - means[0]
        size = tf.cast(tf.shape(flat)[1], tf.float32)
        variances = [
            tf.reduce_sum(_mean(tf.square(flat - mean), of)) / size for mean, of in zip(means, (1.0 - rare, rare))
        ]
        squared = tf.reduce_sum(tf.square(difference))
        along, across = allocate(*variances, squared, share, size, power * squared)
        draws = tf.random.stateless_normal(tf.shape(flat), key, alg="philox")
        direction = tf.math.divide_no_nan(difference, tf.sqrt(squared))
        inner = tf.linalg.matvec(draws, direction)[:, tf.newaxis] * direction
        deviation = [tf.sqrt(tf.gather(values, labels))[:, tf.newaxis] for values in (along, across)]
        noised = flat + deviation[0] * inner + deviation[1] * (draws - inner)
        return tf.where((share > 0.0) & (share < 1.0), tf.reshape(noised, shape), gradients)

    return defend


def allocate(
    u: tf.Tensor, v: tf.Tensor, squared: tf.Tensor, share: tf.Tensor, size: tf.Tensor, budget: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The variances of theorem 2, by a grid over the two that its constraints leave free.

    Across D, noise can but equal the classes' variances, so the class with the larger one gets none. What is not spent
    there is spent along D, all of it.

    Args:
      u: Variance of a coordinate in class 0; all are float32 scalars.
      v: That in class 1.
      squared: |D|^2.
      share: p, of class 1 in the batch.
      size: Number of coordinates.
      budget: Expected squared norm of a row's noise.

    Returns:
      Variances along D and across it, float32 [2] each, of class 0 and class 1.
    """
    least = _LEAST_VARIANCE * squared + 1e-30
    u, v = tf.maximum(u, least), tf.maximum(v, least)
    weights = tf.maximum(tf.stack([1.0 - share, share]), 1e-9)
    needs = tf.stack([tf.maximum(v - u, 0.0), tf.maximum(u - v, 0.0)])
    affordable = budget / (weights * tf.maximum(size - 1.0, 1.0))
    across = tf.linspace(0.0, 1.0, _SHARES)[:, None, None] * tf.minimum(needs, affordable)
    left = tf.maximum(budget - (size - 1.0) * tf.reduce_sum(weights * across, axis=-1), 0.0)
    split = tf.linspace(0.0, 1.0, _SPLITS)
    along = left[..., None] * tf.stack([1.0 - split, split], axis=-1) / weights
    across = tf.broadcast_to(across, tf.shape(along))
    cost = sum_of_divergences(u, v, squared, size, along, across)
    allowed = tf.reduce_all(along >= across, axis=-1)
    best = tf.argmin(tf.reshape(tf.where(allowed, cost, cost.dtype.max), [-1]))
    return tf.reshape(along, [-1, 2])[best], tf.reshape(across, [-1, 2])[best]


def sum_of_divergences(u, v, squared, size, along, across) -> tf.Tensor:
    """KL(P_1 | P_0) + KL(P_0 | P_1) of the noised classes; arguments and `[..., 2]` variances as of `allocate`."""
    a, b = along + tf.stack([u, v]), across + tf.stack([u, v])
    ratios = (size - 1.0) * (b[..., 0] / b[..., 1] + b[..., 1] / b[..., 0])
    apart = (a[..., 0] + squared) / a[..., 1] + (a[..., 1] + squared) / a[..., 0]
    return (ratios + apart) / 2.0 - size


def _mean(flat, of):
    return tf.math.divide_no_nan(tf.reduce_sum(flat * of, axis=0), tf.reduce_sum(of))
