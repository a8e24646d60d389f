"""kNN-Per against NumPy, and on runs."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
import tf_keras

import tff_tx as ft
from tests import tiny
from tests.run.test_personal import TINY, trainer
from tff_tx import models
from tff_tx.core.errors import UserError
from tff_tx.run.evaluation import Evaluator
from tff_tx.run.knn_per import WEIGHTS, KNNPer, memory_model

K = 3
X, _ = tiny.client_data(44, seed=3)
Y = X[:, :3].argmax(axis=1).astype(np.int32)
PARTS = {"memory": slice(0, 30), "first": slice(0, 20), "chosen": slice(20, 30), "test": slice(30, 44)}

pytestmark = pytest.mark.usefixtures("made_once")


@pytest.fixture(scope="module")
def head_only():
    """A classifier of two layers whose head alone is trained."""
    tf_keras.utils.set_random_seed(1)
    inner = tf_keras.Sequential(
        [tf_keras.layers.Input((5,)), tf_keras.layers.Dense(4, "tanh"), tf_keras.layers.Dense(3, name="head")]
    )

    class Model(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def call(self, inputs, training=False):
            return self.inner(inputs["x"], training=training)

    model = Model()
    model({"x": X})
    spec = collections.OrderedDict([("x", tf.TensorSpec([None, 5])), ("seed", tf.TensorSpec([2], tf.int64))])
    return models.functional_model(model, models.classification(), spec, trainable="layers:head", frozen_dropout=False)


def batches_fn(part):
    """The records of client "0", from the others' point of view none."""

    def batches(client_id):
        count = tf.where(tf.equal(client_id, "0"), len(X[PARTS[part]]), 0)
        return tiny.batches(tf.constant(X[PARTS[part]])[:count], tf.constant(Y[PARTS[part]])[:count], 4)

    return batches


def by_hand(model, x, part):
    """(p_kNN, p_global) of inputs, with a memory of some records."""
    kernel, bias, below, below_bias = (np.asarray(w, np.float64) for w in sorted_weights(model))
    features = [np.tanh(inputs @ below + below_bias) for inputs in (x, X[PARTS[part]])]
    logits = features[0] @ kernel + bias
    shared = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    near = np.zeros_like(shared)
    for i, phi in enumerate(features[0]):
        distances = np.linalg.norm(features[1] - phi, axis=1)
        for j in np.argsort(distances)[:K]:
            near[i, Y[PARTS[part]][j]] += np.exp(-distances[j])
    return near / near.sum(1, keepdims=True), shared


def sorted_weights(model):
    trainable, others = model.initial_weights
    return [*sorted(trainable, key=np.ndim, reverse=True), *sorted(others, key=np.ndim, reverse=True)]


def test_neighbors_vote_and_choose_their_weight_as_by_hand(head_only):
    model = memory_model(head_only, K, capacity=32)
    own_fn = KNNPer(model, *map(batches_fn, ("memory", "first", "chosen")))
    given = [tf.convert_to_tensor(w) for part in model.initial_weights for w in part]
    weights = own_fn(given, "0")

    near, shared = by_hand(head_only, X[PARTS["chosen"]], "first")
    true = np.arange(10), Y[PARTS["chosen"]]
    losses = [-np.log(w * near[true] + (1 - w) * shared[true] + 1e-300).sum() for w in WEIGHTS]
    chosen = WEIGHTS[int(np.argmin(losses))]
    assert own_fn.weights == {"0": chosen}
    assert 0 < chosen < 1
    assert own_fn.choices() == [
        f"neighbors count for {chosen:.2f} on average, as clients choose; 0 of 1 clients have the global model alone"
    ]

    near, shared = by_hand(head_only, X[PARTS["test"]], "memory")
    x = {"x": tf.constant(X[PARTS["test"]]), "seed": tf.zeros([2], tf.int64)}
    found = model.predict_on_batch((tuple(weights[:2]), tuple(weights[2:])), x)
    np.testing.assert_allclose(np.exp(found), chosen * near + (1 - chosen) * shared, atol=1e-5)

    evaluator = Evaluator(model, batches_fn("test"), own_fn=own_fn)
    _, by_client = evaluator.evaluate(tff.learning.models.ModelWeights(*model.initial_weights), ["0"])
    right = (chosen * near + (1 - chosen) * shared).argmax(1) == Y[PARTS["test"]]
    assert by_client.loc["0", "accuracy"] == pytest.approx(right.mean())


def test_a_client_without_records_has_the_global_model(head_only):
    model = memory_model(head_only, K, capacity=32)
    own_fn = KNNPer(model, *map(batches_fn, ("memory", "first", "chosen")))
    weights = own_fn([tf.convert_to_tensor(w) for part in model.initial_weights for w in part], "1")
    x = {"x": tf.constant(X), "seed": tf.zeros([2], tf.int64)}
    found = model.predict_on_batch((tuple(weights[:2]), tuple(weights[2:])), x)
    expected = tf.nn.log_softmax(head_only.predict_on_batch(head_only.initial_weights, x, training=False))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert own_fn.weights == {"1": 0.0}
    assert own_fn.choices()[0].endswith("1 of 1 clients have the global model alone")


@pytest.mark.slow
def test_a_run_is_evaluated_with_neighbors_and_chosen_steps(cache_dir, tmp_path):
    own = ft.load_task(
        data=ft.Data("digits", clients=ft.Dirichlet(4, alpha=0.1), test=0.25, validation=0.1, split="within_client"),
        model=ft.Model(config=TINY),
        cache_dir=cache_dir,
    )
    run = trainer(own, tmp_path / "own")
    run.fit(rounds=1)
    found = run.evaluate("test", neighbors=5)
    shared = found.others["global model"]
    assert found.by_client["accuracy"].mean() > shared["accuracy"].mean() + 0.1
    assert "neighbors count for" in str(found)
    assert "Personalization hurts 0% of clients here" in str(found)
    steps = run.evaluate("test", personalize_epochs=1, choose_steps=True)
    assert "fine-tuned for" in str(steps)
    assert (steps.by_client["loss"] < shared["loss"]).all()
    with pytest.raises(UserError, match=r"evaluate\.neighbors=5 cannot be combined with evaluate\.personalize_epochs"):
        run.evaluate("test", neighbors=5, personalize_epochs=1)
    with pytest.raises(UserError, match=r"evaluate\.choose_steps needs evaluate\.personalize_epochs"):
        run.evaluate("test", choose_steps=True)

    # As of clients that were held out: every fifth record makes the memory.
    found, sizes = run.evaluate("train", neighbors=5), own.task.train.sizes()
    assert found.by_client["num_examples"].to_dict() == {c: n - -(-n // 5) for c, n in sizes.items() if n > 1}
    assert found.by_client["accuracy"].mean() > found.others["global model"]["accuracy"].mean()
