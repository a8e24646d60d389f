"""Measurements of a mechanism's releases: how far one record moves them, and the noise that they have.

Guesses about canaries (`mechanism`) bound epsilon with no assumption, and coarsely: noise that is a tenth too small is
not found. Here everything that the accounting of Gaussian noise assumes is measured by itself, on many coordinates that
hold nothing but noise: its standard deviation, that it is normal, that it is independent from coordinate to coordinate,
and correlated from release to release as stated.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from scipy import special

from tff_tx.analysis.auditing.mechanism import canary_batches, canary_model
from tff_tx.runtime import Hook, LocalEngine

COORDINATES = 20_000
"""Of a measured release: the standard deviation of its noise has a standard error of 0.5 % and less."""
_ERROR = 1e-6
"""Probability that a sound mechanism is refuted, by all tests together."""
_EXCESS = 1e-3
"""A record may move the releases by this more than the clip norm: the arithmetic is float32's."""


@dataclasses.dataclass(frozen=True, eq=False)
class Claim:
    """What the accounting of a mechanism assumes of its running sums.

    Attributes:
      sensitivity: By how much a record of one round may move them, in L2 norm.
      covariance: Of a coordinate of their noise, float64 [rounds, rounds].
    """

    sensitivity: float
    covariance: np.ndarray


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What was measured of a mechanism.

    Attributes:
      sensitivity: By how much canaries moved the running sums at most, in units of the claimed sensitivity.
      stddev: Standard deviation of the noise, in units of the claimed one.
      interval: Limits of `stddev`.
      p_values: Of tests of the noise, by what they test; each is the smallest of its tests, times their number.
    """

    sensitivity: float
    stddev: float
    interval: tuple[float, float]
    p_values: dict[str, float]

    @property
    def faults(self) -> tuple[str, ...]:
        """What refutes the claim; empty: nothing."""
        tests = [f"the noise is not {name}" for name, p in self.p_values.items() if p < _ERROR / 5]
        return (
            *(["a record moves the releases by more than the clip norm"] if self.sensitivity > 1 + _EXCESS else []),
            *(["the noise is too small"] if self.interval[1] < 1 else []),
            *tests,
        )

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"a canary moves the releases by {self.sensitivity:.4f} of what is accounted for; the noise has "
            f"{self.stddev:.4f} of the accounted standard deviation ({low:.3f} to {high:.3f}): "
            + ("refuted, " + ", and ".join(self.faults) if self.faults else "not refuted")
        )


def measure(moved: np.ndarray, sums: np.ndarray, claim: Claim) -> Measurement:
    """Compares releases with a claim.

    Args:
      moved: L2 norms by which canaries moved the running sums, [canaries].
      sums: Running sums of releases without any record, noise alone, [rounds, coordinates].
      claim: Of the accounting.
    """
    from scipy import stats

    white = np.linalg.solve(np.linalg.cholesky(claim.covariance), np.asarray(sums, float))
    # The standard deviation of so many numbers is as good as normal.
    stddev, spread = math.sqrt(np.mean(white**2)), -special.ndtri(_ERROR / 10) / math.sqrt(2 * white.size)
    p_values = {
        "normal": stats.kstest(white.ravel() / (stddev or 1.0), "norm").pvalue,
        "independent between coordinates": _smallest([_autocorrelations(row) for row in white], white.shape[1]),
        "correlated between rounds as accounted for": _smallest(_between_rounds(white), white.shape[1]),
    }
    return Measurement(
        float(np.max(moved)) / claim.sensitivity, stddev, (stddev / (1 + spread), stddev / (1 - spread)), p_values
    )


def _autocorrelations(values):
    """Of values on a circle, at all distances but 0."""
    spectrum = np.abs(np.fft.rfft(values)) ** 2
    products = np.fft.irfft(spectrum, len(values))
    return products[1 : len(values) // 2 + 1] / (products[0] or 1.0)


def _between_rounds(white):
    if len(white) == 1:
        return np.zeros(1)
    with np.errstate(invalid="ignore"):  # a round without noise
        return np.corrcoef(white)[np.triu_indices(len(white), 1)]


def _smallest(correlations, samples):
    """The smallest p-value of correlations that should be 0, times their number."""
    found = np.abs(np.ravel(correlations))
    return min(1.0, 2 * found.size * special.ndtr(-np.nan_to_num(found.max(), nan=np.inf) * math.sqrt(samples)))


def measure_process(
    process_fn: Callable[[tff.learning.models.FunctionalModel], tff.learning.templates.LearningProcess],
    claim: Claim,
    hooks: Sequence[Hook] = (),
    clients: int = 1,
) -> Measurement:
    """Measures a learning process, as `audit_process` takes it: the running sums are its model.

    Noise must depend on the process and on the seeds of its clients alone, so that it is the same with and without a
    canary. `hooks` are the engine's; of the clients of a round, the first has the canary.
    """
    rounds = len(claim.covariance)
    with LocalEngine(process_fn(canary_model(COORDINATES)), 1, hooks=hooks) as engine:

        def released(canary):
            state, sums = engine.initialize(), []
            for round_num in range(rounds):
                records = np.zeros([clients, 1, COORDINATES])
                records[0, 0] = canary if round_num == 0 else 0.0
                cohort = [canary_batches(record, [round_num, i]) for i, record in enumerate(records)]
                state = engine.run_round(state, cohort).state
                sums.append(np.concatenate(engine.model_weights(state).trainable))
            return np.array(sums, float)

        noise = released(np.zeros(COORDINATES))
        moved = [np.linalg.norm(released(c)[-1] - noise[-1]) for c in _canaries(claim.sensitivity)]
    return measure(np.array(moved), noise, claim)


def measure_updates(release_fn: Callable[[list, tf.Tensor], list], claim: Claim) -> Measurement:
    """Measures local privacy, as `audit_updates` takes it: a canary is replaced by its negative."""

    @tf.function(autograph=False)
    def released(update, seed):
        return tf.concat(release_fn(tf.split(update, 2), seed), 0)

    def release(update, round_num):
        return released(tf.constant(update, tf.float32), tf.constant([round_num, 0], tf.int64)).numpy().astype(float)

    noise = [release(np.zeros(COORDINATES), round_num) for round_num in range(len(claim.covariance))]
    moved = [np.linalg.norm(release(c, 0) - release(-c, 0)) for c in _canaries(claim.sensitivity)]
    return measure(np.array(moved), np.cumsum(noise, axis=0), claim)


def _canaries(clip):
    """Records of ten times the clip norm and far more, in all coordinates and in one."""
    flat, single = np.full(COORDINATES, COORDINATES**-0.5), np.eye(1, COORDINATES)[0]
    return [size * clip * direction for size in (10, 1e6) for direction in (flat, single)]
