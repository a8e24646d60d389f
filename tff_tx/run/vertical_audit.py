"""Audit of a vertical federation: what gradients and activations that cross the cut give away."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np
import tensorflow as tf

from tff_tx import vertical
from tff_tx.config import RunConfig
from tff_tx.config.tools import AuditConfig
from tff_tx.config.vertical import VerticalConfig
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting
from tff_tx.run import directory, reporting
from tff_tx.run.vertical_federation import Federation, party_directory
from tff_tx.vertical import defences, leakage
from tff_tx.vertical.hijacking import hijack

_LABEL_EPSILON = 1.0
_POWER = 4.0
ATTACKS = {
    "norm": "labels from gradients' norms (AUC)",
    "direction": "labels from gradients' directions (AUC)",
    "completion": "labels from the party's own bottom, 40 known (AUC)",
    "reconstruction": "features from activations, 100 rows known (R^2)",
    "hijacking": "features by a malicious label party, 100 rows known (R^2)",
}


def audit_vertical(own: AuditConfig) -> str:
    """Attacks one more epoch of a trained run, as it is and with each defence; returns a Markdown table.

    The rows of the table are the feature parties' attacks on labels, and the label party's on features. Writes
    `vertical.json` and a section of the report.

    Raises:
      UserError: If there is no such run, or its labels are numbers.
    """
    config, settings = _stored(own.run_dir)
    settings = dataclasses.replace(settings, secure_sum=False)  # parties' own parts, for its column of the table
    if settings.kind != "classification":
        raise UserError(f"{setting('audit.run_dir')}={own.run_dir}: attacks on labels are on classes, not on numbers.")
    if absent := [n for n in settings.party_configs() if not os.path.isdir(party_directory(own.run_dir, n))]:
        raise UserError(
            f"{setting('audit.run_dir')}={own.run_dir} has nothing of {absent[0]}: attacks see both sides of the cut; "
            "audit a run with all parties in one process."
        )
    federation = Federation(config, settings, own.run_dir, trained=True)
    federation.restore_trained(own.run_dir)
    federation.label.defend_with(None)
    sent = _epoch(federation, settings)
    federation.restore_trained(own.run_dir)
    federation.label.labels = vertical.randomized_labels(
        federation.labels, len(federation.classes), _LABEL_EPSILON, config.run.seed
    )
    randomized = _epoch(federation, settings)
    found = {name: _attacks(federation, name, settings, sent, randomized) for name in federation.label.others}
    bound = max(_median_norm(arrays) for arrays in sent.activations.values())
    for defence, changed in (("none", settings), ("clip and noise", _noised(settings, bound))):
        for name, value in _hijacked(config, changed, own).items():
            found[name]["hijacking"][defence] = value
    table = _table(found)
    path = own.output_dir or os.path.join(own.run_dir, "audit")
    files.make_directory(path, setting("audit.output_dir"))
    files.write_json(os.path.join(path, "vertical.json"), found)
    reporting.add_section(own.run_dir, "Leakage through the cut", table)
    return table


def _stored(run_dir: str) -> tuple[RunConfig, VerticalConfig]:
    path = os.path.join(run_dir, directory.CONFIG)
    try:
        stored = files.parse_json(path)
        return RunConfig.from_json(stored["run"]), VerticalConfig(**stored["vertical"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not that of a vertical federation ({error}): name another run.") from None


@dataclasses.dataclass
class _Sent:
    """What crossed the cut in an epoch, by party and batch, and the rows of the batches."""

    gradients: dict[str, list]
    activations: dict[str, list]
    rows: list[np.ndarray]


def _epoch(federation: Federation, settings: VerticalConfig) -> _Sent:
    """An epoch whose weights are dropped, without a defence."""
    label = federation.label
    sent = _Sent(*({n: [] for n in label.others} for _ in range(2)), label.schedule.batches(label.asks_for, 1))

    def ask(phase, asked):
        answers = federation.ask(phase, asked)
        for name, (_, arrays) in asked.items():
            for received, found in ((sent.gradients[name], arrays), (sent.activations[name], answers[name][1])):
                if len(found):  # one for each batch, in their order
                    shape = label.cut_shape(name, len(sent.rows[len(received)]))
                    received.append(label.wire.unpack(found, shape))
        return answers

    vertical.train_epoch(label, ask, settings, 1)
    return sent


def _attacks(federation, name, settings, sent, randomized) -> dict[str, dict[str, float]]:
    """AUC or R^2 by attack and defence."""
    labels = [federation.labels[rows] for rows in sent.rows]
    found: dict[str, dict[str, Any]] = {attack: {} for attack in ATTACKS}
    for defence, gradients in _defended(sent.gradients[name], labels, settings, len(federation.classes)).items():
        found["norm"][defence] = leakage.labels_from_norms(np.concatenate(gradients), np.concatenate(labels))
        found["direction"][defence] = leakage.labels_from_directions(gradients, labels)
    of_randomized = randomized.gradients[name]
    defence = f"label DP, epsilon {_LABEL_EPSILON:g}"
    found["norm"][defence] = leakage.labels_from_norms(np.concatenate(of_randomized), np.concatenate(labels))
    found["direction"][defence] = leakage.labels_from_directions(of_randomized, labels)
    # In federated transfer the rows in common, which may be few, come again and again: attackers know half of them.
    rows, first = np.unique(np.concatenate(sent.rows), return_index=True)
    first, half = np.sort(first), len(rows) // 2
    rows, activations = np.concatenate(sent.rows)[first], np.concatenate(sent.activations[name])[first]
    found["completion"]["none"] = leakage.labels_from_activations(activations, federation.labels[rows], min(40, half))
    features = federation.features(name)
    if features is not None:
        own, known = features[rows], min(100, half)
        found["reconstruction"]["none"] = leakage.features_from_activations(activations, own, known)
        guard, key = vertical.Guard(_median_norm([activations]), 1.0), tf.constant([5, 6], tf.int64)
        noised = guard(tf.constant(activations), key).numpy()
        found["reconstruction"]["clip and noise"] = leakage.features_from_activations(noised, own, known)
        if settings.top == "sum" and len(sent.activations) > 1:
            total = sum(map(np.concatenate, sent.activations.values()))[first]
            found["reconstruction"]["secure sum"] = leakage.features_from_activations(total, own, known)
    return found


def _noised(settings: VerticalConfig, clip: float) -> VerticalConfig:
    return dataclasses.replace(settings, cut_clip=clip, cut_noise=1.0)


def _hijacked(config: RunConfig, settings: VerticalConfig, own: AuditConfig) -> dict[str, float]:
    """R^2 by party of what a malicious label party reconstructs; weights are dropped.

    Not of federated transfer, where the rows in common are all that is sent in training.
    """
    federation = Federation(config, settings, own.run_dir, trained=True)
    federation.restore_trained(own.run_dir)
    found = {}
    for name in federation.label.others if own.hijacking_steps and settings.common_rows is None else ():
        if (features := federation.features(name)) is not None:
            label = federation.label
            of = (federation.ask, name, features, label.schedule, label.wire, label.cut_shape(name, 1)[1])
            found[name] = hijack(*of, own.hijacking_steps)
    return found


def _defended(gradients, labels, settings, classes):
    """What a party would have received, by defence."""
    guard = vertical.Guard(_median_norm(gradients), 1.0)
    applied = {
        "none": lambda g, y, key: g,
        "max_norm": defences.max_norm,
        "clip and noise": lambda g, y, key: guard(g, key),
    }
    if classes == 2:
        applied["Marvell"] = vertical.marvell(_POWER)
    if (own := vertical.gradient_defence(settings, classes)) is not None:
        applied["this run's"] = own
    keys = [tf.constant([1, number], tf.int64) for number in range(len(gradients))]
    return {
        name: [np.asarray(f(tf.constant(g), tf.constant(y), key)) for g, y, key in zip(gradients, labels, keys)]
        for name, f in applied.items()
    }


def _median_norm(arrays) -> float:
    norms = np.concatenate([np.linalg.norm(a.reshape(len(a), -1), axis=1) for a in arrays])
    return float(max(np.median(norms), 1e-9))


def _table(found) -> str:
    names = list(dict.fromkeys(d for attacks in found.values() for by in attacks.values() for d in by))
    lines = ["| party | attack | " + " | ".join(names) + " |", "|---" * (2 + len(names)) + "|"]
    for party, attacks in found.items():
        for attack, by in attacks.items():
            cells = (f"{by[name]:.3f}" if name in by else "" for name in names)
            lines.append(f"| {party} | {ATTACKS[attack]} | {' | '.join(cells)} |")
    return "\n".join(lines)
