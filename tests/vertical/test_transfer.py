"""Federated transfer: a party without labels predicts by rows in common alone."""

import csv
import dataclasses
import json
import re
import types

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn.datasets import load_breast_cancer

from tests.processes import run
from tests.vertical import small
from tests.vertical.test_parties import SMALL, commands, forked, told
from tff_tx import datasets
from tff_tx.core.errors import UserError
from tff_tx.federation.alignment import RowOrder
from tff_tx.run import vertical
from tff_tx.run.vertical_federation import StoredParty
from tff_tx.vertical import open_federation
from tff_tx.vertical.schedule import Schedule
from tff_tx.vertical.training import received


def test_batches_of_common_rows_go_round_them():
    schedule = Schedule(1, 100, 8, 0.2, 5)
    batches = schedule.batches("common", 3)
    assert len(batches) == len(schedule.batches("train", 3)) == 10
    rows = np.concatenate(batches)
    assert len(np.unique(rows)) == 5
    assert set(rows) <= set(schedule.split("train"))
    assert set(rows) == set(np.concatenate(schedule.batches("common", 4)))
    assert set(schedule.known(False)) == set(rows) | set(schedule.split("test"))
    assert set(schedule.known(True)) == set(schedule.split("train"))


SCHEDULES = Schedule(1, 100, 8, 0.2, 5, 3), Schedule(2, 100, 7, 0.2, 21), Schedule(3, 50, 8, 0.1)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_batch_is_that_of_all_batches_as_they_were_always_drawn(schedule):
    """Runs that were begun by an earlier release resume with the same batches."""
    for epoch in (1, 2):
        train = schedule.split("train")
        train = train[np.random.default_rng([schedule.seed, 1, epoch]).permutation(len(train))]
        common, draw = schedule.common_rows(), np.random.default_rng([schedule.seed, 3, epoch])
        number, size = -(-len(train) // schedule.batch_size), min(schedule.batch_size, len(common))
        passes = np.concatenate([draw.permutation(common) for _ in range(number * size)])[: number * size]
        expected = {"common": passes, "train": train, **{name: schedule.split(name) for name in ("test", "all")}}
        for split, rows in expected.items():
            batches = schedule.batches(split, epoch)
            np.testing.assert_array_equal(np.concatenate(batches), rows)
            for number in reversed(range(len(batches))):
                np.testing.assert_array_equal(schedule.batch(split, epoch, number), batches[number])


def test_an_epoch_draws_its_passes_once(monkeypatch):
    """Of 20,000 rows in batches of 8, with 80 in common: not all rows for each of the 2,500 batches."""
    drawn, make = [], np.random.default_rng

    class Counting:
        def __init__(self, seed):
            self._draw = make(seed)

        def permutation(self, rows):
            found = self._draw.permutation(rows)
            drawn.append(len(found))
            return found

    monkeypatch.setattr(np.random, "default_rng", Counting)
    schedule = Schedule(1234, 25_000, 8, 0.2, 80)
    for split in ("common", "train", "all"):
        for number in range(2500):
            schedule.batch(split, 7, number)
    assert sum(drawn) < 30 * schedule.rows


def test_rows_that_one_party_alone_has_change_nothing_of_those_in_common():
    """The party with the labels trains on 30 rows of its own, the other predicts 17 of its own; neither knows of it."""
    both, label, other = (Schedule(1, 100, 8, 0.2, 5, further) for further in (0, 30, 17))
    for split in ("test", "all"):
        np.testing.assert_array_equal(label.split(split), both.split(split))
    np.testing.assert_array_equal(label.common_rows(), both.common_rows())
    assert label.split("train").tolist() == [*both.split("train"), *range(100, 130)]
    batches = label.batches("common", 3)
    assert len(batches) == len(label.batches("train", 3)) == 14
    for number, batch in enumerate(batches):
        np.testing.assert_array_equal(other.batch("common", 3, number), batch)
    assert np.concatenate(other.batches("further", 0)).tolist() == list(range(100, 117))
    assert set(range(100, 117)) < set(other.known(False))


def predicting(path, further=3):
    """A party with rows of its own behind two common ones, and what it answers to predictions."""
    stored = StoredParty(types.SimpleNamespace(name="shop", further=further), {}, str(path), np.array([4, 0, 1, 2, 3]))
    stored._is_ready = True
    return stored, lambda classes, *arrays: stored.answer("predicted", {"classes": classes}, arrays)


def test_predictions_that_come_are_of_a_partys_own_rows(tmp_path):
    stored, answer = predicting(tmp_path)
    good = np.full([3, 2], 0.5, np.float32)
    wrong = [("yn", good[:2]), ("yn", good[:0]), ("yn", good, good), ("yn",), ("y", good), ("yn", good.astype(int))]
    for classes, *arrays in [*((list(names), *arrays) for names, *arrays in wrong), ("yn", good), ([1, 2], good)]:
        with pytest.raises(UserError, match="predictions came that are not of the 3 rows that it alone has"):
            answer(classes, *arrays)
    with pytest.raises(UserError, match="not of the 0 rows"):
        predicting(tmp_path, 0)[1](["y", "n"], good[:0])
    assert not list(tmp_path.iterdir())
    answer(["y", "n"], good)
    assert pd.read_csv(stored.predictions)["row"].tolist() == [1, 2, 3]
    answer(None, good[:, :1])
    assert list(pd.read_csv(stored.predictions)) == ["row", "prediction"]


def test_predictions_that_cannot_be_written_are_a_sentence(tmp_path):
    (tmp_path / "predictions.csv").mkdir()
    _, answer = predicting(tmp_path)
    with pytest.raises(UserError, match="predictions.csv cannot be written .Is a directory.: make room or restore it"):
        answer(None, np.zeros([3, 1], np.float32))


@pytest.mark.parametrize("of", [{"further": -1}, {"further": 10**12}, {"further": "9"}, {"tokens": 10**9}])
def test_numbers_that_cannot_be_are_rejected(of):
    ((key, value),) = of.items()
    with pytest.raises(UserError, match=f"^shop sent {key}={value!r}: must be a whole number from 0 to "):
        open_federation(["shop"], lambda phase, asked: {"shop": ({"tokens": 1, **of}, [])}, 10, "")


def two_tables(tmp_path):
    """Of 569 tumours a clinic has 360, a laboratory 329 and both 120: all, by party the rows, and parties."""
    data = load_breast_cancer(as_frame=True)
    frame = data.data.rename(columns=lambda name: name.replace(" ", "_")).assign(
        label=data.target.map({0: "malignant", 1: "benign"})
    )
    frame = frame.sample(frac=1.0, random_state=1).reset_index(drop=True)
    rows, given = {"clinic": np.arange(360), "laboratory": np.arange(240, 569)}, {}
    for name, party in small.TUMOURS.items():
        table, order = str(tmp_path / f"{name}.csv"), str(tmp_path / f"{name}.json")
        own = frame.loc[rows[name]].sample(frac=1.0, random_state=2)
        own[[*party["numeric"], *([party["label"]] if "label" in party else [])]].to_csv(table, index=False)
        places = [own.index.get_loc(row) for row in range(240, 360)]
        RowOrder("tag", tuple(places), datasets.sources.file_digest([table])).save(order)
        given[name] = {**party, "files": [table], "order": order}
        rows[name] = own.index.to_numpy()
    return frame, rows, given


@pytest.mark.slow
def test_two_tables_with_few_rows_in_common_teach_and_predict_all_others(tmp_path):
    """The laboratory predicts its 209 other rows, in its own table."""
    frame, rows, given = two_tables(tmp_path)
    settings = small.settings(parties=given, epochs=8, layers=0, top="concatenation", common_rows=90)
    config = small.config(**{"run.directory": str(tmp_path / "run")})
    vertical.train(config, settings, False)
    with open(tmp_path / "run" / "metrics.csv") as file:
        assert int(next(csv.DictReader(file))["comm/round_trips"]) == -(-(360 - 24) // 64) + 1  # all of its own rows
    vertical.predict(config, settings)
    found = pd.read_csv(tmp_path / "run" / "parties" / "laboratory" / "predictions.csv", index_col="row")
    predicted = frame.loc[rows["laboratory"][found.index]]
    assert sorted(predicted.index) == list(range(360, 569))
    assert ((found["benign"] > 0.5).to_numpy() == (predicted["label"] == "benign").to_numpy()).mean() > 0.85
    both = pd.read_csv(tmp_path / "run" / "predictions.csv", index_col="row")
    assert sorted(rows["clinic"][both.index]) == list(range(240, 360))


@pytest.mark.slow
def test_predictions_between_processes_are_named_or_end_both_parties(tmp_path):
    """The laboratory prints where its own are; where they cannot be written both exit with 2 and a sentence."""
    _, _, given = two_tables(tmp_path)
    flags = [*SMALL, f"--parties={json.dumps(given)}", "--top=concatenation", "--common_rows=90", "--epochs=1"]
    run("vertical", *flags, f"--run_dir={tmp_path / 'clinic'}", cwd=tmp_path)
    (tmp_path / "laboratory" / "parties").mkdir(parents=True)
    own = tmp_path / "laboratory" / "parties" / "laboratory"
    (tmp_path / "clinic" / "parties" / "laboratory").rename(own)
    for code, sentence in ((0, f"Predictions are in {own}"), (2, "Error: --parties: laboratory: /.*cannot be written")):
        ways = commands(tmp_path, ["laboratory"])
        running = {name: forked(tmp_path, name, *flags, "--action=predict", *way) for name, way in ways.items()}
        assert [process.wait(400) for process in running.values()] == [code] * 2
        assert re.search(sentence, told(tmp_path, "laboratory"))
        assert code == 0 or re.search(sentence, told(tmp_path, "clinic"))
        if code == 0:
            (own / "predictions.csv").unlink()
            (own / "predictions.csv").mkdir()


@pytest.mark.slow
def test_rows_in_common_teach_the_party_without_labels(tmp_path):
    """Without alignment its encodings mean nothing to the head; it predicts the held-out rows by itself."""
    found = {}
    settings = small.settings(epochs=6, layers=0, top="concatenation", common_rows=40, alignment_weight=1.0)
    for weight in (0.0, 1.0):
        config = small.config(**{"run.directory": str(tmp_path / str(weight))})
        result = vertical.train(config, dataclasses.replace(settings, alignment_weight=weight), False)
        found[weight] = result["test"]["roc_auc"]
    assert found[1.0] > 0.85
    assert found[1.0] > found[0.0]


@pytest.mark.slow
def test_a_step_is_that_of_the_three_losses(tmp_path):
    """SGD with a rate of 1 moves weights by just the gradient; what is sent is defended by the common rows' labels."""
    settings = small.settings(layers=0, common_rows=40, alignment_weight=0.5, optimizer="sgd", learning_rate=1.0)
    federation = small.federation(tmp_path, settings)
    federation.restore()
    label, other = federation.label, federation._here["laboratory"]._party
    own, common = (label.schedule.batches(split, 1)[0] for split in ("train", "common"))

    def encode(half, weights, inputs, rows):
        batch = {name: tf.constant(array[rows]) for name, array in inputs.items()}
        return half.model.predict_on_batch((weights, half.fixed), {**batch, "seed": tf.zeros([2], tf.int64)}, True)

    def entropy(token, weights, rows):
        batch = {label.name: token, "present": tf.ones([len(rows), 1], tf.bool), "seed": tf.zeros([2], tf.int64)}
        logits = label.top.model.predict_on_batch((weights, label.top.fixed), batch, True)
        picked = tf.gather(tf.nn.log_softmax(logits), label.labels[rows], axis=1, batch_dims=1)
        return -tf.reduce_sum(picked) / len(rows)

    def weights_now():
        return label.top.trainable, label.bottom.trainable, other.half.trainable

    before = weights_now()
    with tf.GradientTape() as tape:
        tape.watch(before)
        sent = encode(other.half, before[2], other.inputs, common)
        apart = encode(label.bottom, before[1], label._inputs, common) - sent
        aligned = entropy(sent, before[0], common) + tf.reduce_sum(apart**2) / (len(common) * settings.cut_size)
        total = entropy(encode(label.bottom, before[1], label._inputs, own), before[0], own) + 0.5 * aligned
    expected = tape.gradient(total, before)
    state, said = label.state, {"split": "common", "epoch": 1, "batch": 0}
    answers = federation.ask("step", {"laboratory": (said, ())})
    cuts = received(answers, label, len(common))
    _, gradients = label.step(1, 0, cuts)
    federation.ask("end", {"laboratory": (said, [gradients["laboratory"]])})
    for was, now, gradient in zip(before, weights_now(), expected):
        longest = small.largest_difference(gradient, [0.0 * w for w in was])
        assert small.largest_difference([v - w for v, w in zip(was, now)], gradient) < 1e-5 * max(1.0, longest)
        assert small.largest_difference(was, now) > 1e-3
    label.state = state
    label.defend_with(lambda gradient, labels, key: gradient * tf.cast(labels, tf.float32)[:, tf.newaxis, tf.newaxis])
    defended = label.step(1, 0, cuts)[1]["laboratory"]
    assert np.allclose(defended, gradients["laboratory"] * label.labels[common][:, None, None], atol=1e-6)
