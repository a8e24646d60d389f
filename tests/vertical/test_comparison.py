"""The top that compares pairs: what it reads of them, and that like bottoms start alike."""

import numpy as np
import tensorflow as tf

from tests.vertical import small
from tff_tx.run.assemble.vertical import load_party
from tff_tx.vertical.comparison import comparisons


def test_it_reads_products_differences_and_cosines_of_pairs_that_are_there():
    draw = np.random.default_rng(0)
    tokens = draw.normal(size=(3, 2, 1, 4)).astype(np.float32)
    present = np.array([[True, True, True], [True, False, True]])
    found = comparisons([tf.constant(token) for token in tokens], tf.constant(present)).numpy()
    assert found.shape == (2, 27)
    for row in range(2):
        units = [token[row, 0] / np.sqrt(sum(token[row, 0] ** 2)) for token in tokens]
        for pair, (i, j) in zip(found[row].reshape(3, 9), [(0, 1), (0, 2), (1, 2)]):
            expected = [*(units[i] * units[j]), *np.abs(units[i] - units[j]), 2 * np.dot(units[i], units[j])]
            assert np.allclose(pair, expected if present[row, i] and present[row, j] else 0.0, atol=1e-6)


def test_bottoms_that_are_alike_start_alike_where_they_are_compared():
    party = {"numeric": ["mean_radius", "mean_texture"]}
    for top, alike in (("comparison", True), ("concatenation", False)):
        settings = small.settings(parties={"first": {**party, "label": "label"}, "second": party}, top=top, layers=0)
        parties = settings.party_configs()
        one, other = (load_party(small.config(), settings, n, parties[n]).bottom.trainable for n in parties)
        assert (small.largest_difference(one, other) == 0.0) == alike
