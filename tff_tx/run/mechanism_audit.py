"""Audits of a privacy mechanism by itself, without a run: guesses about canaries, and measurements of its releases."""

from __future__ import annotations

import dataclasses
import os
import secrets

import numpy as np

from tff_tx import algorithms, privacy
from tff_tx.aggregators import dp
from tff_tx.analysis import auditing
from tff_tx.config import RunConfig, check, resolve
from tff_tx.config.run_config import describe
from tff_tx.config.tools import AuditConfig
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting
from tff_tx.federation import simulated_noise
from tff_tx.federation.secure_sums.noise import Noise
from tff_tx.run.assemble import aggregation, processes

_DELTA = 1e-5
_ROUNDS = 8
"""Releases that are measured, where the run has as many."""


@dataclasses.dataclass(frozen=True)
class MechanismReport:
    """The audit of a mechanism.

    Attributes:
      bound: Lower bound on epsilon from guesses about canaries.
      reachable: The bound if the canaries were without any noise.
      accounted: Epsilon of its accounting, for the same number of releases.
      measurement: Of its releases.
      file: `mechanism.json`, if it was written.
    """

    bound: auditing.Bound
    reachable: float
    accounted: float
    measurement: auditing.Measurement
    file: str | None = None

    @property
    def refuted(self) -> bool:
        """Whether the mechanism, or its accounting, is wrong."""
        return self.bound.epsilon > self.accounted or bool(self.measurement.faults)

    def __str__(self) -> str:
        bound, verdict = self.bound, "not refuted"
        if bound.epsilon > self.accounted:
            verdict = "refuted"
        elif self.reachable <= self.accounted:
            verdict = "so few canaries could not have refuted it"
        guesses = f"{bound.correct} of {bound.guesses} guesses about {bound.canaries} canaries right"
        return (
            f"epsilon is at least {bound.epsilon:.3f}, of {self.reachable:.3f} that the canaries can show at most "
            f"({guesses}; confidence {bound.confidence:.0%}, delta {bound.delta:g}); accounted {self.accounted:.3f}: "
            f"{verdict}\n{self.measurement}\nThe mechanism is {'refuted' if self.refuted else 'not refuted'}."
            + (f"\nWritten: {self.file}" if self.file else "")
        )


def audit_mechanism(config: RunConfig, settings: AuditConfig) -> MechanismReport:
    """Audits the one mechanism of a configuration, with canaries that are updates or gradients, without a run.

    Args:
      config: Has a mechanism in one of the sections privacy, local_privacy and example_privacy.
      settings: Of the audit; with an output directory, `mechanism.json` is written into it.

    Raises:
      UserError: If the configuration has no mechanism or several, or its settings do not fit together.
    """
    paths = ("privacy.mechanism", "local_privacy.clip_norm", "example_privacy.clip_norm")
    if sum(map(config.is_set, paths)) != 1:
        found = ", ".join(describe(config, path) for path in paths)
        raise UserError(f"one mechanism is audited at a time, and {found}: set exactly one, with its noise.")
    check(resolve(config))
    clip = config.local_privacy.clip_norm or config.example_privacy.clip_norm or config.privacy.clip_norm
    canaries = auditing.CanaryAudit(
        settings.canaries, 10 * clip, settings.rounds, config.run.seed, settings.delta or _DELTA, settings.confidence
    )
    audit = next(audit for path, audit in zip(paths, (_central, _local, _example)) if config.is_set(path))
    bound, mechanism, measurement = audit(config, canaries)
    coins = canaries.coins()
    reachable = canaries.bound(coins, coins).epsilon
    report = MechanismReport(bound, reachable, privacy.epsilon(mechanism, canaries.rounds, canaries.delta), measurement)
    if settings.output_dir:
        files.make_directory(settings.output_dir, setting("audit.output_dir"))
        path = os.path.join(settings.output_dir, "mechanism.json")
        figures = {"lower_bound": bound, "reachable": reachable, "accounted": report.accounted}
        files.write_json(path, {**figures, "measurement": measurement, "refuted": report.refuted})
        report = dataclasses.replace(report, file=path)
    return report


def _local(config, canaries):
    clip, noise_multiplier = config.local_privacy.clip_norm, config.local_privacy.noise_multiplier
    release = algorithms.local_dp(clip, noise_multiplier).privatized
    mechanism = privacy.LocalGaussian(noise_multiplier)
    claim = _claim(mechanism, clip, 2 * clip, _ROUNDS)
    return auditing.audit_updates(release, canaries), mechanism, auditing.measure_updates(release, claim)


def _example(config, canaries):
    clip, noise_multiplier = config.example_privacy.clip_norm, config.example_privacy.noise_multiplier

    def process_fn(batch_size):
        return auditing.canary_process_fn(transforms=(algorithms.dp_sgd(clip, noise_multiplier, batch_size, None),))

    mechanism = privacy.ExampleLevelSgd(noise_multiplier)
    bound = auditing.audit_process(process_fn(canaries.canaries), "example", canaries, config.engine.num_threads)
    return bound, mechanism, auditing.measure_process(process_fn(1), _claim(mechanism, clip, clip, _ROUNDS))


def _central(config, canaries):
    if config.privacy.is_distributed:
        return _distributed(config, canaries)
    number = canaries.canaries
    plan = privacy.build_plan(config, number, number, processes.server_rates(config))
    process_fn = auditing.canary_process_fn(**aggregation.private_parts(plan))
    bound = auditing.audit_process(process_fn, "client", canaries, config.engine.num_threads)
    mechanism, clip, noise_multiplier = plan.ledger.mechanism, config.privacy.clip_norm, plan.update_noise_multiplier
    rounds = min(_ROUNDS, plan.rounds)
    if isinstance(mechanism, privacy.AdaptiveClipping):
        # The clip norm of later rounds depends on the updates of earlier ones.
        noise_multiplier, rounds = dp.split_noise(noise_multiplier, mechanism.count_stddev), 1
    released = clip / plan.clients_per_round
    claim = _claim(mechanism.with_noise(noise_multiplier), released, released, rounds)
    # Canaries are in all rounds or in none: no sampling amplifies.
    sampling = {"sampling": "none"} if isinstance(mechanism, privacy.Gaussian) else {}
    accounted = dataclasses.replace(mechanism, participation=privacy.Participation(), **sampling)
    return bound, accounted, auditing.measure_process(process_fn, claim)


class _KnownRemoved(simulated_noise.ParticipantNoise):
    """What colluders make of distributed noise: of a round, a number of shares are left."""

    def start_round(self, engine, state, broadcast, clients):
        super().start_round(engine, state, broadcast, clients)
        self._left = self._least

    def start_client(self, job):
        self._left -= 1
        return super().start_client(job) if self._left >= 0 else job


def _distributed(config, canaries):
    seed = config.privacy.noise_seed
    seed = secrets.randbits(32) if seed is None else seed  # with and without a canary, the noise must be the same

    def process_of(number):
        plan = privacy.build_plan(config, number, number)
        mechanism, grid = plan.ledger.mechanism, aggregation.simulated_grid(plan)
        parts = {**aggregation.build_aggregation(config), **aggregation.private_parts(plan)}
        noise = Noise(mechanism.noise, mechanism.share_variance)
        hook = _KnownRemoved(noise, grid.modulus, mechanism.unknown, seed)
        return plan, grid, auditing.canary_process_fn(**parts), [hook]

    plan, _, process_fn, hooks = process_of(canaries.canaries)
    mechanism, present = plan.ledger.mechanism, int(canaries.coins().sum())
    if present < mechanism.unknown:
        raise UserError(
            f"{setting('audit.canaries')}={canaries.canaries}: of these, {present} are clients, fewer than the "
            f"{mechanism.unknown} whose noise is accounted for: raise it."
        )
    bound = auditing.audit_process(process_fn, "client", canaries, config.engine.num_threads, hooks)
    measured, grid, process_fn, hooks = process_of(auditing.COORDINATES)
    denominator, found = measured.clients_per_round, measured.ledger.mechanism
    noise = (found.noise_multiplier * measured.scale_factor * found.clip / denominator) ** 2
    _require_noise(found)
    claim = auditing.Claim(grid.l2_sensitivity / grid.scale / denominator, np.array([[noise]]))
    measurement = auditing.measure_process(process_fn, claim, hooks, found.unknown)
    return bound, dataclasses.replace(mechanism, participation=privacy.Participation()), measurement


def _claim(mechanism, unit, sensitivity, rounds):
    """The claim of a mechanism whose releases are in units of a clip norm."""
    _require_noise(mechanism)
    return auditing.Claim(sensitivity, unit**2 * mechanism.sum_covariance(rounds))


def _require_noise(mechanism):
    if mechanism.noise_multiplier == 0:
        raise UserError("the mechanism adds no noise, and there is nothing to audit: set a noise multiplier above 0.")
