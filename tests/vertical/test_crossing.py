"""What crosses the cut in fewer bytes, and in fewer messages."""

import csv
import dataclasses

import numpy as np
import pytest

from tests.vertical import small
from tff_tx import vertical
from tff_tx.run import vertical as runs
from tff_tx.vertical.crossing import Wire

KEY = np.array([1, 2])


@pytest.mark.parametrize(("name", "error", "share"), [("uniform8", 0.004, 0.25), ("eden4", 0.12, 0.13)])
def test_values_come_back_nearly_in_few_bytes(name, error, share, rng):
    wire, values = Wire(small.settings(cut_compression=name)), rng.normal(size=(128, 8, 8)).astype(np.float32)
    sent = wire.pack(values, KEY)
    found = wire.unpack(sent, values.shape)
    assert np.linalg.norm(found - values) < error * 2 * np.linalg.norm(values)
    assert wire.size(sent) < (share + 0.02) * values.nbytes
    with pytest.raises(ValueError, match=r"these are no values of shape \[128, 8, 9\]"):
        wire.unpack(sent, (128, 8, 9))


def test_what_is_not_finite_or_of_another_shape_is_said():
    wire = Wire(small.settings())
    with pytest.raises(ValueError, match="there are values that are not finite"):
        wire.unpack([np.full((2, 1, 8), np.nan, np.float32)], (2, 1, 8))
    with pytest.raises(ValueError, match=r"no values of shape \[2, 1, 8\]"):
        wire.unpack([np.zeros((3, 1, 8), np.float32)], (2, 1, 8))


def weights_after(directory, epochs=1, **more):
    """All parties' weights, flat, before and after training, and the figures of the last epoch."""
    settings = small.settings(optimizer="sgd", layers=0, top="concatenation", **more)
    federation = small.federation(directory, settings)
    federation.restore()
    halves = [federation.label.top, federation.label.bottom, federation._here["laboratory"]._party.half]

    def flat():
        return [np.concatenate([np.ravel(w) for w in half.trainable]) for half in halves]

    before = flat()
    for epoch in range(1, epochs + 1):
        row = vertical.train_epoch(federation.label, federation.ask, settings, epoch)
    return before, flat(), row


@pytest.mark.slow
def test_local_updates_and_late_gradients(tmp_path):
    """Small steps add up, at each party; a batch an epoch is never late; otherwise a message is less awaited."""
    one = {"batch_size": 2**10, "learning_rate": 1e-4}
    before, after, _ = weights_after(tmp_path, **one)
    for settings, factor in (({"local_updates": 3}, 3.0), ({"late": True}, 1.0)):
        _, other, _ = weights_after(tmp_path, **one, **settings)
        for start, once, now in zip(before, after, other):
            moved = np.linalg.norm(once - start)
            assert moved > 0
            assert np.linalg.norm(now - start - factor * (once - start)) < (0.02 if factor > 1 else 1e-6) * moved
    exact, late = (weights_after(tmp_path, late=late)[1:] for late in (False, True))
    assert not np.array_equal(exact[0][2], late[0][2])
    assert late[1]["train/loss"] == pytest.approx(exact[1]["train/loss"], rel=0.05)
    assert late[1]["comm/upload_bytes_per_row"] == exact[1]["comm/upload_bytes_per_row"]


@pytest.mark.slow
def test_a_run_with_all_of_it_resumes_to_the_bit(tmp_path):
    """And its bytes are a quarter of those of float32, or less."""
    settings = small.settings(epochs=2, layers=0, top="concatenation", late=True, local_updates=3)
    more = {"cut_compression": "stochastic8", "workset": 3, "stale_similarity": 0.5}
    settings = dataclasses.replace(settings, **more)
    configs = [small.config(**{"run.directory": str(tmp_path / name)}) for name in ("whole", "parts")]
    whole = runs.train(configs[0], settings, False)
    runs.train(configs[1], dataclasses.replace(settings, epochs=1), False)
    assert runs.train(configs[1], settings, False) == whole
    with open(tmp_path / "whole" / "metrics.csv", newline="") as file:
        row = list(csv.DictReader(file))[-1]
    assert float(row["comm/upload_bytes_per_row"]) < 3 * 8 * 4 * 0.4
