"""Objective of forecasting: the squared error, reported beside that of repeating the last value."""

from __future__ import annotations

import collections
import functools
from collections.abc import Sequence

import tensorflow as tf

from tff_tx.models.objectives.metric import COUNTS, LOSS, Metric
from tff_tx.models.objectives.objective import Objective


def forecasting(horizons: Sequence[int], standardized: bool = False) -> Objective:
    """Mean squared error over all steps, in the data's own unit squared, or in deviations of the series.

    Predictions are float32 [batch, steps], labels float32 [batch, 1 + steps]: the last value that was observed, and the
    values to come.

    For each horizon h the metrics are `mae_h` and `rmse_h`, the mean absolute and the root mean squared error over the
    steps from 1 to h, as the program of T-GCN has them (Zhao et al. 2019, https://arxiv.org/abs/1811.05320), and
    `last_value_mae_h`, `last_value_rmse_h`, the same for the forecast that everything stays as it was. `mae` and `rmse`
    are over all steps.

    Args:
      horizons: Numbers of steps; the largest is that of the predictions.
      standardized: Whether labels begin with the standard deviation of the series, float32 [batch, 1 + 1 + steps]. The
        loss, `mse` and `standardized_mae` are then of errors divided by it, as in Informer (Zhou et al. 2021).
    """
    horizons = sorted(set(horizons))

    def parts(label):
        # Deviation, last value, values to come.
        first = int(standardized)
        return label[:, :1] if standardized else 1.0, label[:, first : first + 1], label[:, first + 1 :]

    def loss(output, label, sample_weight=None):
        del sample_weight
        deviation, _, future = parts(label)
        return tf.reduce_mean(tf.square((output - future) / deviation))

    def sums(predictions, labels, loss):
        del loss  # of a batch of any size; the sums below have it too
        deviation, last, future = parts(labels)
        steps = tf.shape(future, tf.int64)
        result = collections.OrderedDict(items=steps[0] * steps[1], examples=steps[0])
        for name, errors in (("", predictions - future), ("last_value_", last - future)):
            for h in horizons:
                result[f"{name}absolute_{h}"] = tf.reduce_sum(tf.abs(errors[:, :h]))
                result[f"{name}squared_{h}"] = tf.reduce_sum(tf.square(errors[:, :h]))
        if standardized:
            errors = (predictions - future) / deviation
            result["absolute"] = tf.reduce_sum(tf.abs(errors))
            result["squared"] = tf.reduce_sum(tf.square(errors))
        return result

    finalize = functools.partial(_finalize, horizons, standardized)
    table = tf.TensorSpec([None, None], tf.float32)
    metrics = (
        LOSS,
        *(_STANDARDIZED if standardized else ()),
        *_errors("", "", plotted=True),
        *(m for h in horizons for m in _errors_at(h)),
        *COUNTS,
    )
    return Objective("forecasting", table, loss, sums, finalize, metrics, output_spec=table)


def _finalize(horizons, standardized, sums):
    examples, longest = tf.cast(sums["examples"], tf.float32), horizons[-1]
    squared = tf.math.divide_no_nan(sums[f"squared_{longest}"], examples * longest)
    metrics = collections.OrderedDict(loss=squared)
    if standardized:
        metrics["loss"] = metrics["mse"] = tf.math.divide_no_nan(sums["squared"], examples * longest)
        metrics["standardized_mae"] = tf.math.divide_no_nan(sums["absolute"], examples * longest)
    metrics["mae"] = tf.math.divide_no_nan(sums[f"absolute_{longest}"], examples * longest)
    metrics["rmse"] = tf.sqrt(squared)
    for h in horizons:
        for name in ("", "last_value_"):
            metrics[f"{name}mae_{h}"] = tf.math.divide_no_nan(sums[f"{name}absolute_{h}"], examples * h)
            squared_h = tf.math.divide_no_nan(sums[f"{name}squared_{h}"], examples * h)
            metrics[f"{name}rmse_{h}"] = tf.sqrt(squared_h)
    metrics["num_examples"], metrics["num_items"] = sums["examples"], sums["items"]
    return metrics


_STANDARDIZED = (
    Metric("mse", "Mean squared error, in squared deviations of the series", higher_is_better=False),
    Metric("standardized_mae", "Mean absolute error, in deviations of the series", higher_is_better=False),
)


def _errors_at(horizon: int) -> tuple[Metric, ...]:
    within = f", {horizon} steps ahead"
    return (
        *_errors("", f"_{horizon}", within),
        *_errors("last_value_", f"_{horizon}", f"{within}, of the last value"),
    )


def _errors(prefix: str, suffix: str, title: str = "", plotted: bool = False) -> tuple[Metric, ...]:
    names = (("mae", "Mean absolute error"), ("rmse", "Root mean squared error"))
    return tuple(Metric(f"{prefix}{n}{suffix}", t + title, higher_is_better=False, plotted=plotted) for n, t in names)
