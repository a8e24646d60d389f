"""The split step is the joint model's: gradients of all parties are those on pooled data."""

import concurrent.futures
import shutil

import portpicker
import pytest

from tests.federation.parties import make_kits
from tests.vertical import small
from tff_tx import vertical
from tff_tx.config.vertical import VerticalActionConfig
from tff_tx.run.vertical_federation import Federation
from tff_tx.run.vertical_parties import run_party
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
    settings = small.settings(parties=parties, optimizer="sgd", learning_rate=1.0, **more)
    federation = small.federation(tmp_path, settings, small.config(dataset))
    federation.restore()
    loss, gradients = small.joint_step(federation)
    before, said = small.weights(federation), {"split": "train", "epoch": 1, "batch": 0}
    answers = federation.ask("step", {name: (said, ()) for name in federation.label.others})
    split_loss, sent = federation.label.step(1, 0, received(answers, federation.label, 64))
    federation.ask("end", {name: (said, [gradient]) for name, gradient in sent.items()})
    assert split_loss == pytest.approx(loss, abs=1e-6)
    small.assert_moved_by(before, small.weights(federation), gradients)


@pytest.mark.parametrize(
    ("dataset", "parties"),
    [("breast_cancer", small.TUMOURS), ("digits", DIGITS), ("breast_cancer", THIRD)],
    ids=["two parties", "three parties", "labels alone"],
)
def test_gradients_over_sockets_are_those_of_the_joint_model_on_pooled_data(dataset, parties, tmp_path):
    """Parties over mutual TLS train an epoch of one batch; what each saved before and after differs by the gradient."""
    settings = small.settings(parties=parties, optimizer="sgd", learning_rate=1.0, batch_size=2048, epochs=1)
    label = next(name for name, party in parties.items() if "label" in party)
    kits, address = tmp_path / "certs", f"localhost:{portpicker.pick_unused_port()}"
    make_kits(kits, parties.keys() - {label})
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = []
        for name in parties:
            kit = str(kits / ("coordinator" if name == label else name))
            way = {"address" if name == label else "coordinator": address, "certificate": kit}
            config = small.config(dataset, **{"run.directory": str(tmp_path / name)})
            running.append(pool.submit(run_party, config, settings, VerticalActionConfig(party=name, **way)))
        for future in running:
            future.result()
    for name in parties:
        shutil.copytree(tmp_path / name / "parties" / name, tmp_path / "all" / "parties" / name)
    federation = Federation(small.config(dataset), settings, str(tmp_path / "all"), trained=True)
    federation._all("restore", {"at_most": 0})
    before, (_, gradients) = small.weights(federation), small.joint_step(federation)
    assert federation.restore() == 1
    small.assert_moved_by(before, small.weights(federation), gradients)


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
