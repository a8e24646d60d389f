"""Objective of extractive question answering: where the answer starts and where it ends."""

from __future__ import annotations

import collections

import tensorflow as tf

from tff_tx.models.objectives.metric import COUNTS, LOSS, Metric
from tff_tx.models.objectives.objective import IGNORED, Objective, per_item

_IMPOSSIBLE = -1e9
"""The logit of a position that cannot be chosen; finite, so that 0 times its logarithm is 0."""


def question_answering(max_answer_length: int = 30) -> Objective:
    """The mean of two cross-entropies, of the answer's first and of its last token (Devlin et al. 2019, section 4.2).

    Predictions are float32 [batch, length, 2], the logits of starting and of ending at each token. Labels are int32
    [batch, length, 2]: 1 where the answer starts (ends), 0 where else it might, `IGNORED` where it cannot, in the
    question and the padding. As in equation P_i = exp(S T_i) / sum_j exp(S T_j) the sum is over the tokens of the text
    alone; with them is [CLS], at which the answer of a question without one starts and ends (section 4.3).

    Metrics are `exact_match`, the share of examples whose most likely span (`best_spans`) is the answer, and `f1`, the
    mean over examples of the harmonic mean of precision and recall of its tokens, both by tokens and by windows of the
    context; for those by words see `tff_tx.inference.texts`.

    Args:
      max_answer_length: Tokens of an answer at most.
    """

    def loss(output, label, sample_weight=None):
        del sample_weight
        true = tf.cast(tf.equal(label, 1), tf.float32)
        logits = tf.where(tf.equal(label, IGNORED), _IMPOSSIBLE, tf.cast(output, tf.float32))
        log_probabilities = tf.nn.log_softmax(logits, axis=1)
        return -tf.math.divide_no_nan(tf.reduce_sum(true * log_probabilities), tf.reduce_sum(true))

    def sums(predictions, labels, loss):
        true = tf.equal(labels, 1)
        answered = tf.reduce_any(true, axis=[1, 2])
        start, end, _ = best_spans(predictions, tf.not_equal(labels, IGNORED), max_answer_length)
        true_start, true_end = tf.unstack(tf.argmax(tf.cast(true, tf.int32), axis=1, output_type=tf.int32), axis=-1)
        exact = tf.equal(start, true_start) & tf.equal(end, true_end)
        common = tf.maximum(tf.minimum(end, true_end) - tf.maximum(start, true_start) + 1, 0)
        f1 = 2 * common / (end - start + true_end - true_start + 2)
        items = tf.math.count_nonzero(answered)
        return collections.OrderedDict(
            loss=loss * tf.cast(items, tf.float32),
            exact=tf.math.count_nonzero(exact & answered),
            f1=tf.reduce_sum(tf.where(answered, tf.cast(f1, tf.float32), 0.0)),
            items=items,
            examples=tf.shape(labels, tf.int64)[0],
        )

    def finalize(sums):
        return per_item(sums, exact_match=sums["exact"], f1=sums["f1"])

    return Objective(
        "question_answering",
        tf.TensorSpec([None, None, 2], tf.int32),
        loss,
        sums,
        finalize,
        metrics=(LOSS, Metric("exact_match", "Exact match"), Metric("f1", "F1"), *COUNTS),
        new_head=True,
        not_classes="probabilities of places in a text",
        output_spec=tf.TensorSpec([None, None, 2], tf.float32),
    )


def best_spans(logits: tf.Tensor, allowed: tf.Tensor, max_answer_length: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The span of each row, with its end at its start or behind, of the largest sum of logits of start and end.

    Args:
      logits: Floating [batch, length, 2].
      allowed: bool [batch, length, 2], where a span may start (end). None goes over a position at which none may start.
      max_answer_length: Tokens of a span at most.

    Returns:
      First and last token, int32 [batch], and the sum of their logits, float32 [batch]. Without anything allowed they
      are 0, 0 and less than -1e8.
    """
    logits = tf.where(allowed, tf.cast(logits, tf.float32), _IMPOSSIBLE)
    length = tf.shape(logits)[1]
    gaps = tf.cumsum(tf.cast(~allowed[..., 0], tf.int32), axis=1)
    position = tf.range(length)
    ahead = position[tf.newaxis, :] - position[:, tf.newaxis]
    fits = (ahead >= 0) & (ahead < max_answer_length) & tf.equal(gaps[:, :, tf.newaxis], gaps[:, tf.newaxis, :])
    scores = logits[:, :, tf.newaxis, 0] + logits[:, tf.newaxis, :, 1]
    flat = tf.reshape(tf.where(fits, scores, 2 * _IMPOSSIBLE), [tf.shape(logits)[0], length * length])
    best = tf.argmax(flat, axis=1, output_type=tf.int32)
    return best // length, best % length, tf.reduce_max(flat, axis=1)
