"""FedDPA's shares by input against NumPy; on runs see `test_own_models`."""

import numpy as np
import pytest
import tensorflow as tf

from tests.run.test_knn_per import PARTS, X, batches_fn, head_only, sorted_weights  # noqa: F401
from tff_tx.core.errors import UserError
from tff_tx.run import personalizing
from tff_tx.run.instance_weights import InstanceModel, InstanceWeights
from tff_tx.run.pooled_features import PooledFeatures

ALPHA, SEED = 0.8, 5
TEST = X[PARTS["test"]]

pytestmark = pytest.mark.usefixtures("compiled_once")


def flat(model):
    return [tf.convert_to_tensor(w) for part in model.initial_weights for w in part]


def own_fn(weights, client_id):
    """A client's own weights: other matrices, and the same biases."""
    assert client_id in ("0", "1")
    return [w if w.shape.rank == 1 else w + tf.sin(3 * w + 1) for w in weights]


@pytest.fixture(scope="module")
def instances(head_only):  # noqa: F811
    """From S to (model, own_fn of its weights)."""
    matrices = tuple(i for i, w in enumerate(flat(head_only)) if w.shape.rank > 1)
    assert len(matrices) == 2

    def build(examples):
        model = InstanceModel(
            PooledFeatures(head_only, "evaluate.similar_examples", examples), matrices, ALPHA, examples
        )
        return model, InstanceWeights(model, own_fn, batches_fn("memory"), SEED)

    return build


def predict(model, weights, x):
    parts = tuple(weights[:2]), tuple(weights[2:])
    x = {"x": tf.constant(x), "seed": tf.zeros([2], tf.int64)}
    return model.shares(parts, x).numpy(), model.predict_on_batch(parts, x).numpy()


def logits(x, kernel, bias, below, below_bias):
    return np.tanh(x @ below + below_bias) @ kernel + bias


def test_the_more_alike_an_input_is_the_more_the_own_weights_count(instances, head_only):  # noqa: F811
    model, weights_fn = instances(30)
    shares, found = predict(model, weights_fn(flat(model), "0"), TEST)

    shared = [np.asarray(w, np.float64) for w in sorted_weights(head_only)]
    phi, records = (np.tanh(x @ shared[2] + shared[3]) for x in (TEST, X[PARTS["memory"]]))
    unit, units = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (phi, records))
    cosines = np.stack([[u @ v for v in units] for u in unit]).mean(axis=1)
    assert cosines.min() < 0 < cosines.max()
    expected = ALPHA * np.clip(cosines, 0, 1)
    np.testing.assert_allclose(shares, expected, atol=1e-6)
    for i, share in enumerate(expected):
        mixed = [w if w.ndim == 1 else w + share * np.sin(3 * w + 1) for w in shared]
        np.testing.assert_allclose(found[i], logits(TEST[i], *mixed), atol=1e-5)

    fewer, fewer_fn = instances(4)
    drawn = fewer_fn(flat(fewer), "0")
    kept = drawn[-2].numpy()
    assert len(np.unique(kept, axis=0)) == 4
    assert all(np.isclose(records, row, atol=1e-6).all(1).any() for row in kept)
    np.testing.assert_array_equal(kept, fewer_fn(flat(fewer), "0")[-2].numpy())


def test_without_records_it_is_the_global_model(instances, head_only):  # noqa: F811
    model, weights_fn = instances(3)
    shares, found = predict(model, weights_fn(flat(model), "1"), TEST)
    assert not shares.any()
    x = {"x": tf.constant(TEST), "seed": tf.zeros([2], tf.int64)}
    np.testing.assert_allclose(found, head_only.predict_on_batch(head_only.initial_weights, x, False), atol=1e-6)


def test_it_goes_with_no_other_way():
    with pytest.raises(UserError, match=r"similar_examples=5 cannot be combined with evaluate\.personalize_epochs"):
        personalizing.chosen({"personalize_epochs": 1, "similar_examples": 5}, True)
    assert personalizing.chosen({"similar_examples": 5}, True) is personalizing.WAYS["similar_examples"]
