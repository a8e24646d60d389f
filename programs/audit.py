"""Audits a run: what its model tells of the data it was trained on, and what that says of epsilon.

`python -m programs.audit --run_dir=runs/stdlib` infers membership, of examples and of clients. For a run with canaries
(programs.train --canaries=200) it also measures their exposure, and the lower bound on epsilon of an audit in one run
(Steinke et al. 2023) beside the upper bound that was accounted. `--mechanism` audits the mechanism of
--dp_mechanism, --local_dp_clip or --example_clip by itself, with canaries that are updates or gradients, in seconds and
without training.
"""

from __future__ import annotations

import dataclasses
import json
import os

import numpy as np
import pandas as pd
import tensorflow as tf
import tensorflow_federated as tff
from absl import flags

from programs import cli, dp_flags, local_dp_flags, private_run, run_task, training_flags
from tff_tx import algorithms, privacy, runtime, tasks
from tff_tx.analysis import auditing
from tff_tx.cohorts import log as cohort_log
from tff_tx.core import files
from tff_tx.core.errors import UserError
from tff_tx.run import directory as run_directory
from tff_tx.run import reporting

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "The directory of a run.")
flags.DEFINE_boolean("mechanism", False, "Audits the mechanism that flags name, without a run.")
flags.DEFINE_string("output_dir", None, "Where results go; default: audit/ in --run_dir.")
flags.DEFINE_integer("seed", 1, "Decides which clients are tried, and the coins of --mechanism.", lower_bound=0)
flags.DEFINE_integer("max_audited_examples", 2000, "Of members and of others, so many at most.", lower_bound=10)
flags.DEFINE_integer("eval_batch_size", 32, "Examples a batch.", lower_bound=1)
flags.DEFINE_integer("references", 1000, "Texts that canaries are ranked among.", lower_bound=100)
flags.DEFINE_float("audit_delta", 1e-5, "delta of the lower bound on epsilon.", lower_bound=0.0, upper_bound=1.0)
flags.DEFINE_float("confidence", 0.95, "Of the lower bound.", lower_bound=0.5, upper_bound=0.9999)
flags.DEFINE_integer("audit_canaries", 1000, "Canaries of --mechanism.", lower_bound=10)
flags.DEFINE_integer("audit_rounds", 1, "Releases of --mechanism, with the same canaries.", lower_bound=1)


def main(_) -> None:
    """Audits and writes the results."""
    runtime.configure_tensorflow()
    if FLAGS.mechanism:
        _audit_mechanism()
        return
    if FLAGS.run_dir is None:
        raise UserError("--run_dir is not set: name the directory of a run, or audit a --mechanism.")
    task = run_task.task_of_run(FLAGS.run_dir, eval_batch_size=FLAGS.eval_batch_size)
    if "class_probabilities" not in task.definition.capabilities:
        raise UserError(
            f"--run_dir={FLAGS.run_dir} is a run of {task.kind}, whose predictions are no probabilities of classes, "
            "which the attacks go by: audit another run, or its --mechanism."
        )
    output_dir = FLAGS.output_dir or os.path.join(FLAGS.run_dir, "audit")
    files.make_directory(output_dir, "--output_dir")
    audit = _RunAudit(task)
    attacks = audit.membership()
    exposures, bound = audit.canaries()
    results = {"membership": {name: attack.figures() for name, attack in attacks.items()}}
    if bound is not None:
        results["exposure"] = {r: {"mean": v.mean(), "max": v.max(), "n": len(v)} for r, v in exposures.items()}
        results["epsilon"] = {"lower_bound": bound, "accounted": _accounted()}
    rows = _rows(attacks, exposures, bound)
    path = os.path.join(output_dir, "audit.json")
    files.write_json(path, results)
    picture = auditing.plot_audit(attacks, exposures, os.path.join(output_dir, "audit.png"))
    table = auditing.table(rows)
    image = f"![audit]({os.path.relpath(picture, FLAGS.run_dir)})"
    reporting.write_section(FLAGS.run_dir, "Audit", f"{table}\n\n{image}")
    print(table)
    print(f"Written: {path}, {picture}, and a section of {os.path.join(FLAGS.run_dir, reporting.REPORT)}")


class _RunAudit:
    """The attacks on the model of a run."""

    def __init__(self, task: tasks.FederatedTask):
        self._task = task
        self._weights = tff.learning.models.ModelWeights(*task.model.initial_weights)
        self._scorer = auditing.ExampleScorer(
            task.model, task.eval_batches_fn(task.train)(tf.constant("")).element_spec
        )

    def membership(self) -> dict[str, auditing.Attack]:
        """Attacks on examples and on clients: those that took part against those held out."""
        members = self._score(self._task.train, _participants())
        held_out = self._task.test or self._task.validation
        if held_out is None:
            raise UserError(
                f"--run_dir={FLAGS.run_dir} held no data out, so there is nothing to tell its training data from: "
                "audit a run with --test_fraction or --validation_fraction."
            )
        others = self._score(held_out, held_out.client_ids)
        attacks = {"examples, by loss": auditing.threshold_attack(members[0][:, 0], others[0][:, 0])}
        if min(len(members[0]), len(others[0])) >= 8:
            attacks["examples, trained attacker"] = auditing.trained_attack(members[0], others[0], FLAGS.seed)
        attacks["clients, by mean loss"] = auditing.threshold_attack(
            [mean[0] for mean in members[1]], [mean[0] for mean in others[1]]
        )
        return attacks

    def _score(self, clients, client_ids):
        order = np.random.default_rng(FLAGS.seed).permutation(sorted(client_ids)).tolist()
        return self._scorer.of_clients(
            self._weights, self._task.eval_batches_fn(clients), order, FLAGS.max_audited_examples
        )

    def canaries(self) -> tuple[dict[int, np.ndarray], auditing.Bound | None]:
        """Exposure of the canaries by repetitions (0: those that are not in), and the bound on epsilon."""
        canaries, token_ids, seed = auditing.read_canaries(FLAGS.run_dir)
        if not canaries:
            return {}, None
        length = len(canaries[0].tokens)
        references = self._losses(auditing.make_references(FLAGS.references, length, token_ids, seed))
        losses = self._losses([canary.tokens for canary in canaries])
        bits = auditing.exposure_by_rank(losses, references)
        repetitions = np.array([canary.repetitions if canary.is_in else 0 for canary in canaries])
        exposures = {int(r): bits[repetitions == r] for r in np.unique(repetitions)}
        bound = auditing.audit(-losses, [canary.is_in for canary in canaries], _delta(), FLAGS.confidence)
        return exposures, bound

    def _losses(self, texts):
        examples = auditing.canary_examples(texts)
        batches = self._task.preprocessing.evaluate(examples, tf.constant([0, 0], tf.int64), FLAGS.eval_batch_size)
        return self._scorer(self._weights, batches)[:, 0]


def _participants() -> list[str]:
    """The training clients whose work the run used, canaries left out."""
    path = os.path.join(FLAGS.run_dir, cohort_log.LOG)
    try:
        with open(path, encoding="utf-8") as file:
            reported = {client for line in file for client in json.loads(line)["reported"]}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} does not say who took part ({error}): audit the whole directory of a run.") from error
    return sorted(c for c in reported if not c.startswith(auditing.PREFIX))


def _rows(attacks, exposures, bound):
    rows = [
        (
            f"membership: {name}",
            f"AUC {a.auc:.3f} ± {a.standard_error:.3f}; {a.true_positive_rates[0.01]:.1%} found at 1 % false alarms",
            "AUC 0.5; 1 % found",
        )
        for name, a in attacks.items()
    ]
    for repetitions, bits in exposures.items():
        told = "canaries not trained on" if repetitions == 0 else f"canaries there {repetitions} times"
        figures = f"{bits.mean():.2f} bits in the mean, {bits.max():.2f} at most"
        rows.append((f"exposure: {len(bits)} {told}", figures, "1.44 bits in the mean"))
    if bound is not None:
        accounted = _accounted()
        told = "none accounted" if accounted is None else f"{accounted:.3g} accounted"
        rows.append(
            (
                f"epsilon at delta {bound.delta:g}, {bound.confidence:.0%} sure",
                f"at least {bound.epsilon:.3f} ({bound.correct} of {bound.guesses} guesses right)",
                f"0; {told}",
            )
        )
    return rows


def _accounted() -> float | None:
    """The run's epsilon as accounted, if it is private."""
    rows = pd.read_csv(os.path.join(FLAGS.run_dir, run_directory.METRICS))
    return float(rows["privacy/epsilon"].iloc[-1]) if "privacy/epsilon" in rows else None


def _delta() -> float:
    """That of --audit_delta, else of the run's own guarantee."""
    config = run_directory.read_config(FLAGS.run_dir)
    guarantee = config.get("privacy") or config.get("privacy_inside_of_clients", {}).get("clients")
    return guarantee["delta"] if guarantee and FLAGS["audit_delta"].using_default_value else FLAGS.audit_delta


def _audit_mechanism() -> None:
    local_dp_flags.check_pairs()
    dp_flags.check()
    audited = {
        "--local_dp_clip": FLAGS.local_dp_clip,
        "--example_clip": FLAGS.example_clip,
        "--dp_mechanism": FLAGS.dp_mechanism if dp_flags.enabled() else None,
    }
    if sum(value is not None for value in audited.values()) != 1:
        told = ", ".join(f"{name}={value}" for name, value in audited.items())
        raise UserError(f"--mechanism audits one mechanism, and the flags are {told}: set exactly one, with its noise.")
    clip = FLAGS.local_dp_clip or FLAGS.example_clip or FLAGS.clipping_norm
    settings = auditing.CanaryAudit(
        FLAGS.audit_canaries, 10 * clip, FLAGS.audit_rounds, FLAGS.seed, FLAGS.audit_delta, FLAGS.confidence
    )
    bound, accounted = (_audit_updates if FLAGS.local_dp_clip is not None else _audit_process)(settings)
    told = f"{bound.correct} of {bound.guesses} guesses about {bound.canaries} canaries right"
    verdict = "refuted" if bound.epsilon > accounted else "not refuted"
    print(
        f"epsilon is at least {bound.epsilon:.3f} ({told}; {bound.confidence:.0%} sure, delta {bound.delta:g}); "
        f"accounted {accounted:.3f}: {verdict}"
    )
    if FLAGS.output_dir:
        files.make_directory(FLAGS.output_dir, "--output_dir")
        path = os.path.join(FLAGS.output_dir, "mechanism.json")
        files.write_json(path, {"lower_bound": bound, "accounted": accounted})
        print(f"Written: {path}")


def _audit_updates(settings):
    update = local_dp_flags.local_privacy()
    mechanism = privacy.LocalGaussian(update.noise_multiplier)
    return auditing.audit_updates(update.release, settings), _epsilon(mechanism, settings)


def _audit_process(settings):
    options = algorithms.Options(
        client_optimizer_fn=lambda rate: algorithms.build_optimizer("sgd", rate),
        server_optimizer=algorithms.build_optimizer("sgd", 1.0),
        client_learning_rate=1.0,
    )
    example = local_dp_flags.example_privacy()
    if example is not None:
        unit = "example"
        example = dataclasses.replace(example, batch_size=settings.canaries, num_microbatches=None)
        options = dataclasses.replace(options, example_privacy=example)
        mechanism = privacy.ExampleLevelSgd(example.noise_multiplier)
    else:
        unit = "client"
        plan = private_run.plan(settings.canaries, settings.canaries)
        options = plan.options(options, settings.seed)
        # Canaries are in all rounds or in none: nothing is amplified, whatever the run samples with.
        everywhere = {"participation": privacy.Participation()}
        if isinstance(plan.ledger.mechanism, privacy.Gaussian):
            everywhere["sampling"] = "none"
        mechanism = dataclasses.replace(plan.ledger.mechanism, **everywhere)
    bound = auditing.audit_process(
        lambda model: algorithms.build_fed_avg(model, options), unit, settings, training_flags.threads()
    )
    return bound, _epsilon(mechanism, settings)


def _epsilon(mechanism, settings):
    return privacy.epsilon(mechanism, settings.rounds, settings.delta)


if __name__ == "__main__":
    cli.run(main)
