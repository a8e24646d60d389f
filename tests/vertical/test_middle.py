"""U-shaped splits: a third party computes the top's body, labels and the loss stay with theirs."""

import dataclasses

import pytest
import tensorflow as tf

from tests.vertical import small
from tests.vertical.test_runs import figures
from tff_tx import vertical
from tff_tx.config.tools import AuditConfig
from tff_tx.core.errors import UserError
from tff_tx.run import vertical as runs
from tff_tx.run import vertical_audit
from tff_tx.vertical.crossing import VERSION
from tff_tx.vertical.training import received

CLINICS = {name: {"numeric": party["numeric"]} for name, party in small.TUMOURS.items()}
PARTIES = {**CLINICS, "service": {"middle": True}, "authority": {"label": "label"}}


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [{"dropout": 0.3, "missing": 0.3}, {"top": "sum", "secure_sum": True}, {"top": "concatenation"}],
    ids=["transformer", "secure sum", "concatenation"],
)
def test_gradients_of_all_parties_are_those_of_the_joint_model(more, tmp_path):
    """One tape over all weights, on pooled data; SGD with a rate of 1 moves weights by just their gradient."""
    settings = small.settings(parties=PARTIES, optimizer="sgd", learning_rate=1.0, **more)
    federation = small.federation(tmp_path, settings)
    federation.restore()
    parties = {name: stored._party for name, stored in federation._here.items()}
    label, middle, rows = federation.label, parties["service"], federation.label.schedule.batches("train", 1)[0]

    def halves():
        return {"top": label.top, **{name: party.half for name, party in parties.items()}}

    before = {name: half.trainable for name, half in halves().items()}
    seeds = {name: label.schedule.key(name, 1, 0) for name in ("service", "authority")}
    present = label.schedule.present(64, list(CLINICS), "", settings.missing, 1, 0)
    with tf.GradientTape() as tape:
        tape.watch(before)
        cuts = {
            name: parties[name].half.model.predict_on_batch(
                (before[name], parties[name].half.fixed), parties[name]._batch("train", 1, 0), True
            )
            for name in CLINICS
        }
        token = middle.half.model.predict_on_batch(
            (before["service"], middle.half.fixed), {**cuts, "present": present, "seed": seeds["service"]}, True
        )
        batch = {"service": token, "present": tf.ones([64, 1], tf.bool), "seed": seeds["authority"]}
        logits = label.top.model.predict_on_batch((before["top"], label.top.fixed), batch, True)
        loss = label.top.model.loss(logits, tf.constant(label.labels[rows]))
    gradients, said = tape.gradient(loss, before), {"split": "train", "epoch": 1, "batch": 0}
    answers = federation.ask("step", {"service": (said, ())})
    split_loss, sent = label.step(1, 0, received(answers, label, 64))
    assert list(sent) == ["service"]
    federation.ask("end", {"service": (said, [sent["service"]])})
    assert split_loss == pytest.approx(float(loss), abs=1e-5)
    small.assert_moved_by(before, {name: half.trainable for name, half in halves().items()}, gradients)


@pytest.mark.slow
def test_a_run_resumes_to_the_bit_without_a_party_and_is_audited(tmp_path):
    """With late gradients and local updates; the party in the middle lost an epoch, and one below all that it had."""
    configs = [small.config(**{"run.directory": str(tmp_path / name)}) for name in ("whole", "parts")]
    settings = small.settings(parties=PARTIES, epochs=3, missing=0.3, late=True, local_updates=2, layers=0, workset=2)
    settings = dataclasses.replace(settings, learning_rate=0.002)
    whole = runs.train(configs[0], settings, False)
    runs.train(configs[1], dataclasses.replace(settings, epochs=2), False)
    for name, epoch in (("service", 2), ("laboratory", 2), ("laboratory", 1)):
        checkpoints = tmp_path / "parts" / "parties" / name / "checkpoints"
        (checkpoints / f"round_{epoch}").rename(tmp_path / f"lost {name} {epoch}")
    assert runs.train(configs[1], settings, False) == whole
    assert figures(tmp_path / "whole") == figures(tmp_path / "parts")
    assert whole["test"]["roc_auc"] > 0.9
    row = figures(tmp_path / "whole")[
        -1
    ]  # a token from the middle, and those of three and two numbers, with a class token
    assert float(row["comm/upload_bytes_per_row"]) == (1 + 4 + 3) * 8 * 4
    assert row["comm/upload_bytes_per_row"] == row["comm/download_bytes_per_row"]
    alone = runs.evaluate(configs[0], dataclasses.replace(settings, without=("laboratory",)))
    assert 0.5 < alone["roc_auc"] < whole["test"]["roc_auc"]
    table = vertical_audit.audit_vertical(AuditConfig(run_dir=str(tmp_path / "whole"), vertical=True))
    assert {line.split(" | ")[0] for line in table.splitlines()[2:]} == {"| service"}


def test_the_middle_rejects_another_version_and_passes_on_what_does_not_fit(tmp_path):
    federation = small.federation(tmp_path, small.settings(parties=PARTIES, layers=0))
    with pytest.raises(UserError, match="service: its messages are of version 1, those of .* of 9"):
        federation.ask("open", {"service": ({"version": VERSION + 8, "rows": 569, "alignment": ""}, ())})
    with pytest.raises(UserError, match="service: vertical.parties: clinic: it has 569 rows, the party with .* 3"):
        vertical.open_federation(["service"], federation.ask, 3, "")
