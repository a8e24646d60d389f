"""Training objectives: a loss, the metrics reported with it, and the spec of the labels.

Metrics are sums over examples or tokens, never means of batch means, so that adding them over
batches and clients and finishing once gives the figure over the pooled data, whatever the sizes of
batches and clients.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from typing import Any, Callable

import numpy as np
import tensorflow as tf

from tff_tx.models.objectives import classes
from tff_tx.models.objectives.entities import EntityCounter, entity_scheme
from tff_tx.models.objectives.metric import ACCURACY, COUNTS, LOSS, Metric
from tff_tx.models.objectives.pooled import pooled_metrics

IGNORED = -100
"""The label of a token that counts neither in loss nor in metrics, as in Hugging Face."""


@dataclasses.dataclass(frozen=True)
class Objective:
    """A training objective.

    Attributes:
      name: What it is for, in messages: as a rule a task of `tff_tx.tasks`.
      label_spec: `tf.TensorSpec` of a batch of labels: int32 [batch] for one label an example,
        [batch, length] for one a token (`IGNORED` where there is none).
      loss_fn: (predictions, labels, sample_weight=None) -> scalar float32, a mean over labelled items: of classes and
        tokens the cross-entropy in nats.
      sums_fn: (predictions, labels, loss) -> OrderedDict of scalar sums over the batch; `items` is how many the loss is
        the mean over.
      finalize_fn: sums -> OrderedDict of scalar metrics.
      metrics: What is known of these metrics.
      output_spec: `tf.TensorSpec` of a batch of predictions; None: that of logits, which have a dimension more than
        labels.
      pooled_fn: (predictions, labels) of all examples, as arrays -> metrics that are no sums over examples, by name.
      new_head: Whether checkpoints have no head for it as a rule, so that the head is trained beside adapters.
      not_classes: What predictions are where they are not logits of classes that depend on inputs alone, which
        distillation compares.
      choose: From the sums over validation data to fields of the model's configuration; None: they decide nothing.
    """

    name: str
    label_spec: tf.TensorSpec
    loss_fn: Callable[..., tf.Tensor]
    sums_fn: Callable[..., collections.OrderedDict]
    finalize_fn: Callable[..., collections.OrderedDict]
    metrics: tuple[Metric, ...] = (LOSS, *COUNTS)
    output_spec: tf.TensorSpec | None = None
    pooled_fn: Callable[[np.ndarray, np.ndarray], dict[str, float]] | None = None
    new_head: bool = False
    not_classes: str | None = None
    choose: Callable[[Any], dict[str, Any]] | None = None

    @property
    def metrics_fns(self):
        """The metrics_fns of a `FunctionalModel`: initialize, update, finalize."""

        @tf.function(autograph=False)
        def initialize():
            label = self.label_spec
            output = self.output_spec or tf.TensorSpec([*label.shape, None])
            specs = tf.function(self.sums_fn, autograph=False).get_concrete_function(output, label, tf.TensorSpec([]))
            return tf.nest.map_structure(lambda s: tf.zeros(s.shape, s.dtype), specs.structured_outputs)

        @tf.function(autograph=False)
        def update(state, labels, batch_output, sample_weight=None):
            del sample_weight
            sums = self.sums_fn(batch_output.predictions, labels, batch_output.loss)
            return tf.nest.map_structure(tf.add, state, sums)

        @tf.function(autograph=False)
        def finalize(state):
            return self.finalize_fn(state)

        return initialize, update, finalize


def classification(name: str = "sequence_classification", number: int | None = None) -> Objective:
    """One label an example: softmax cross-entropy and accuracy, and with the `number` of classes F1 and recall.

    Logits float32 [batch, classes], labels int32 [batch].
    """
    if number is not None:
        return dataclasses.replace(_of_classes(name, 1, number), pooled_fn=pooled_metrics)
    return _cross_entropy(name, label_rank=1, finalize_fn=_finalize, new_head=True)


def language_modeling(name: str) -> Objective:
    """One label a token (masked, next, or of a target), `IGNORED` elsewhere.

    Logits float32 [batch, length, vocabulary], labels int32 [batch, length]. Besides loss (nats a
    token) and accuracy reports perplexity, exp(loss), and loss in bits a token.
    """

    def finalize(sums):
        metrics = _finalize(sums)
        metrics["perplexity"] = tf.exp(metrics["loss"])
        metrics["bits_per_token"] = metrics["loss"] / math.log(2.0)
        return metrics

    more = (
        Metric("perplexity", "Perplexity", higher_is_better=False),
        Metric("bits_per_token", "Bits per token", higher_is_better=False),
    )
    return _cross_entropy(name, label_rank=2, finalize_fn=finalize, metrics=more)


def sequence_to_sequence(name: str = "sequence_to_sequence") -> Objective:
    """`language_modeling` of the tokens of targets, which the decoder reads one late."""
    inputs = "made with targets as inputs, and those of public data are not to be used"
    return dataclasses.replace(language_modeling(name), not_classes=inputs)


def token_classification(label_names) -> Objective:
    """One label a token: precision, recall and F1 of entities, or of tags that mark none F1 and recall over classes.

    Args:
      label_names: Names of the classes in order, such as ("O", "B-Disease", "I-Disease") or ("NOUN", "VERB").
    """
    if entity_scheme(label_names) is None:
        return _of_classes("token_classification", 2, len(label_names))
    count_entities = EntityCounter(label_names)
    # Of one type F1 is that of all.
    kinds = count_entities.kinds if len(count_entities.kinds) > 1 else ()

    def entity_sums(logits, labels):
        return count_entities.by_kind(labels, tf.argmax(logits, -1, tf.int32), tf.not_equal(labels, IGNORED))

    def finalize(sums):
        metrics = _finalize(sums)
        parts = [tf.cast(sums[f"entities_{name}"], tf.float32) for name in ("correct", "predicted", "true")]
        correct, predicted, true = map(tf.reduce_sum, parts)
        metrics["precision"] = tf.math.divide_no_nan(correct, predicted)
        metrics["recall"] = tf.math.divide_no_nan(correct, true)
        metrics["f1"] = tf.math.divide_no_nan(2.0 * correct, predicted + true)
        by_kind = tf.math.divide_no_nan(2.0 * parts[0], parts[1] + parts[2])
        metrics.update((f"f1_{kind}", by_kind[number]) for number, kind in enumerate(kinds))
        return metrics

    more = (Metric("precision", "Precision", plotted=False), Metric("recall", "Recall", plotted=False))
    by_kind = [Metric(f"f1_{kind}", f"F1 of {kind}", plotted=False) for kind in kinds]
    return _cross_entropy(
        "token_classification", 2, finalize, entity_sums, metrics=(*more, Metric("f1", "F1"), *by_kind), new_head=True
    )


def _of_classes(name, label_rank, number) -> Objective:
    def sums(logits, labels):
        return classes.class_sums(labels, tf.argmax(logits, -1, labels.dtype), tf.not_equal(labels, IGNORED), number)

    def finalize(sums):
        return collections.OrderedDict(**_finalize(sums), **classes.class_metrics(sums))

    return _cross_entropy(name, label_rank, finalize, sums, classes.METRICS, new_head=True)


def _cross_entropy(name, label_rank, finalize_fn, more_sums_fn=None, metrics=(), **fields) -> Objective:
    def loss(output, label, sample_weight=None):
        del sample_weight  # TFF passes None; examples are weighted by their number
        counted = tf.not_equal(label, IGNORED)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=tf.where(counted, label, 0), logits=tf.cast(output, tf.float32)
        )
        counted = tf.cast(counted, tf.float32)
        return tf.math.divide_no_nan(tf.reduce_sum(losses * counted), tf.reduce_sum(counted))

    def sums(logits, labels, loss):
        counted = tf.not_equal(labels, IGNORED)
        items = tf.math.count_nonzero(counted)
        correct = counted & tf.equal(tf.argmax(logits, -1, labels.dtype), labels)
        result = collections.OrderedDict(
            loss=loss * tf.cast(items, tf.float32),
            correct=tf.math.count_nonzero(correct),
            items=items,
            examples=tf.shape(labels, tf.int64)[0],
        )
        if more_sums_fn is not None:
            result.update(more_sums_fn(logits, labels))
        return result

    metrics = (LOSS, ACCURACY, *metrics, *COUNTS)
    return Objective(name, tf.TensorSpec([None] * label_rank, tf.int32), loss, sums, finalize_fn, metrics, **fields)


def _finalize(sums: Any) -> collections.OrderedDict:
    return per_item(sums, accuracy=sums["correct"])


def per_item(sums: Any, **totals: tf.Tensor) -> collections.OrderedDict:
    """The loss and further sums as means over labelled items, and what they are over."""
    items = tf.cast(sums["items"], tf.float32)
    means = {name: tf.cast(total, tf.float32) for name, total in {"loss": sums["loss"], **totals}.items()}
    return collections.OrderedDict(
        **{name: tf.math.divide_no_nan(total, items) for name, total in means.items()},
        num_examples=sums["examples"],
        num_items=sums["items"],
    )
