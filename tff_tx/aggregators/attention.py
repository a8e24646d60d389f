"""Attention over clients (FedAtt, Ji et al. 2019), in one pass."""

from __future__ import annotations

import collections
import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.aggregators.aggregator import build_one_pass, structure_of, zeros_of

KEYS = ("distance", "loss")
"""Attention scores."""

_LOWEST = np.finfo(np.float32).min


class AttentionFactory(tff.aggregators.WeightedAggregationFactory):
    """Attentive aggregation: in each layer, clients count by a softmax over the cohort.

    Ji et al. 2019, "Learning Private Neural Language Modeling with Attentive Aggregation",
    https://arxiv.org/abs/1812.07108, section III.B and Algorithm 1. For layer l of the server's model w and the models
    w_k of m clients, in the paper's words s is the similarity, alpha the attention and epsilon the step size:

        s_k^l     = | w^l - w_k^l |_p
        alpha_k^l = softmax(s_k^l) = exp(s_k^l) / sum_{i=1}^m exp(s_i^l)
        w_{t+1}   = w_t - epsilon sum_{k=1}^m alpha_k (w_t - w_{t+1}^k)

    so that a client counts for more the further it has moved. An update is w - w_k here: s_k^l is its L2 norm, and the
    aggregate, which the server subtracts, is epsilon sum_k alpha_k Delta_k. A layer is one tensor of the model. With
    weights n_k (the numbers of examples), a temperature tau and a floor phi this is

        alpha_k^l = (1 - phi) n_k exp(s_k^l / tau) / sum_i n_i exp(s_i^l / tau)  +  phi n_k / sum_i n_i

    The paper's is tau = 1, phi = 0 and equal weights; tau = infinity, or phi = 1, with epsilon = 1 is FedAvg. The floor
    assures every client phi times what it would count in FedAvg, and costs a second sum of the updates. With the key
    "loss", s_k is instead minus a loss that the client reports with its weight, the same for all layers: clients
    whose data the model cannot learn (mislabelled, garbled) count for less.

    One pass: the accumulator has, a layer, the largest score m so far, and sums of n exp((s - m) / tau) and of that
    times Delta; a score above m scales the sums down by exp((m - s) / tau) first, so nothing ever overflows (Milakov
    and Gimelshein 2018, https://arxiv.org/abs/1805.02867, Algorithm 3). Two accumulators merge alike.

    Clients of weight 0, and those whose update or score is not finite, are left out. If none is left, the aggregate is
    0.

    Process: `create(value_type, weight_type)` takes a structure of float tensors, and a float scalar or, with the key
    "loss", an `OrderedDict(weight=float32, loss=float32)`; `next` is (<state=<>@SERVER, value={V}@CLIENTS,
    weight={W}@CLIENTS> -> <state, result=V@SERVER, measurements>). Measurements: `clients`, how many were not left out,
    and `effective_clients`, (sum alpha)^2 / sum alpha^2 in the mean over layers, without the floor.

    Args:
      key: One of `KEYS`.
      temperature: tau, above 0, in units of the score; may be infinite.
      step_size: epsilon, above 0.
      floor: phi, from 0 to 1.

    Raises:
      ValueError: If an argument is out of its range.
    """

    def __init__(self, key: str = "distance", temperature: float = 1.0, step_size: float = 1.0, floor: float = 0.0):
        if key not in KEYS:
            raise ValueError(f"key={key!r}: must be one of {', '.join(KEYS)}.")
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}: must be above 0.")
        if not 0 < step_size < math.inf:
            raise ValueError(f"step_size={step_size}: must be above 0 and finite.")
        if not 0 <= floor <= 1:
            raise ValueError(f"floor={floor}: must be from 0 to 1.")
        self._key, self._temperature, self.step_size, self.floor = key, temperature, step_size, floor

    def create(self, value_type, weight_type):
        zero = functools.partial(self._zero, structure_of(value_type))
        return build_one_pass(value_type, weight_type, self.scored, zero, self._accumulated, _merged, self._reported)

    def _zero(self, specs):
        sums, figures = zeros_of(specs), tf.zeros([len(tf.nest.flatten(specs))])
        accumulator = collections.OrderedDict(
            clients=tf.constant(0),
            largest=tf.fill(tf.shape(figures), _LOWEST),
            attention=figures,
            squares=figures,
            attended=sums,
        )
        if self.floor:
            accumulator.update(weight=tf.constant(0.0), weighted=sums)
        return accumulator

    def scored(self, value: Any, weight: Any) -> Mapping[str, Any]:
        """A client's update, its weight, 0 if it is left out, and its score s / tau a layer."""
        norms = tf.stack([tf.norm(tf.cast(leaf, tf.float32)) for leaf in tf.nest.flatten(value)])
        finite = tf.reduce_all(tf.math.is_finite(norms))
        score = norms
        if self._key == "loss":
            score = tf.fill(tf.shape(norms), -weight["loss"])
            weight = weight["weight"]
        score /= self._temperature
        weight = tf.cast(weight, tf.float32)
        counts = finite & tf.reduce_all(tf.math.is_finite(score)) & tf.math.is_finite(weight) & (weight > 0.0)
        return collections.OrderedDict(
            value=tf.cond(
                finite,
                lambda: tf.nest.map_structure(tf.identity, value),
                lambda: tf.nest.map_structure(tf.zeros_like, value),
            ),
            weight=tf.where(counts, weight, 0.0),
            score=tf.where(counts, score, tf.zeros_like(score)),
        )

    def _accumulated(self, accumulator, client):
        counts = client["weight"] > 0.0
        largest = tf.where(counts, tf.maximum(accumulator["largest"], client["score"]), accumulator["largest"])
        decay = tf.exp(accumulator["largest"] - largest)
        new = tf.where(counts, client["weight"] * tf.exp(client["score"] - largest), tf.zeros_like(decay))
        result = collections.OrderedDict(
            clients=accumulator["clients"] + tf.cast(counts, tf.int32),
            largest=largest,
            attention=accumulator["attention"] * decay + new,
            squares=accumulator["squares"] * decay**2 + new**2,
            attended=_combined(accumulator["attended"], decay, client["value"], new),
        )
        if self.floor:
            weights = tf.fill(tf.shape(new), client["weight"])
            result["weight"] = accumulator["weight"] + client["weight"]
            result["weighted"] = _combined(accumulator["weighted"], None, client["value"], weights)
        return result

    def _reported(self, accumulator):
        attention = accumulator["attention"]
        result = scale_layers(
            accumulator["attended"], (1.0 - self.floor) * tf.math.divide_no_nan(self.step_size, attention)
        )
        if self.floor:
            share = tf.math.divide_no_nan(self.step_size * self.floor, accumulator["weight"])
            floored = scale_layers(accumulator["weighted"], tf.fill(tf.shape(attention), share))
            result = tf.nest.map_structure(tf.add, result, floored)
        effective = tf.reduce_mean(tf.math.divide_no_nan(attention**2, accumulator["squares"]))
        measurements = collections.OrderedDict(clients=accumulator["clients"], effective_clients=effective)
        return collections.OrderedDict(result=result, measurements=measurements)


def _merged(a, b):
    largest = tf.maximum(a["largest"], b["largest"])
    decay_a, decay_b = tf.exp(a["largest"] - largest), tf.exp(b["largest"] - largest)
    result = collections.OrderedDict(
        clients=a["clients"] + b["clients"],
        largest=largest,
        attention=a["attention"] * decay_a + b["attention"] * decay_b,
        squares=a["squares"] * decay_a**2 + b["squares"] * decay_b**2,
        attended=_combined(a["attended"], decay_a, b["attended"], decay_b),
    )
    if "weighted" in a:
        result["weight"] = a["weight"] + b["weight"]
        result["weighted"] = tf.nest.map_structure(tf.add, a["weighted"], b["weighted"])
    return result


def _combined(a, factors_a, b, factors_b):
    """Layer by layer a * factor + b * factor, the factors float32 [layers]; None: 1."""
    layers_a, layers_b = tf.nest.flatten(a), tf.nest.flatten(b)
    scaled_a = layers_a if factors_a is None else _times(layers_a, factors_a)
    return tf.nest.pack_sequence_as(a, [x + y for x, y in zip(scaled_a, _times(layers_b, factors_b))])


def scale_layers(value: Any, factors: tf.Tensor) -> Any:
    """A structure of layers, each multiplied by its factor of float32 [layers]."""
    return tf.nest.pack_sequence_as(value, _times(tf.nest.flatten(value), factors))


def _times(layers, factors):
    return [layer * tf.cast(factor, layer.dtype) for layer, factor in zip(layers, tf.unstack(factors))]
