"""Federated transfer: a party without labels predicts by rows in common alone."""

import dataclasses

import numpy as np
import pytest

from tests.vertical import small
from tff_tx.run import vertical
from tff_tx.vertical.schedule import Schedule


def test_batches_of_common_rows_go_round_them():
    schedule = Schedule(1, 100, 8, 0.2, 5)
    batches = schedule.batches("common", 3)
    assert len(batches) == len(schedule.batches("train", 3)) == 10
    rows = np.concatenate(batches)
    assert len(np.unique(rows)) == 5
    assert set(rows) <= set(schedule.split("train"))
    assert set(rows) == set(np.concatenate(schedule.batches("common", 4)))


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
