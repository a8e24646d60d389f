"""The split step is the joint model's: gradients of all parties are those on pooled data."""

import pytest

from tests.vertical import small
from tff_tx import vertical
from tff_tx.vertical.training import received

pytestmark = pytest.mark.slow

DIGITS = {
    "left": {"image": [0, 4], "label": "label"},
    "middle": {"image": [3, 5], "cut": "pooled"},
    "right": {"image": [4, 8]},
}
THIRD = {"authority": {"label": "label"}, **{n: {**p, "label": None} for n, p in small.TUMOURS.items()}}
THIRD = {name: {k: v for k, v in party.items() if v is not None} for name, party in THIRD.items()}


@pytest.mark.parametrize(
    ("dataset", "parties", "more"),
    [
        ("breast_cancer", small.TUMOURS, {"dropout": 0.3}),
        ("breast_cancer", THIRD, {"top": "concatenation"}),
        ("breast_cancer", THIRD, {"top": "sum", "secure_sum": True}),
        ("digits", DIGITS, {}),
        ("breast_cancer", THIRD, {"top": "comparison"}),
    ],
    ids=["two parties", "labels alone", "secure sum", "three parties", "comparison"],
)
def test_gradients_are_those_of_the_joint_model_on_pooled_data(dataset, parties, more, tmp_path):
    """SGD with a rate of 1 moves weights by just their gradient."""
    settings = small.settings(parties=parties, optimizer="sgd", learning_rate=1.0, **more)
    federation = small.federation(tmp_path, settings, small.config(dataset))
    federation.restore()
    label, others = federation.label, {name: stored._party for name, stored in federation._here.items()}

    def rows_of(name):
        rows = label.schedule.batches("train", 1)[0]
        return label._own(rows, 1, 0) if name == label.name else others[name]._batch("train", 1, 0)

    loss, gradients = small.joint_step(label, others, rows_of)
    before = {"top": label.top.trainable, **{name: party.half.trainable for name, party in others.items()}}
    if label.bottom is not None:
        before[label.name] = label.bottom.trainable
    said = {"split": "train", "epoch": 1, "batch": 0}
    answers = federation.ask("step", {name: (said, ()) for name in others})
    cuts = received(answers, label, 64)
    split_loss, sent = label.step(1, 0, cuts)
    federation.ask("end", {name: (said, [gradient]) for name, gradient in sent.items()})
    after = {"top": label.top.trainable, **{name: party.half.trainable for name, party in others.items()}}
    if label.bottom is not None:
        after[label.name] = label.bottom.trainable
    assert split_loss == pytest.approx(loss, abs=1e-6)
    for name in before:
        moved = [w - v for w, v in zip(before[name], after[name])]
        assert small.largest_difference(moved, gradients[name]) < 1e-5, name
        assert small.largest_difference(moved, [0.0 * w for w in moved]) > 1e-3, name


def test_rounding_the_cut_changes_little(tmp_path):
    losses = {}
    for dtype in ("float32", "float16", "bfloat16"):
        settings = small.settings(cut_dtype=dtype, layers=0, top="concatenation")
        federation = small.federation(tmp_path / dtype, settings)
        federation.restore()
        row = vertical.train_epoch(federation.label, federation.ask, settings, 1)
        losses[dtype] = row["train/loss"], row["comm/upload_bytes_per_row"]
    assert losses["float16"][1] == losses["bfloat16"][1] == losses["float32"][1] / 2
    assert losses["float16"][0] == pytest.approx(losses["float32"][0], abs=1e-3)
    assert losses["bfloat16"][0] == pytest.approx(losses["float32"][0], abs=2e-2)
