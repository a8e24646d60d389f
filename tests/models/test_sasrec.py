"""SASRec and its objective, beside NumPy."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tff_tx import models
from tff_tx.models.zoo import sasrec

TINY = {
    **{"hidden_size": 4, "num_hidden_layers": 2, "intermediate_size": 4, "num_labels": 9, "max_position_embeddings": 6},
    "initializer_range": 0.5,
}


@pytest.fixture(scope="module")
def model():
    return models.from_config(sasrec.TFAutoModelForNextItem, "sasrec", TINY, seed=3)


def scores(model, history, candidates):
    ids = tf.constant([history], tf.int32)
    return model(item_ids=ids, candidates=tf.constant([candidates], tf.int32), training=False).numpy()[0]


def test_nobody_sees_a_later_item_or_the_padding():
    found = sasrec.attention_mask(tf.constant([[0, 5, 7]])).numpy()[0].astype(int)
    assert found.tolist() == [[0, 0, 0], [0, 1, 0], [0, 1, 1]]


def test_scores_depend_on_the_past_alone(model):
    """Those after the second item do not change with the third; those after the third do."""
    every = [list(range(1, 10))] * 3
    before, after = scores(model, [3, 5, 7], every), scores(model, [3, 5, 2], every)
    np.testing.assert_allclose(before[:2], after[:2], rtol=1e-5)
    assert np.abs(before[2] - after[2]).max() > 1e-3


def test_padding_in_front_changes_nothing(model):
    every = [list(range(1, 10))]
    np.testing.assert_allclose(scores(model, [3, 5], every), scores(model, [0, 0, 0, 3, 5], every), rtol=1e-4)


def test_scores_are_inner_products_with_the_last_states(model):
    ids = tf.constant([[3, 5, 7]])
    hidden, items = model.backbone(ids).numpy()[0], model.backbone.items.numpy()
    found = scores(model, [3, 5, 7], [[1, 2], [4, 9]])
    wanted = [[hidden[1] @ items[i] for i in (1, 2)], [hidden[2] @ items[i] for i in (4, 9)]]
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_the_items_are_trained_and_there_is_one_table(model):
    names = [w.name for w in model.weights]
    assert sum("/items" in name for name in names) == 1
    assert model.backbone.items.shape == (10, 4)
    assert not np.allclose(model.backbone.items[:6], model.backbone.positions)


def test_saving_and_loading_keeps_the_model(model, tmp_path):
    models.save_pretrained(model, str(tmp_path))
    loaded = models.from_pretrained(sasrec.TFAutoModelForNextItem, str(tmp_path))
    np.testing.assert_allclose(scores(loaded, [3, 5], [[1, 2]]), scores(model, [3, 5], [[1, 2]]), rtol=1e-6)


def test_the_loss_is_equation_6_of_the_paper(rng):
    output = rng.normal(size=[2, 3, 2])
    labels = np.array([[-100, 0, 0], [0, 0, 0]])
    sigmoid = 1 / (1 + np.exp(-output))
    terms = -np.log(sigmoid[..., 0]) - np.log(1 - sigmoid[..., 1])
    found = models.next_item().loss_fn(tf.constant(output, tf.float32), tf.constant(labels, tf.int32))
    assert found.numpy() == pytest.approx(terms[labels == 0].mean(), rel=1e-5)


def metrics(output, labels):
    objective = models.next_item()
    output, labels = tf.constant(output, tf.float32), tf.constant(labels, tf.int32)
    found = objective.finalize_fn(objective.sums_fn(output, labels, objective.loss_fn(output, labels)))
    return {name: value.numpy() for name, value in found.items()}


def test_hits_and_gains_are_those_of_the_places(rng):
    output = rng.normal(size=[40, 1, 101])
    output[0, 0, 0] = 99  # first
    output[1, 0, 0] = np.sort(output[1, 0, 1:])[-10] + 1e-6  # tenth
    output[2, 0, 0] = np.sort(output[2, 0, 1:])[-10] - 1e-6  # eleventh
    places = [1 + int((row[0, 1:] > row[0, 0]).sum()) for row in output]
    assert places[:3] == [1, 10, 11]
    found = metrics(output, np.zeros([40, 1]))
    assert found["hr_at_10"] == pytest.approx(np.mean([place <= 10 for place in places]))
    gains = [1 / math.log2(1 + place) if place <= 10 else 0 for place in places]
    assert found["ndcg_at_10"] == pytest.approx(np.mean(gains), rel=1e-5)
    assert found["auc"] == pytest.approx(np.mean([(101 - place) / 100 for place in places]), rel=1e-5)
    assert (found["num_examples"], found["num_items"]) == (40, 40)


def test_a_model_that_tells_nothing_apart_has_no_hits():
    found = metrics(np.zeros([3, 1, 101]), np.zeros([3, 1]))
    assert (found["hr_at_10"], found["ndcg_at_10"], found["auc"]) == (0, 0, 0)


def test_among_two_candidates_a_hit_says_nothing(rng):
    found = metrics(rng.normal(size=[3, 4, 2]), np.zeros([3, 4]))
    assert np.isnan(found["hr_at_10"])
    assert 0 <= found["auc"] <= 1
