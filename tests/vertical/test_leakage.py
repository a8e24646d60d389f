"""Attacks find what is there, and do not find what a defence hides; a defence that is broken is found out."""

import numpy as np
import pytest
import tensorflow as tf

from tests.vertical import small
from tff_tx.config import RunConfig
from tff_tx.config.tools import AuditConfig
from tff_tx.core.errors import UserError
from tff_tx.run import vertical, vertical_audit
from tff_tx.vertical import leakage
from tff_tx.vertical.crossing import Guard, Wire
from tff_tx.vertical.defences import max_norm
from tff_tx.vertical.hijacking import hijack
from tff_tx.vertical.schedule import Schedule

KEY = tf.constant([3, 4], tf.int64)


@pytest.fixture
def batches(rng):
    """Gradients (p - y) w of a logistic regression on rare labels: short of the many, long and opposite of the few."""
    labels = [(rng.random(200) < 0.1).astype(np.int32) for _ in range(5)]
    weights = rng.normal(size=(1, 1, 8))
    gradients = [((rng.uniform(0.05, 0.2, 200) - y)[:, None, None] * weights).astype(np.float32) for y in labels]
    return gradients, labels


def aucs(batches, defend):
    gradients, labels = batches
    sent = [defend(tf.constant(g), tf.constant(y), KEY + i).numpy() for i, (g, y) in enumerate(zip(gradients, labels))]
    norms = leakage.labels_from_norms(np.concatenate(sent), np.concatenate(labels))
    return norms, leakage.labels_from_directions(sent, labels)


def test_gradients_tell_rare_labels_by_norm_and_by_direction(batches):
    assert min(aucs(batches, lambda g, y, key: g)) > 0.99


def test_max_norm_hides_norms_and_half_of_the_directions(batches):
    norms, directions = aucs(batches, max_norm)
    assert norms < 0.7
    assert 0.55 < directions < 0.95


@pytest.mark.slow
def test_a_malicious_label_party_hijacks_a_bottom_that_it_may_train(rng):
    """A narrow linear bottom follows the gradients; one that does not learn, or sends noise, gives no more away."""
    features = (rng.normal(size=(600, 3)) @ rng.normal(size=(3, 12)) + 0.1 * rng.normal(size=(600, 12))).astype("f4")
    schedule, start = Schedule(1, 600, 64, 0.4), 0.3 * rng.normal(size=(12, 2)).astype(np.float32)

    def hijacked(rate, noise, steps=200):
        weights, last = start.copy(), []

        def ask(phase, asked):
            ((said, gradients),) = asked.values()
            if len(gradients):
                x = features[last.pop()]
                weights[:] -= rate * x.T @ gradients[0][:, 0] / len(x)
            if phase == "step":
                last[:] = [schedule.batches("train", said["epoch"])[said["batch"]]]
            sent = features[last[0]] @ weights + noise * rng.normal(size=(len(last[0]), 2)) if last else np.zeros(2)
            return {"shop": ({}, [sent.astype(np.float32)[:, None]])}

        return hijack(ask, "shop", features, schedule, Wire(small.settings(cut_size=2)), 1, steps)

    before = hijacked(0.0, 0.0)
    assert hijacked(0.1, 0.0) > before + 0.1
    assert hijacked(0.1, 10.0) < 0.2


def test_clip_and_noise_hide_both(batches):
    assert max(aucs(batches, lambda g, y, key: Guard(0.1, 10.0)(g, key))) < 0.6


def test_a_defence_without_its_noise_is_found_out(batches):
    assert min(aucs(batches, lambda g, y, key: Guard(100.0, 0.0)(g, key))) > 0.99


def test_few_labels_complete_a_bottom_that_has_learned_them(rng):
    labels = rng.integers(0, 3, 400)
    learned = np.eye(3)[labels] + 0.1 * rng.normal(size=(400, 3))
    assert leakage.labels_from_activations(learned, labels) > 0.95
    assert leakage.labels_from_activations(rng.normal(size=(400, 3)), labels) == pytest.approx(0.5, abs=0.1)


def test_a_linear_bottom_gives_its_features_away_and_noise_hides_them(rng):
    features = rng.normal(size=(500, 3)).astype(np.float32)
    activations = (features @ rng.normal(size=(3, 8)))[:, None].astype(np.float32)
    assert leakage.features_from_activations(activations, features) > 0.99
    noised = Guard(1.0, 5.0)(tf.constant(activations), KEY).numpy()
    assert leakage.features_from_activations(noised, features) < 0.2


@pytest.mark.slow
def test_a_run_is_audited(tmp_path):
    config = small.config(**{"run.directory": str(tmp_path)})
    vertical.train(config, small.settings(epochs=1, layers=0, top="concatenation"), False)
    table = vertical_audit.audit_vertical(AuditConfig(run_dir=str(tmp_path), vertical=True, hijacking_steps=20))
    rows = {line.split(" | ")[1].split(" ")[0]: line for line in table.splitlines()[2:]}
    assert len(table.splitlines()) == 7, rows
    assert "Marvell" in table.splitlines()[0]
    assert "## Leakage through the cut" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "audit" / "vertical.json").exists()


@pytest.mark.slow
def test_numbers_that_are_missing_are_no_figures_to_reconstruct(tmp_path):
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=[2, 200]).round(3)
    bank = [f"{x},{'yes' if x + y > 0 else 'no'}" for x, y in zip(first, second)]
    shop = [f"{'' if i % 7 == 2 else y},{x}" for i, (x, y) in enumerate(zip(first, second))]
    (tmp_path / "bank.csv").write_text("\n".join(["x,label", *bank]))
    (tmp_path / "shop.csv").write_text("\n".join(["y,z", *shop]))
    parties = {
        "bank": {"files": [str(tmp_path / "bank.csv")], "numeric": ["x"], "label": "label"},
        "shop": {"files": [str(tmp_path / "shop.csv")], "numeric": ["y", "z"]},
    }
    config = RunConfig.of({"run.directory": str(tmp_path / "run")})
    settings = small.settings(parties=parties, epochs=1)
    vertical.train(config, settings, False)
    features = small.federation(tmp_path / "run", settings, config).features("shop")
    given = np.array([np.nan if i % 7 == 2 else y for i, y in enumerate(second)])
    np.testing.assert_allclose(features[:, 0], np.where(np.isnan(given), np.nanmean(given), given), rtol=1e-6)
    table = vertical_audit.audit_vertical(AuditConfig(run_dir=config.run.directory, vertical=True, hijacking_steps=5))
    assert "nan" not in table


@pytest.mark.slow
def test_a_federated_transfer_is_audited_on_its_rows_in_common(tmp_path):
    """A linear bottom gives its columns away, which noise hides; 30 rows are no more than 15 known and 15 found."""
    config = small.config(**{"run.directory": str(tmp_path)})
    settings = small.settings(epochs=1, layers=0, top="concatenation", common_rows=30)
    vertical.train(config, settings, False)
    table = vertical_audit.audit_vertical(AuditConfig(run_dir=str(tmp_path), vertical=True))
    names = [cell.strip() for cell in table.splitlines()[0].split("|")]
    rows = {line.split("|")[2].split()[2]: line.split("|") for line in table.splitlines()[2:]}
    cells = {what: dict(zip(names, map(str.strip, row))) for what, row in rows.items()}
    assert float(cells["activations,"]["none"]) > 0.5 > float(cells["activations,"]["clip and noise"])
    assert 0.5 <= float(cells["gradients'"]["none"]) <= 1.0
    assert {cells["a"][name] for name in ("none", "clip and noise")} == {""}  # nothing is hijacked


def test_an_audit_names_what_is_no_run(tmp_path):
    with pytest.raises(UserError, match="is not that of a vertical federation"):
        vertical_audit.audit_vertical(AuditConfig(run_dir=str(tmp_path), vertical=True))
    config = small.config(**{"run.directory": str(tmp_path)})
    vertical._write_config(str(tmp_path), config, small.settings())
    (tmp_path / "parties" / "clinic").mkdir(parents=True)
    with pytest.raises(UserError, match="has nothing of laboratory: attacks see both sides of the cut; audit a run"):
        vertical_audit.audit_vertical(AuditConfig(run_dir=str(tmp_path), vertical=True))
