"""Objective of regression: the squared error of one number an example."""

from __future__ import annotations

import collections

import numpy as np
import pandas as pd
import tensorflow as tf

from tff_tx.models.objectives.metric import COUNTS, LOSS, Metric
from tff_tx.models.objectives.objective import Objective

_ROUNDING = 1e-12
"""Share of a mean square below which a variance is that of rounding."""

_METRICS = (
    Metric("mae", "Mean absolute error", higher_is_better=False),
    Metric("rmse", "Root mean squared error", higher_is_better=False, plotted=False),
    Metric("pearson", "Pearson correlation"),
)


def regression(name: str) -> Objective:
    """Mean squared error, in the label's own unit squared.

    Predictions are float32 [batch, 1], labels float32 [batch]. The metrics are over the pooled data: mean absolute and
    root mean squared error, and Pearson's correlation, 0 where predictions or labels are all the same. Spearman's, that
    of ranks, is no sum over examples: only evaluations that see all of them have it.
    """

    def loss(output, label, sample_weight=None):
        del sample_weight
        return tf.reduce_mean(tf.square(output[:, 0] - label))

    def sums(predictions, labels, loss):
        del loss
        found, number = predictions[:, 0], tf.shape(labels, tf.int64)[0]
        terms = {"absolute": tf.abs(found - labels), "squared": tf.square(found - labels), "x": found, "y": labels}
        terms |= {"xx": tf.square(found), "yy": tf.square(labels), "xy": found * labels}
        # In double precision, as correlations are differences of large sums.
        more = {name: tf.reduce_sum(tf.cast(values, tf.float64)) for name, values in terms.items()}
        return collections.OrderedDict(items=number, examples=number, **more)

    def deviation(squares, mean):
        variance = squares - mean**2
        return tf.sqrt(tf.where(variance > _ROUNDING * squares, variance, 0.0))

    def finalize(sums):
        number = tf.cast(sums["examples"], tf.float64)
        mean = {name: tf.math.divide_no_nan(value, number) for name, value in sums.items() if value.dtype == tf.float64}
        covariance = mean["xy"] - mean["x"] * mean["y"]
        x, y = (deviation(mean[2 * name], mean[name]) for name in "xy")
        found = {"loss": mean["squared"], "mae": mean["absolute"], "rmse": tf.sqrt(mean["squared"])}
        found["pearson"] = tf.clip_by_value(tf.math.divide_no_nan(covariance, x * y), -1.0, 1.0)
        metrics = collections.OrderedDict((name, tf.cast(value, tf.float32)) for name, value in found.items())
        metrics["num_examples"], metrics["num_items"] = sums["examples"], sums["items"]
        return metrics

    def spearman(predictions, labels):
        ranks = (pd.Series(values).rank() for values in (predictions[:, 0], labels))
        with np.errstate(invalid="ignore"):
            found = next(ranks).corr(next(ranks))
        return {"spearman": 0.0 if np.isnan(found) else float(found)}

    label, output = tf.TensorSpec([None]), tf.TensorSpec([None, 1])
    metrics, more = (LOSS, *_METRICS, *COUNTS), {"output_spec": output, "pooled_fn": spearman, "new_head": True}
    return Objective(name, label, loss, sums, finalize, metrics, **more)
