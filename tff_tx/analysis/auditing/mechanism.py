"""Audits of a mechanism by itself, without training: canaries that its noise alone protects.

A Dirac canary is a record, an update or a gradient, with a single coordinate (Nasr et al. 2023, "Tight auditing of
differentially private machine learning", section 5; Andrew et al. 2023, "One-shot empirical privacy estimation"). A
coordinate each, m of them are in one release without affecting each other, and the noise of a coordinate is all that
protects its canary: against the Gaussian mechanism this is the strongest attack.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx import algorithms
from tff_tx.analysis.auditing import one_run
from tff_tx.models import SEED
from tff_tx.runtime import Hook, LocalEngine


@dataclasses.dataclass(frozen=True)
class CanaryAudit:
    """Settings of an audit of a mechanism.

    Attributes:
      canaries: m, records that are in or out by a coin, and coordinates of the model.
      norm: L2 norm of a canary as it is sent; above the clip norm, so that missing clipping is detected.
      rounds: Releases, with the same canaries in all of them.
      seed: Seed of the coins and of the mechanism's noise.
      delta: Delta of the bound.
      confidence: Confidence level of the bound.
    """

    canaries: int = 1000
    norm: float = 10.0
    rounds: int = 1
    seed: int = 0
    delta: float = 1e-5
    confidence: float = 0.95

    def coins(self) -> np.ndarray:
        """Which canaries are in, bool [m]."""
        return np.random.default_rng(self.seed).random(self.canaries) < 0.5

    def canary(self, which: Sequence[int]) -> tf.Tensor:
        """Dirac canaries of some coordinates, float32 [len(which), m]."""
        return self.norm * tf.one_hot(tf.constant(which, tf.int32), self.canaries)

    def bound(self, scores: np.ndarray, was_in: np.ndarray) -> one_run.Bound:
        """The lower bound on epsilon from the canaries' scores."""
        return one_run.audit(scores, was_in, self.delta, self.confidence)


def audit_process(
    process_fn: Callable[[tff.learning.models.FunctionalModel], tff.learning.templates.LearningProcess],
    unit: str,
    audit: CanaryAudit,
    threads: int = 2,
    hooks: Sequence[Hook] = (),
) -> one_run.Bound:
    """Audits a learning process: its aggregation of updates, or its clients' treatment of gradients.

    A canary is in all rounds or in none (add-or-remove or zero-out, no sampling). The auditor sees the model, and
    scores a canary by the change of its coordinate.

    Args:
      process_fn: From a model to a process whose clients take a step of SGD with rate 1 over all their examples: each
        sends what its data say.
      unit: "client": a canary is the update of a client. "example": it is the gradient of an example, all of them of
        one client in one batch.
      audit: Settings of the audit.
      threads: Threads of the engine.
      hooks: Of the engine.
    """
    was_in = audit.coins()
    present = np.flatnonzero(was_in)
    groups = [[i] for i in present] if unit == "client" else [present]
    with LocalEngine(process_fn(canary_model(audit.canaries)), threads, hooks=hooks) as engine:
        state = engine.initialize()
        for round_num in range(audit.rounds):
            seeds = [[round_num * len(groups) + i, audit.seed] for i in range(len(groups))]
            clients = [canary_batches(audit.canary(which), seed) for which, seed in zip(groups, seeds)]
            state = engine.run_round(state, clients).state
        scores = np.concatenate(engine.model_weights(state).trainable)
    return audit.bound(scores.astype(float), was_in)


def audit_updates(release_fn: Callable[[list, tf.Tensor], list], audit: CanaryAudit) -> one_run.Bound:
    """Audits local privacy: the auditor sees the update of each client as it leaves.

    By a coin a client sends its canary or its negative, as all of its data may be replaced. The auditor sums over
    rounds.

    Args:
      release_fn: From (update, seed int64 [2]) to what leaves, such as `local_dp(...).privatized`.
      audit: Settings of the audit; clients are independent, so that m of them audit one mechanism.
    """
    was_in = audit.coins()

    @tf.function(autograph=False)
    def released(sign, seed):
        update = [tf.concat([[sign * audit.norm], tf.zeros([3])], 0)]
        return release_fn(update, seed)[0][0]

    scores = np.zeros(audit.canaries)
    for round_num in range(audit.rounds):
        for i, is_in in enumerate(was_in):
            seed = tf.constant([round_num * audit.canaries + i, audit.seed], tf.int64)
            scores[i] += float(released(tf.constant(1.0 if is_in else -1.0), seed))
    return audit.bound(scores, was_in)


def canary_model(size: int) -> tff.learning.models.FunctionalModel:
    """A model whose gradient for an example x is -x, at any weights: loss is minus the mean of <w, x>.

    Trained with SGD of rate 1 it moves by x: what a client sends is what its data say. Its weights, the two halves of
    [size], start at 0: noise that weights share shows.
    """
    traced = functools.partial(tf.function, autograph=False)

    def predict(weights, x, training):
        del training
        return tf.linalg.matvec(x["canary"], tf.concat(weights[0], 0))

    def loss(output, label, sample_weight=None):
        del label, sample_weight
        return -tf.reduce_mean(output)

    def initialize():
        return collections.OrderedDict(examples=tf.constant(0, tf.int64))

    def update(state, labels, batch_output, sample_weight=None):
        del batch_output, sample_weight
        return collections.OrderedDict(examples=state["examples"] + tf.shape(labels, tf.int64)[0])

    x_spec = collections.OrderedDict([("canary", tf.TensorSpec([None, size])), (SEED, tf.TensorSpec([2], tf.int64))])
    return tff.learning.models.FunctionalModel(
        initial_weights=((np.zeros([size // 2], np.float32), np.zeros([size - size // 2], np.float32)), ()),
        predict_on_batch_fn=traced(predict),
        loss_fn=traced(loss),
        metrics_fns=(traced(initialize), traced(update), traced(lambda state: state)),
        input_spec=(x_spec, tf.TensorSpec([None], tf.int32)),
    )


def canary_process_fn(**fields: Any) -> Callable[[Any], tff.learning.templates.LearningProcess]:
    """From a `canary_model` to FedAvg whose clients take a step of SGD with rate 1; fields: of `algorithms.Options`."""
    options = algorithms.Options(
        client_optimizer_fn=lambda rate: algorithms.build_optimizer("sgd", rate),
        server_optimizer=algorithms.build_optimizer("sgd", 1.0),
        client_learning_rate=1.0,
        **fields,
    )
    return lambda model: algorithms.build_fed_avg(model, options)


def canary_batches(canaries: Any, seed: Sequence[int]) -> tf.data.Dataset:
    """One batch of canaries, float32 [batch, size], for a `canary_model`; seed: of the client, two integers."""

    def batch(_):
        x = collections.OrderedDict([("canary", tf.cast(canaries, tf.float32)), (SEED, tf.constant(seed, tf.int64))])
        return x, tf.zeros([len(canaries)], tf.int32)

    return tf.data.Dataset.range(1).map(batch)
