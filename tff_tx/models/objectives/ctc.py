"""Objective of speech recognition by connectionist temporal classification (CTC)."""

from __future__ import annotations

import collections
import contextlib
import logging

import tensorflow as tf

from tff_tx.models.objectives.metric import COUNTS, LOSS, Metric
from tff_tx.models.objectives.objective import IGNORED, Objective, per_item

_METRICS = (LOSS, Metric("token_error_rate", "Token error rate", higher_is_better=False), *COUNTS)


def ctc(blank: int) -> Objective:
    """-ln p(transcript | recording) over all alignments, in nats a token of the transcript.

    Graves et al. 2006, "Connectionist temporal classification", https://www.cs.toronto.edu/~graves/icml_2006.pdf,
    equation 12. Predictions are float32 [batch, frames, tokens]; labels int32 [batch, 1 + longest]: how many of the
    frames are the recording's, which must suffice for the transcript, then its tokens, `IGNORED` behind them. The
    metric `token_error_rate` is the edit distance of the best path (section 3.2) over the tokens of the transcripts.

    Args:
      blank: The token for none.
    """

    def loss(output, label, sample_weight=None):
        del sample_weight
        frames, tokens, lengths = _parts(label)
        with _without_notes():
            losses = tf.compat.v1.nn.ctc_loss_v2(
                tf.maximum(tokens, 0), tf.cast(output, tf.float32), lengths, frames, False, blank_index=blank
            )
        losses = tf.where(lengths > 0, losses, 0.0)
        return tf.math.divide_no_nan(tf.reduce_sum(losses), tf.cast(tf.reduce_sum(lengths), tf.float32))

    def sums(predictions, labels, loss):
        frames, tokens, lengths = _parts(labels)
        best = tf.argmax(predictions, -1, tf.int32)
        said = tf.ragged.boolean_mask(best, spoken(best, frames, blank)).to_sparse()
        true = tf.ragged.boolean_mask(tokens, tf.not_equal(tokens, IGNORED)).to_sparse()
        errors = tf.edit_distance(tf.cast(said, tf.int64), tf.cast(true, tf.int64), normalize=False)
        items = tf.cast(tf.reduce_sum(lengths), tf.int64)
        return collections.OrderedDict(
            loss=loss * tf.cast(items, tf.float32),
            errors=tf.cast(tf.reduce_sum(errors), tf.int64),
            items=items,
            examples=tf.shape(labels, tf.int64)[0],
        )

    def finalize(sums):
        return per_item(sums, token_error_rate=sums["errors"])

    return Objective(
        "speech_recognition",
        tf.TensorSpec([None, None], tf.int32),
        loss,
        sums,
        finalize,
        _METRICS,
        output_spec=tf.TensorSpec([None, None, None], tf.float32),
        new_head=True,
        not_classes="of frames, without one class each",
    )


def spoken(best: tf.Tensor, frames: tf.Tensor, blank: int) -> tf.Tensor:
    """The frames in which the best path says a token, bool as `best`: no repetition, no blank, within the recording.

    Args:
      best: int32 [batch, frames], the likeliest token of each.
      frames: int32 [batch], how many are the recording's.
      blank: The token for none.
    """
    before = tf.pad(best[:, :-1], [[0, 0], [1, 0]], constant_values=blank)
    inside = tf.sequence_mask(frames, tf.shape(best)[1])
    return tf.not_equal(best, before) & tf.not_equal(best, blank) & inside


@contextlib.contextmanager
def _without_notes():
    """Keeps TensorFlow from warning of the deprecated ops that its own loss is made of."""
    logger = tf.get_logger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _parts(label):
    """Frames [batch], tokens [batch, longest] and how many there are [batch]; nothing of what only fills a batch."""
    tokens = label[:, 1:]
    lengths = tf.math.count_nonzero(tf.not_equal(tokens, IGNORED), axis=1, dtype=tf.int32)
    return tf.maximum(label[:, 0], 0), tokens, lengths
