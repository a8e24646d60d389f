"""CELU-VFL: cached batches in turn, and rows weighed by how stale they are."""

import numpy as np
import pytest
import tensorflow as tf

from tests.vertical import small
from tests.vertical.test_crossing import weights_after
from tff_tx.vertical.workset import Workset, row_weights


@pytest.mark.parametrize(("size", "updates"), [(1, 3), (3, 1), (3, 2), (5, 4), (5, 7)])
def test_each_batch_is_used_as_often_as_the_others(size, updates):
    """And memory has no more than W batches, the newest."""
    workset, used = Workset(size), []
    for number in range(40):
        workset.add(number)
        taken = [workset.take() for _ in range(updates)]
        assert len(workset) == min(size, number + 1)
        assert min(taken) > number - size
        used += taken
        if size <= updates:
            assert len(set(taken)) == min(size, number + 1)
    often = np.bincount(used)[size : 40 - size]
    assert abs(often - updates).max() <= 1
    if size == 1:
        assert used == [number for number in range(40) for _ in range(updates)]  # FedBCD


def test_weights_are_cosines_of_whole_rows(rng):
    fresh, stale = ([rng.normal(size=(20, t, 4)).astype(np.float32) for t in (1, 3)] for _ in range(2))
    stale[0][0], stale[1][0] = 2 * fresh[0][0], 2 * fresh[1][0]
    for part in (*fresh, *stale):
        part[1] = 0.0  # a row without the other parties
    stale[0][2] = stale[1][2] = 0.0  # nothing is known of how it was
    one, other = (np.concatenate([a.reshape(20, -1) for a in part], axis=1).astype(float) for part in (fresh, stale))
    with np.errstate(invalid="ignore"):
        cosine = (one * other).sum(1) / np.sqrt((one**2).sum(1) * (other**2).sum(1))
    wanted = np.where(cosine < 0.2, 0.0, cosine)
    wanted[:3] = 1.0, 1.0, 0.0
    found = row_weights(fresh, stale, 0.2).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert 0 < np.sum(found[3:] > 0) < 17


def by_row(loss_fn, weights, of_rows):
    """Gradients [rows, all numbers] of each row's loss, by a tape each."""
    found = []
    for row in range(len(of_rows)):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            loss = loss_fn(weights, slice(row, row + 1))
        found.append(np.concatenate([np.ravel(g) for g in tape.gradient(loss, weights)]))
    return np.stack(found)


@pytest.mark.slow
def test_local_updates_descend_along_weighed_gradients_of_rows(tmp_path, rng):
    """Both parties, against a tape for each row; SGD with a rate of 1 moves weights by just their gradient."""
    more = {"layers": 0, "top": "concatenation", "local_updates": 2, "stale_similarity": 0.3, "batch_size": 16}
    settings = small.settings(optimizer="sgd", learning_rate=1.0, **more)
    federation = small.federation(tmp_path, settings)
    federation.restore()
    label, party = federation.label, federation._here["laboratory"]._party

    batch = party._batch("train", 1, 0)
    sent = party.half.model.predict_on_batch((party.half.trainable, party.half.fixed), batch, True)
    stale = sent + rng.normal(size=sent.shape) * np.linspace(0, 3, 16)[:, None, None]
    gradient = tf.constant(rng.normal(size=sent.shape), tf.float32)
    weights = row_weights([sent], [tf.cast(stale, tf.float32)], 0.3).numpy()

    def of_party(trainable, row):
        fresh = party.half.model.predict_on_batch((trainable, party.half.fixed), batch, True)
        return tf.reduce_sum(fresh[row] * gradient[row])

    wanted = weights @ by_row(of_party, party.half.trainable, weights)
    after, _ = party._weighted(*party.half.state, batch, party._noise("train", 1, 0), gradient, stale)
    moved = np.concatenate([np.ravel(v - w) for v, w in zip(party.half.trainable, after)])
    np.testing.assert_allclose(moved, wanted, rtol=1e-4, atol=1e-4)

    given = label._given(1, 0, {"laboratory": sent.numpy()})
    own, cuts, present, labels, _ = given
    of_cuts = label._step(label.state, *given)[3]["laboratory"]
    stale = of_cuts + rng.normal(size=sent.shape) * np.linspace(0, 3, 16)[:, None, None] * tf.norm(of_cuts) / 16
    weights = row_weights([of_cuts], [tf.cast(stale, tf.float32)], 0.3).numpy()
    assert 0 < np.sum(weights > 0) < 16

    def of_label(trainable, row):
        logits = label._forward(trainable[:split], trainable[split:], own, cuts, present, True)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)[row][0] / 16

    split, before = len(label.top.trainable), (*label.top.trainable, *label.bottom.trainable)
    wanted = weights @ by_row(of_label, before, weights)
    (top, _), (bottom, _) = label._weighted({"laboratory": tf.cast(stale, tf.float32)}, label.state, *given)
    moved = np.concatenate([np.ravel(v - w) for v, w in zip(before, (*top, *bottom))])
    np.testing.assert_allclose(moved, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_workset_of_one_exchanged_batch_is_fedbcd(tmp_path):
    """To the bit where an epoch is a batch; with more of them, older batches are used; weights near 1 change little."""
    one = {"local_updates": 3, "batch_size": 2**10, "epochs": 2}
    fedbcd, cached = (weights_after(tmp_path, **one, **more)[1] for more in ({}, {"workset": 4}))
    assert small.largest_difference(fedbcd, cached) == 0.0
    many = {"local_updates": 3, "learning_rate": 1e-4}
    before, fedbcd, _ = weights_after(tmp_path, **many)
    settings = {"cached": {"workset": 4}, "weighed": {"stale_similarity": 0.1}}
    found = {name: weights_after(tmp_path, **many, **more)[1] for name, more in settings.items()}
    for i, (start, end) in enumerate(zip(before, fedbcd)):
        far = {name: np.linalg.norm(weights[i] - end) / np.linalg.norm(end - start) for name, weights in found.items()}
        assert far["cached"] > 0.0
        assert 0.0 < far["weighed"] < 0.05, far
