"""Clipping that holds whatever a client sends."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def clip_to_norm(record: Any, clip: Any) -> tuple[Any, tf.Tensor]:
    """Scales a record down to a global L2 norm, and one that is not finite down to nothing.

    `tf.clip_by_global_norm`, which tensorflow-privacy's queries use, makes every number of such a record not a number,
    and so the sum over all clients; and with an infinite clip, which must change nothing, those of any record.

    Args:
      record: A structure of float tensors.
      clip: The largest norm, scalar float32, above 0; may be infinite.

    Returns:
      The clipped record and its norm before, scalar float32, which is not finite where the record is not. A record
      whose squares exceed float32 counts as not finite.
    """
    squares = [tf.cast(2.0 * tf.nn.l2_loss(leaf), tf.float32) for leaf in tf.nest.flatten(record)]
    norm = tf.sqrt(tf.add_n(squares))
    scale = tf.where(tf.math.is_finite(norm), tf.minimum(1.0, clip / norm), 0.0)
    # One pass over the record; 0 times infinity is 0 here.
    return tf.nest.map_structure(lambda leaf: tf.math.multiply_no_nan(leaf, tf.cast(scale, leaf.dtype)), record), norm
