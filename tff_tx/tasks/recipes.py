"""From stored examples of series, histories and tables to batches; see `preprocessing`."""

from __future__ import annotations

import collections

import tensorflow as tf


class Forecasting:
    """A window of a series: what to forecast from, and the last value followed by what was to come."""

    pads = {"past_values": 0.0, "future_values": 0.0}

    def __init__(self, tokenizer, num_labels):
        del tokenizer, num_labels

    def inputs(self, element_spec):
        return collections.OrderedDict(past_values=tf.TensorSpec([None, *element_spec["past_values"].shape]))

    def batch(self, features, seed):
        del seed
        past = features["past_values"]
        labels = tf.concat([past[:, -1:], features["future_values"]], axis=1)
        return collections.OrderedDict(past_values=past), labels
