"""Audits of a run, by attacks on its model."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx import tasks
from tff_tx.analysis import auditing
from tff_tx.cohorts import log as cohort_log
from tff_tx.config.tools import AuditConfig
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting
from tff_tx.run import directory, reporting
from tff_tx.run.assemble import tasks as task_parts

_DELTA = 1e-5
_FEWEST_TO_TRAIN = 8
"""An attacker trains on no fewer members and non-members."""


@dataclasses.dataclass(frozen=True)
class AuditReport:
    """What the model of a run reveals of its training data.

    Attributes:
      attacks: Membership inference attacks, by name.
      exposures: Exposure of canaries in bits, by repetitions; 0: canaries that were not trained on.
      bound: Lower bound on epsilon; None: the run had no canaries.
      accounted: Epsilon of the run's own accounting; None: it was not private.
      files: What was written: `audit.json`, a plot, and the report with a section on the audit.
    """

    attacks: Mapping[str, auditing.Attack]
    exposures: Mapping[int, np.ndarray]
    bound: auditing.Bound | None
    accounted: float | None
    files: tuple[str, ...] = ()

    def figures(self) -> dict[str, Any]:
        """The results, as in `audit.json`."""
        found: dict[str, Any] = {"membership": {name: attack.figures() for name, attack in self.attacks.items()}}
        if self.bound is not None:
            bits = {r: {"mean": v.mean(), "max": v.max(), "n": len(v)} for r, v in self.exposures.items()}
            found |= {"exposure": bits, "epsilon": {"lower_bound": self.bound, "accounted": self.accounted}}
        return found

    def __str__(self) -> str:
        return f"{self.table()}\nWritten: {', '.join(self.files)}"

    def table(self) -> str:
        """The results as a Markdown table."""
        rows = []
        for name, a in self.attacks.items():
            found = f"{a.true_positive_rates[0.01]:.1%} found at 1 % false positives"
            figures = f"AUC {a.auc:.3f} ± {a.standard_error:.3f}; {found}"
            rows.append((f"membership: {name}", figures, "AUC 0.5; 1 % found"))
        for repetitions, bits in self.exposures.items():
            kind = f"canaries with {repetitions} copies" if repetitions else "canaries not trained on"
            figures = f"mean {bits.mean():.2f} bits, maximum {bits.max():.2f}"
            rows.append((f"exposure: {len(bits)} {kind}", figures, "mean 1.44 bits"))
        if self.bound is not None:
            bound, accounted = self.bound, self.accounted
            upper = "none accounted" if accounted is None else f"{accounted:.3g} accounted"
            at = f"epsilon at delta {bound.delta:g}, confidence {bound.confidence:.0%}"
            figures = f"at least {bound.epsilon:.3f} ({bound.correct} of {bound.guesses} guesses right)"
            rows.append((at, figures, f"0; {upper}"))
        return auditing.table(rows)


def audit_run(run_dir: str, settings: AuditConfig) -> AuditReport:
    """Infers membership of examples and clients, and measures canaries if the run had some; writes the results.

    Raises:
      UserError: If there is no such run, its predictions are no class probabilities, or it held no data out.
    """
    run = directory.read_run(run_dir)
    config = task_parts.stored_config(run).replace({"run.eval_batch_size": settings.eval_batch_size})
    task = task_parts.load_task(config)
    if "class_probabilities" not in task.definition.capabilities:
        raise UserError(
            f"{setting('audit.run_dir')}={run_dir} is a run of {task.kind}, whose predictions are no class "
            f"probabilities, which the attacks use: audit another run, or set {setting('audit.mechanism')}."
        )
    output_dir = settings.output_dir or os.path.join(run_dir, "audit")
    files.make_directory(output_dir, setting("audit.output_dir"))
    audit = _RunAudit(run, task, settings)
    exposures, bound = audit.canaries()
    report = AuditReport(audit.membership(), exposures, bound, _accounted(run_dir))
    return _write(report, run_dir, output_dir)


def _write(report, run_dir, output_dir):
    path = os.path.join(output_dir, "audit.json")
    files.write_json(path, report.figures())
    picture = auditing.plot_audit(report.attacks, report.exposures, os.path.join(output_dir, "audit.png"))
    image = f"![audit]({os.path.relpath(picture, run_dir)})"
    section = reporting.add_section(run_dir, "Audit", f"{report.table()}\n\n{image}")
    return dataclasses.replace(report, files=(path, picture, section))


class _RunAudit:
    """The attacks on the model of a run."""

    def __init__(self, run: directory.StoredRun, task: tasks.FederatedTask, settings: AuditConfig):
        self._run, self._task, self._settings = run, task, settings
        self._weights = tff.learning.models.ModelWeights(*task.model.initial_weights)
        element_spec = task.eval_batches_fn(task.train)(tf.constant("")).element_spec
        self._scorer = auditing.ExampleScorer(task.model, element_spec)

    def membership(self) -> dict[str, auditing.Attack]:
        """Attacks on examples and on clients: participants against held-out clients."""
        held_out = self._task.test or self._task.validation
        if held_out is None:
            raise UserError(
                f"{setting('audit.run_dir')}={self._run.directory} held no data out to compare its training data with: "
                f"audit a run with {setting('data.test_fraction')} or {setting('data.validation_fraction')}."
            )
        members = self._score(self._task.train, _participants(self._run.directory))
        others = self._score(held_out, held_out.client_ids)
        attacks = {"examples, by loss": auditing.threshold_attack(members[0][:, 0], others[0][:, 0])}
        if min(len(members[0]), len(others[0])) >= _FEWEST_TO_TRAIN:
            attacks["examples, trained attacker"] = auditing.trained_attack(members[0], others[0], self._seed)
        attacks["clients, by mean loss"] = auditing.threshold_attack(
            [mean[0] for mean in members[1]], [mean[0] for mean in others[1]]
        )
        return attacks

    @property
    def _seed(self):
        return self._run.config.run.seed

    def _score(self, clients, client_ids):
        order = np.random.default_rng(self._seed).permutation(sorted(client_ids)).tolist()
        batches_fn = self._task.eval_batches_fn(clients)
        return self._scorer.of_clients(self._weights, batches_fn, order, self._settings.max_examples)

    def canaries(self) -> tuple[dict[int, np.ndarray], auditing.Bound | None]:
        """Exposure of the canaries by repetitions, and the bound on epsilon."""
        canaries, token_ids, seed = auditing.read_canaries(self._run.directory)
        if not canaries:
            return {}, None
        length = len(canaries[0].tokens)
        references = self._losses(auditing.make_references(self._settings.references, length, token_ids, seed))
        losses = self._losses([canary.tokens for canary in canaries])
        bits = auditing.exposure_by_rank(losses, references)
        repetitions = np.array([canary.repetitions if canary.is_in else 0 for canary in canaries])
        exposures = {int(r): bits[repetitions == r] for r in np.unique(repetitions)}
        was_in = [canary.is_in for canary in canaries]
        return exposures, auditing.audit(-losses, was_in, self._delta(), self._settings.confidence)

    def _losses(self, texts):
        examples, seed = auditing.canary_examples(texts), tf.constant([0, 0], tf.int64)
        batches = self._task.preprocessing.evaluate(examples, seed, self._settings.eval_batch_size)
        return self._scorer(self._weights, batches)[:, 0]

    def _delta(self):
        """Delta of the settings, else of the run's own guarantee."""
        facts = self._run.facts
        guarantee = facts.get("privacy") or facts.get("client_privacy", {}).get("clients") or {}
        return self._settings.delta or guarantee.get("delta", _DELTA)


def _participants(run_dir):
    """Ids of the training clients whose work the run used, other than canaries."""
    path = os.path.join(run_dir, cohort_log.LOG)
    try:
        reported = {client for _, record in cohort_log.records(path, path) for client in record["reported"]}
    except (OSError, KeyError, TypeError) as error:
        raise UserError(f"{path} does not name the participants ({error}): audit a whole run directory.") from error
    return [client for client in reported if not client.startswith(auditing.PREFIX)]


def _accounted(run_dir):
    """Epsilon of the run as accounted; None: it is not private."""
    rows = directory.read_metrics(run_dir)
    return float(rows["privacy/epsilon"].iloc[-1]) if "privacy/epsilon" in rows else None
