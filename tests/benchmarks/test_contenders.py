"""Every contender runs, on the same work."""

import ast
import importlib
import json
import pathlib

import numpy as np
import pytest

from benchmarks import bench, processes
from benchmarks.contenders import bare, engines, local, tff_native
from benchmarks.workloads import WORKLOADS
from tests.processes import run

TINY = WORKLOADS["tiny"]
FORKED = ("local", "local_streaming", "many_rounds", "many_clients")
OF_ITS_OWN = ("ceiling", "local", "local_streaming", "tff_as_users_write_it")


@pytest.mark.slow
@pytest.mark.parametrize(
    "contender", [pytest.param(bare.bare, marks=pytest.mark.slow), local.local, tff_native.tff_native]
)
def test_contenders_train(contender, monkeypatch):
    monkeypatch.setattr(engines.runtime, "configure_tensorflow", lambda: None)  # TensorFlow runs already
    with contender(TINY) as run_round:
        losses = [float(run_round().loss) for _ in range(4)]
    assert losses[0] == pytest.approx(np.log(2), abs=0.02)
    assert losses[-1] < losses[0]


def report(contender, *flags):
    """What a contender that starts no others reports; those are started."""
    if contender not in FORKED:
        return processes.run(f"benchmarks.contenders.{contender}", flags, timeout=300)
    out, _ = run(f"benchmarks.contenders.{contender}", *flags, cwd=processes.ROOT)
    return json.loads(out.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("contender", OF_ITS_OWN)
def test_contenders_report(contender):
    turn = report(contender, "--workload=tiny", "--rounds=2")
    assert turn["contender"] == contender
    assert len(turn["round_seconds"]) == 2
    assert len(turn["losses"]) == 3
    assert turn["examples_per_second"] == pytest.approx(2 * TINY.examples_per_round / sum(turn["round_seconds"]))
    assert 100e6 < turn["peak_memory_bytes"] < 10e9
    assert turn["first_round_seconds"] > 0


@pytest.mark.slow
def test_long_runs_and_populations_report():
    found = report("many_rounds", "--rounds=20")
    assert len(found["round_seconds"]) == 20
    assert len(found["memory_bytes"]) == 21
    assert len(report("many_clients", "--clients=120", "--rounds=2")["round_seconds"]) == 2


@pytest.mark.slow
def test_start_reports_its_steps(tmp_path):
    steps = processes.run("benchmarks.contenders.start_steps", [f"--forms={tmp_path}"], timeout=300)["steps"]
    assert {"import tensorflow", "functional model", "first round", "second round"} <= set(steps)


@pytest.mark.parametrize("name", bench.CONTENDERS)
def test_contenders_are_named_as_their_files(name):
    assert callable(getattr(importlib.import_module(f"benchmarks.contenders.{name}"), name))


def test_batches_are_the_same_for_all():
    x, y = TINY.client_batches(1)
    again, _ = TINY.client_batches(1)
    other, _ = TINY.client_batches(2)
    assert x["input_ids"].shape == (TINY.batches, TINY.batch_size, TINY.length)
    assert y.shape == (TINY.batches, TINY.batch_size)
    np.testing.assert_array_equal(x["input_ids"], again["input_ids"])
    assert (x["input_ids"] != other["input_ids"]).any()
    assert x["input_ids"].max() < TINY.vocabulary


def test_what_peers_import_needs_no_tensorflow():
    """Their environment has none."""
    root = pathlib.Path(processes.ROOT, "benchmarks")
    for path in (*root.glob("peers/*.py"), root / "measure.py", root / "workloads.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not any(n.split(".")[0] in ("tensorflow", "tff_tx", "programs", "absl") for n in names), path
