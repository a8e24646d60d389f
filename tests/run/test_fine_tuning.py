"""Fine-tuning at evaluation, against NumPy and on a run."""

import types

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tests import tiny
from tests.run.test_personal import task, trained  # noqa: F401 -- fixtures
from tests.runtime.test_hooks import DATA, RATE, gradient
from tff_tx import algorithms, models
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
    first, others = ([int(n) for n in part.serializable_dataset_fn("a")] for part in (training, evaluation))
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


def test_a_run_is_evaluated_before_and_after(trained, tmp_path):  # noqa: F811
    found = trained.evaluate("test", personalize_epochs=3, alone_epochs=1)
    before, alone = found.others["before fine-tuning"], found.others["trained alone"]
    pd.testing.assert_frame_equal(before, trained.evaluate("test").by_client)
    assert found.by_client["loss"].mean() < before["loss"].mean()
    assert alone["loss"].mean() > found.by_client["loss"].mean()
    assert "of clients have a lower accuracy than before fine-tuning." in str(found)
    found.write(str(tmp_path))
    assert "clients, trained alone" in (tmp_path / "test.json").read_text()
