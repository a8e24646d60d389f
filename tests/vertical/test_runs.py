"""Runs of vertical federations: their directory, resuming, missing parties, predictions, and bad data."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from tests.vertical import small
from tff_tx import datasets
from tff_tx.config import RunConfig
from tff_tx.core.errors import UserError
from tff_tx.federation.alignment import RowOrder
from tff_tx.privacy import outputs
from tff_tx.run import vertical
from tff_tx.run.assemble.vertical import load_party
from tff_tx.run.callbacks import MetricsFile
from tff_tx.run.vertical_federation import common_epoch
from tff_tx.vertical import open_federation, tables
from tff_tx.vertical.crossing import VERSION, Guard, from_wire, to_wire
from tff_tx.vertical.defences import randomized_labels
from tff_tx.vertical.schedule import Schedule


def figures(directory):
    with open(directory / "metrics.csv", newline="") as file:
        return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_run_resumes_to_the_bit_and_predicts(tmp_path):
    """Interrupted after the first of two epochs, of which one party has not saved the second."""
    runs = {name: small.config(**{"run.directory": str(tmp_path / name)}) for name in ("whole", "parts")}
    settings = small.settings(epochs=3, missing=0.3, dropout=0.1, layers=0, top="concatenation")
    whole = vertical.train(runs["whole"], settings, False)
    vertical.train(runs["parts"], dataclasses.replace(settings, epochs=2), False)
    newest = tmp_path / "parts" / "parties" / "laboratory" / "checkpoints" / "round_2"
    newest.rename(tmp_path / "lost")  # killed before it was saved
    assert vertical.train(runs["parts"], settings, False) == whole
    assert figures(tmp_path / "whole") == figures(tmp_path / "parts")
    assert whole["test"]["roc_auc"] > 0.9
    alone = vertical.evaluate(runs["whole"], dataclasses.replace(settings, without=("laboratory",)))
    assert 0.5 < alone["roc_auc"] < whole["test"]["roc_auc"]
    path = vertical.predict(runs["whole"], settings)
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 569
    assert float(rows[0]["benign"]) + float(rows[0]["malignant"]) == pytest.approx(1.0, abs=1e-5)
    paths = [str(path.relative_to(tmp_path / "whole")) for path in (tmp_path / "whole").rglob("*") if path.is_file()]
    assert [path for path in paths if not outputs.mark_of(path, runs["whole"], outputs.VERTICAL_FILES)] == []
    assert "Not to be passed on unasked: `parties/NAME/`" in (tmp_path / "whole" / "report.md").read_text()
    with pytest.raises(UserError, match="vertical.cut_size was 8 in run.directory=.*, is 16: a run goes on with the"):
        vertical.train(runs["whole"], dataclasses.replace(settings, cut_size=16), False)


@pytest.mark.slow
@pytest.mark.parametrize(("where", "name"), [(MetricsFile, "append"), (vertical.Federation, "save")])
def test_a_run_that_is_killed_between_its_files_has_a_row_of_each_epoch(where, name, tmp_path, monkeypatch):
    config, settings = small.config(**{"run.directory": str(tmp_path)}), small.settings(epochs=3, layers=0)
    whole = getattr(where, name)

    def killed(self, *args):
        if args[-1] == 2:
            raise KeyboardInterrupt
        whole(self, *args)

    monkeypatch.setattr(where, name, killed)
    with pytest.raises(KeyboardInterrupt):
        vertical.train(config, settings, False)
    monkeypatch.setattr(where, name, whole)
    vertical.train(config, settings, False)
    assert [row["round_num"] for row in figures(tmp_path)] == ["1", "2", "3"]


def test_evaluation_needs_a_run(tmp_path):
    with pytest.raises(UserError, match="holds no run of a vertical federation: train first"):
        vertical.evaluate(small.config(**{"run.directory": str(tmp_path)}), small.settings())


def answering(**own):
    """A party that compares, as `FeatureParty.answer` does, without a model."""
    from tff_tx.vertical.feature_party import FeatureParty

    party = FeatureParty.__new__(FeatureParty)
    party._schedule, party._alignment = Schedule(0, own.get("rows", 10), 4, 0.2), own.get("alignment", "a")
    return lambda phase, asked: {name: party.answer(phase, *message) for name, message in asked.items()}


@pytest.mark.parametrize(
    ("own", "error"),
    [
        ({"rows": 9}, "it has 9 rows, the party with the labels 10: rows must be those in common, in one order"),
        (
            {"alignment": "b"},
            "its order of rows is of the intersection b, that of the party with the labels of a: align anew",
        ),
        ({"alignment": ""}, "its order of rows is of the intersection none, that"),
    ],
)
def test_parties_that_do_not_fit_are_told_before_anything_is_sent(own, error):
    with pytest.raises(UserError, match=error):
        open_federation(["shop"], answering(**own), 10, "a")


def test_parties_that_do_not_fit_leave_no_directory(tmp_path):
    half = {**small.TUMOURS["laboratory"], "files": [str(tmp_path / "few.csv")]}
    (tmp_path / "few.csv").write_text("mean_area,worst_area,mean_symmetry\n1,2,3\n2,3,4\n3,4,5\n")
    settings = small.settings(parties={**small.TUMOURS, "laboratory": half}, layers=0)
    with pytest.raises(UserError, match="laboratory: it has 3 rows, the party with the labels 569"):
        vertical.train(small.config(**{"run.directory": str(tmp_path / "run")}), settings, False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (
            {"test_share": 0.9999},
            "clinic has 569 rows, of which vertical.test_share=0.9999 holds out 569: training",
        ),
        ({"common_rows": 600}, "common_rows=600: there are 455 rows in common to train on: lower it"),
        ({"parties": {"clinic": {**small.TUMOURS["clinic"], "files": ["/no.csv"]}}}, "parties: clinic: .*'/no.csv'"),
    ],
)
def test_rows_must_be_there_to_train_on(more, error):
    settings = small.settings(**more)
    with pytest.raises(UserError, match=error):
        load_party(small.config(), settings, "clinic", settings.party_configs()["clinic"])


def test_programs_of_other_runs_say_what_a_vertical_one_is(tmp_path):
    vertical._write_config(str(tmp_path), small.config(), small.settings())
    with (
        open(tmp_path / "config.json") as file,
        pytest.raises(UserError, match="use programs.vertical, or"),
    ):
        RunConfig.from_json(json.load(file))


def test_another_version_is_told(monkeypatch):
    monkeypatch.setattr("tff_tx.vertical.training.VERSION", VERSION + 1)
    with pytest.raises(UserError, match="of version 1, those of the party with the labels of 2: use the same release"):
        open_federation(["shop"], answering(), 10, "a")


def rows_of(path, text, order=None, **party):
    path.write_text(text)
    of_party = small.VerticalConfig(
        parties={"shop": {"files": [str(path)], "order": order, **party}}
        if order
        else {"shop": {"files": [str(path)], **party}}
    ).party_configs()["shop"]
    return of_party, tables.read_rows(datasets.DataSpec(), "shop", of_party)


def test_rows_come_in_the_common_order_of_their_own_table_alone(tmp_path):
    table, order = tmp_path / "shop.csv", tmp_path / "order.json"
    table.write_text("x,y\n1,a\n2,b\n3,c\n")
    RowOrder("tag", (2, 0), datasets.sources.file_digest([str(table)])).save(str(order))
    party, found = rows_of(table, table.read_text(), str(order), numeric=["x"])
    assert found.alignment == "tag"
    assert found.places.tolist() == [2, 0]
    data = tables.party_data(party, found.rows, tables.find_facts(party, found.rows), None, 8)
    np.testing.assert_array_equal(data.inputs["numbers"], [[3.0], [1.0]])
    further = tables.read_rows(datasets.DataSpec(), "shop", party, with_further=True)
    assert (further.places.tolist(), further.common) == ([2, 0, 1], 2)
    with pytest.raises(UserError, match="order of another table than .*, or of an earlier version of it: align anew"):
        rows_of(table, "x,y\n1,a\n2,b\n", str(order), numeric=["x"])


def test_columns_that_are_not_there_or_no_numbers_are_named(tmp_path):
    party, found = rows_of(tmp_path / "t.csv", "x,y\n1,a\noh,b\n", numeric=["x"])
    with pytest.raises(UserError, match="t.csv, line 3: the column 'x' has 'oh'"):
        tables.find_facts(party, found.rows)
    with pytest.raises(UserError, match="t.csv, line 2: there is no column 'z'; the columns are x, y"):
        tables.find_facts(dataclasses.replace(party, numeric=("z",)), found.rows)
    with pytest.raises(UserError, match="t.csv, line 2: there is no column 'pixels'; the columns are x, y"):
        tables.party_data(dataclasses.replace(party, numeric=(), image=(0, 4)), found.rows, {}, None, 8)


def test_labels_are_checked_as_those_of_any_table(tmp_path):
    """Spellings of one label, names that are given, and numbers whose point may be either."""
    party, found = rows_of(tmp_path / "t.csv", "x,y\n1,Yes\n2,no\n3,yes\n", numeric=["x"], label="y")
    with pytest.raises(UserError, match="^data.label_column=y: the labels 'Yes', 'yes' are spellings of one"):
        tables.label_names(datasets.DataSpec(), party, found.rows)
    with pytest.raises(UserError, match="^data.label_column=y: the label '-' stands among numbers"):
        tables.label_names(
            datasets.DataSpec(), party, [("row 1", {"y": "1"}), ("row 2", {"y": "-"}), *[("", {"y": 0})]]
        )
    names = tables.label_names(datasets.DataSpec(label_names=("yes", "no")), party, found.rows)
    data = tables.party_data(party, found.rows, tables.find_facts(party, found.rows), names, 8)
    assert data.labels.tolist() == [0, 1, 0]
    with pytest.raises(
        UserError, match=r"t.csv, line 3: the label 'no' is not one of the 1 known labels \(yes\); correct"
    ):
        tables.party_data(party, found.rows, tables.find_facts(party, found.rows), ["yes"], 8)
    party, found = rows_of(tmp_path / "t.csv", "x;y\n1;1.234\n2;3,5\n", numeric=["x"], label="y")
    with pytest.raises(UserError, match="t.csv, line 2: the column 'y' has '1.234', whose point may group thousands"):
        tables.party_data(party, found.rows, tables.find_facts(party, found.rows), None, 8)


def test_all_draw_the_same_batches_and_hold_out_the_same_rows():
    schedule = Schedule(5, 103, 10, 0.2)
    train, test = np.concatenate(schedule.batches("train", 1)), schedule.split("test")
    assert sorted([*train, *test]) == list(range(103))
    assert len(test) == 21
    assert not np.array_equal(train, np.concatenate(schedule.batches("train", 2)))
    assert not np.array_equal(schedule.key("a", 1, 0), schedule.key("b", 1, 0))


def test_values_cross_in_half_the_bytes(rng):
    values = rng.normal(size=(3, 2, 4)).astype(np.float32)
    for dtype, error in (("float32", 0.0), ("float16", 1e-3), ("bfloat16", 1e-2)):
        sent = to_wire(values, dtype)
        assert sent.nbytes == values.nbytes // (1 if dtype == "float32" else 2)
        assert np.abs(from_wire(sent, dtype) - values).max() <= error * np.abs(values).max()


def test_what_is_sent_of_a_row_is_bounded_and_accounted_for(rng):
    values = rng.normal(size=(50, 2, 4)).astype(np.float32)
    sent = Guard(0.5)(small.tf.constant(values), small.tf.constant([1, 2], small.tf.int64)).numpy()
    assert np.linalg.norm(sent.reshape(50, -1), axis=1).max() <= 0.5 + 1e-6
    # A Gaussian of multiplier 2 for a sensitivity of two clips is one of multiplier 1 for one: rho = 1/2.
    assert Guard(1.0, 2.0).epsilon(1, 1e-5) == pytest.approx(4.377, abs=1e-2)
    assert Guard(1.0, 2.0).epsilon(4, 1e-5) == pytest.approx(Guard(1.0, 1.0).epsilon(1, 1e-5))
    assert Guard(1.0).epsilon(1, 1e-5) == float("inf")


def test_labels_are_randomized_as_often_as_epsilon_says(rng):
    labels = rng.integers(0, 4, 40_000).astype(np.int32)
    found = randomized_labels(labels, 4, 1.0, 7)
    assert np.mean(found == labels) == pytest.approx(np.e / (np.e + 3), abs=0.01)
    wrong = (found - labels)[found != labels] % 4
    np.testing.assert_allclose(np.bincount(wrong)[1:] / len(wrong), 1 / 3, atol=0.02)


def test_settings_are_stored(tmp_path):
    config, settings = small.config(**{"run.directory": str(tmp_path)}), small.settings()
    vertical._write_config(str(tmp_path), config, settings)
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["vertical"]["cut_size"] == 8
    assert vertical._checked(str(tmp_path), config, settings) == settings
    del stored["vertical"]["workset"]  # of an earlier release, which did not have the setting
    (tmp_path / "config.json").write_text(json.dumps(stored))
    assert vertical._checked(str(tmp_path), config, settings) == settings
    with pytest.raises(UserError, match="vertical.workset was 1 in .*, is 2"):
        vertical._checked(str(tmp_path), config, dataclasses.replace(settings, workset=2))
    with pytest.raises(UserError, match="run.seed was 3"):
        vertical._checked(str(tmp_path), small.config(**{"run.seed": 4}), settings)


@pytest.mark.parametrize(
    ("saved", "epoch", "said"),
    [
        (([1, 2], [1, 2]), 2, []),
        (([4, 5], [3, 4]), 4, ["b has saved nothing after epoch 4: all parties go back from epoch 5 to 4"]),
        (([4, 6], [3, 5], [0, 3]), 0, ["c has saved nothing after epoch 3: all parties go back from epoch 6 to 0"]),
    ],
)
def test_parties_go_back_to_what_all_have(saved, epoch, said, caplog):
    restore = lambda most: [{"epoch": max([e for e in own if e <= most], default=0)} for own in saved]  # noqa: E731
    assert common_epoch("abc"[: len(saved)], restore) == epoch
    assert caplog.messages == said


@pytest.mark.slow
def test_what_a_party_has_lost_is_said_and_an_untrained_model_predicts_nothing(tmp_path, caplog):
    config, settings = small.config(**{"run.directory": str(tmp_path)}), small.settings(layers=0)
    vertical._write_config(str(tmp_path), config, settings)
    federation = small.federation(tmp_path, settings)
    federation.restore()
    for epoch in (0, 1, 2):
        federation.save(epoch)
    assert small.federation(tmp_path, settings).restore_trained(str(tmp_path)) == 2
    assert not caplog.records
    lost = tmp_path / "parties" / "laboratory" / "checkpoints"
    for epoch in (2, 1):
        (lost / f"round_{epoch}").rename(tmp_path / str(epoch))
        if epoch == 2:
            assert federation.restore() == 1
    expected = "laboratory has saved nothing after epoch {0}: all parties go back from epoch 2 to {0}"
    with pytest.raises(UserError, match="has no epoch of training that all parties have saved: train first"):
        vertical.predict(config, settings)
    assert caplog.messages == [expected.format(1), expected.format(0)]
