"""Fine-tuning at evaluation, against NumPy and on a run."""

import os
import pathlib
import types

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_federated as tff

import tff_tx as ft
from tests import tiny
from tests.run.test_personal import TINY, task, trained, trainer  # noqa: F401 -- fixtures
from tests.runtime.test_hooks import DATA, RATE, gradient
from tff_tx import algorithms, models, runtime
from tff_tx.core.errors import UserError
from tff_tx.run import reporting
from tff_tx.run.client_loss import ClientLoss
from tff_tx.run.comparison import Comparison, figures
from tff_tx.run.evaluation import Evaluator
from tff_tx.run.fine_tuning import FineTuning, Records, batches_fn, choosing, parts

pytestmark = pytest.mark.usefixtures("compiled_once")


def data_of(client_id):
    """Two passes over the first four records of one of the clients of `DATA`, one batch each."""
    xs, ys = (np.stack([d[i][:4] for d in DATA]) for i in (0, 1))
    number = tf.strings.to_number(client_id, tf.int32)
    return tiny.batches(tf.gather(xs, number), tf.gather(ys, number), 4).repeat(2)


def test_a_client_takes_steps_of_its_optimizer():
    tuning = FineTuning(tiny.linear_model(), data_of, algorithms.build_optimizer("sgd", RATE))
    start = tiny.linear_model().initial_weights[0]
    for client in (0, 1):
        x, y = (part[:4] for part in DATA[client])
        expected = np.ones(18)
        for _ in range(2):
            expected = expected - RATE * gradient(expected, x, y)
        found = tuning([tf.convert_to_tensor(w) for w in start], str(client))
        np.testing.assert_allclose(np.concatenate([np.ravel(w) for w in found]), expected, atol=1e-6)


def test_a_client_that_trains_for_no_epoch_has_the_weights_as_given(task):  # noqa: F811
    model, client = task.task.model, task.task.train.client_ids[0]
    weights = [tf.convert_to_tensor(w) for part in model.initial_weights for w in part]
    for epochs, is_trained in ((0, False), (1, True)):
        batches = batches_fn(task.task, task.task.train, 0, epochs)
        found = FineTuning(model, batches, algorithms.build_optimizer("sgd", RATE))(weights, client)
        assert all(map(np.array_equal, found, weights)) is not is_trained


def test_records_of_records_are_those_of_the_client():
    clients = types.SimpleNamespace(client_ids=list("abc"), sizes=lambda: {"a": 11, "b": 1, "c": 2})
    clients.serializable_dataset_fn = lambda c: tf.data.Dataset.range({"a": 11, "b": 1, "c": 2}[c])
    for one in (Records(clients, True), Records(Records(clients, False), True), Records(Records(clients, True), False)):
        for client, size in one.sizes().items():
            assert len(list(one.serializable_dataset_fn(client))) == size
        assert set(one.client_ids) <= {"a", "c"}


def test_a_client_chooses_its_number_of_steps():
    """By the loss on another client's records: after 0, 1, 2, 4, ... or all steps, whatever is least."""
    rate, model = 1.0, tiny.linear_model()
    losses = ClientLoss(model, lambda _: data_of(tf.constant("1")))

    def loss(w):
        x, y = (part[:4] for part in DATA[1])
        logits = x @ w[:15].reshape(5, 3) + w[15:]
        return np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(4), y])

    tuning = FineTuning(model, lambda c: data_of(c).repeat(3), algorithms.build_optimizer("sgd", rate), losses=losses)
    start, chosen = [tf.convert_to_tensor(w) for w in model.initial_weights[0]], set()
    for client in (0, 1, 2):
        x, y = (part[:4] for part in DATA[client])
        passed = [np.ones(18)]
        for _ in range(6):
            passed.append(passed[-1] - rate * gradient(passed[-1], x, y))
        best = min((0, 1, 2, 4, 6), key=lambda steps: loss(passed[steps]))
        found = tuning(start, str(client))
        np.testing.assert_allclose(np.concatenate([np.ravel(w) for w in found]), passed[best], atol=1e-4)
        assert tuning.steps[str(client)] == best
        chosen.add(best)
    assert chosen == {0, 4, 6}
    assert tuning.choices()[0].startswith(f"fine-tuned for {min(chosen)} to {max(chosen)} steps")


def test_records_to_choose_by_are_of_the_client_itself():
    def clients(*ids):
        return types.SimpleNamespace(client_ids=list(ids), serializable_dataset_fn=lambda _: tf.data.Dataset.range(12))

    own = types.SimpleNamespace(train=clients("a", "b"), validation=clients("a", "b"), test=clients("a"))
    assert choosing(own, "test", own.train) == (own.train, own.validation)
    own.validation = clients("b")
    training, chosen_by = choosing(own, "test", own.train)
    assert [int(n) for n in chosen_by.serializable_dataset_fn("a")] == [0, 5, 10]
    assert [int(n) for n in training.serializable_dataset_fn("a")] == [1, 2, 3, 4, 6, 7, 8, 9, 11]


def test_a_client_trains_once_for_its_metrics_and_its_predictions():
    asked, outputs = [], {}

    def own_fn(weights, client_id):
        asked.append(client_id)
        return weights

    evaluator = Evaluator(tiny.linear_model(), data_of, own_fn=own_fn)
    weights = tff.learning.models.ModelWeights(*tiny.linear_model().initial_weights)
    overall, by_client = evaluator.evaluate(weights, ["0", "1"], outputs=outputs)
    assert sorted(asked) == ["0", "1"]
    assert {client: len(batches) for client, batches in outputs.items()} == {"0": 2, "1": 2}
    assert (
        evaluator.evaluate(weights, ["0", "1"])[0] == overall
    )  # made of the same weights, so that nobody trains again
    assert sorted(asked) == ["0", "1"]
    assert by_client["num_examples"].tolist() == [8, 8]


def test_a_record_of_a_held_out_client_is_trained_on_or_evaluated():
    clients = types.SimpleNamespace(
        client_ids=["a", "b"],
        sizes=lambda: {"a": 12, "b": 1},
        serializable_dataset_fn=lambda _: tf.data.Dataset.range(12),
    )
    own = types.SimpleNamespace(train=types.SimpleNamespace(client_ids=["c"]), test=clients)
    training, evaluation = parts(own, "test")
    assert training.client_ids == evaluation.client_ids == ["a"]
    readers = (runtime.ClientReader(part.serializable_dataset_fn) for part in (training, evaluation))
    first, others = ([int(n) for n in reader("a")] for reader in readers)
    assert first == [0, 5, 10]
    assert sorted(first + others) == list(range(12))
    assert parts(types.SimpleNamespace(train=clients), "train")[0].client_ids == ["a"]
    within = types.SimpleNamespace(train=types.SimpleNamespace(client_ids=["a", "b", "c"]), test=clients)
    assert parts(within, "test") == (within.train, clients)
    clients.sizes = lambda: {"a": 1, "b": 1}
    with pytest.raises(UserError, match="no client of the split has two records"):
        _ = parts(own, "test")[1].client_ids


def test_clients_that_are_hurt_are_counted(tmp_path):
    shared = pd.DataFrame({"acc": [0.5, 0.5, 0.5], "loss": [1.0, 1.0, 1.0]})
    own = pd.DataFrame({"acc": [0.6, 0.4, 0.5], "loss": [2.0, 0.5, 0.5]})
    alone = pd.DataFrame({"acc": [0.7, 0.7, 0.4], "loss": [1.0, 1.0, 1.0]})
    accuracy = models.Metric("acc", "Accuracy")
    found = Comparison(own, {"global model": shared, "trained alone": alone}, (accuracy,))
    first, second, third = found.sentences
    assert first == (
        "Personalization hurts 33% of clients here (1 of 3): their own model has a lower acc than the global model."
    )
    assert second.startswith("Training together hurts 67% of clients here (2 of 3)")
    assert third.startswith("The global model hurts 67% of clients here (2 of 3)")
    assert found.table.loc["own model", ["mean", "worst", "hurt, beside trained alone"]].tolist() == pytest.approx(
        [0.5, 0.4, 2 / 3]
    )
    assert os.path.getsize(found.plot(str(tmp_path / "scatter.png")))
    by_loss = Comparison(own, {"global model": shared}, (models.Metric("loss", "Loss", higher_is_better=False),))
    assert by_loss.sentences == [first.replace("lower acc", "higher loss")]
    assert by_loss.table.loc["own model", ["p90", "worst"]].tolist() == pytest.approx([1.7, 2.0])
    assert "p10" not in by_loss.table
    assert "p90" not in found.table
    columns = figures(own, shared, [accuracy])
    assert columns["share_hurt"] == pytest.approx(1 / 3)
    assert (columns["clients_p10/acc"], columns["global_worst/acc"]) == pytest.approx((0.42, 0.5))


def test_the_report_says_by_itself_whom_personalization_hurts():
    """By the last evaluation; five of seven clients are worse off."""
    shared, own = (pd.DataFrame({"acc": accuracies}) for accuracies in ([0.9] * 7, [0.8] * 5 + [0.9, 1.0]))
    share = figures(own, shared, [models.Metric("acc", "Accuracy")])["share_hurt"]
    (sentence,) = reporting.harm(pd.DataFrame({"eval/share_hurt": [0.1, share, np.nan]}))
    assert sentence.startswith("Personalization hurts 71% of clients here:")
    assert reporting.harm(pd.DataFrame({"eval/share_hurt": [np.nan]})) == reporting.harm(pd.DataFrame()) == []


@pytest.mark.slow
def test_a_run_is_evaluated_before_and_after(trained, tmp_path):  # noqa: F811
    found = trained.evaluate("test", personalize_epochs=3, alone_epochs=1)
    before, alone = found.others["before fine-tuning"], found.others["trained alone"]
    pd.testing.assert_frame_equal(before, trained.evaluate("test").by_client)
    assert found.by_client["loss"].mean() < before["loss"].mean()
    assert alone["loss"].mean() > found.by_client["loss"].mean()
    assert "their model has a lower accuracy than before fine-tuning." in str(found)
    written = found.write(str(tmp_path))
    assert "clients, trained alone" in (tmp_path / "test.json").read_text()
    report = (pathlib.Path(trained.config.run.directory) / "report.md").read_text()
    assert report.count("Personalization hurts") == 2  # of the run, and of what was evaluated
    assert str(tmp_path / "test_clients.png") in written


@pytest.mark.slow
def test_clients_that_are_held_out_are_trained_on_some_records_and_evaluated_on_others(cache_dir, tmp_path):
    held_out = ft.load_task(
        data=ft.Data("digits", clients=ft.Dirichlet(6, alpha=0.3), test=2, split="client"),
        model=ft.Model(config=TINY),
        cache_dir=cache_dir,
    )
    run = trainer(held_out, tmp_path)
    run.fit(rounds=2)
    sizes = held_out.task.test.sizes()
    found = run.evaluate("test", personalize_epochs=20)
    assert found.by_client["num_examples"].to_dict() == {c: n - -(-n // 5) for c, n in sizes.items() if n > 1}
    assert found.by_client["loss"].mean() < 0.9 * found.others["global model"]["loss"].mean()


@pytest.mark.slow
def test_clients_that_are_held_out_rebuild_what_is_personal(cache_dir, tmp_path):
    """FedRecon: of every fifth record, in training, in evaluation and for predictions; and nobody stores anything."""
    held_out = ft.load_task(
        data=ft.Data("digits", clients=ft.Dirichlet(4, alpha=0.3), test=2, split="client"),
        model=ft.Model(config=TINY, personal="head"),
        cache_dir=cache_dir,
    )
    parts = {"client": ft.Adam(1e-2), "personal_epochs": 20}
    run = trainer(held_out, tmp_path, algorithm=ft.FedRecon(**parts))
    row = run.fit(rounds=2).iloc[-1]
    found, sizes = run.evaluate("test"), held_out.task.test.sizes()
    assert not (tmp_path / "personal").exists()
    assert found.by_client["num_examples"].to_dict() == {c: n - -(-n // 5) for c, n in sizes.items() if n > 1}
    assert found.by_client["loss"].mean() < 0.9 * found.others["global model"]["loss"].mean()
    assert row["eval/clients_worst/accuracy"] == found.by_client["accuracy"].min()
    assert row["eval/global_mean/accuracy"] == pytest.approx(found.others["global model"]["accuracy"].mean())
    images = list(np.random.default_rng(0).uniform(size=[2, 1, 8, 8]).astype(np.float32))
    assert run.predict(images, client=found.by_client.index[0]) != run.predict(images)
