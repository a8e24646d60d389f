"""Fine-tuning at evaluation, against NumPy and on a run."""

import types

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import tff_tx as ft
from tests import tiny
from tests.run.test_personal import TINY, task, trained, trainer  # noqa: F401 -- fixtures
from tests.runtime.test_hooks import DATA, RATE, gradient
from tff_tx import algorithms, models, runtime
from tff_tx.run.fine_tuning import FineTuning, parts, share_hurt

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


def test_clients_that_are_hurt_are_counted():
    before = pd.DataFrame({"acc": [0.5, 0.5, 0.5], "loss": [1.0, 1.0, 1.0]})
    after = pd.DataFrame({"acc": [0.6, 0.4, 0.5], "loss": [2.0, 0.5, 0.5]})
    assert share_hurt(before, after, [models.Metric("acc", "Accuracy")]) == ("acc", pytest.approx(1 / 3))
    assert share_hurt(before, after, []) == ("loss", pytest.approx(1 / 3))


@pytest.mark.slow
def test_a_run_is_evaluated_before_and_after(trained, tmp_path):  # noqa: F811
    found = trained.evaluate("test", personalize_epochs=3, alone_epochs=1)
    before, alone = found.others["before fine-tuning"], found.others["trained alone"]
    pd.testing.assert_frame_equal(before, trained.evaluate("test").by_client)
    assert found.by_client["loss"].mean() < before["loss"].mean()
    assert alone["loss"].mean() > found.by_client["loss"].mean()
    assert "of clients have a lower accuracy than before fine-tuning." in str(found)
    found.write(str(tmp_path))
    assert "clients, trained alone" in (tmp_path / "test.json").read_text()


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
    assert found.by_client["loss"].mean() < 0.9 * found.others["before fine-tuning"]["loss"].mean()
