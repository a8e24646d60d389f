"""Forms that were compiled before are those that would be made, and of nothing else."""

import functools
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tensorflow_federated as tff

from tests import tiny
from tff_tx import algorithms
from tff_tx.runtime import LocalEngine, form_store
from tff_tx.runtime.form import RoundForm

OPTIONS = algorithms.Options(
    client_optimizer_fn=lambda rate: algorithms.build_optimizer("adam", rate),
    server_optimizer=algorithms.build_optimizer("sgd", 1.0),
)


@functools.cache
def linear_process(build=algorithms.build_fed_avg):
    return build(tiny.linear_model(), OPTIONS)


@pytest.fixture
def made(monkeypatch):
    """The processes that are compiled, though each once for all tests."""
    found = []
    monkeypatch.setattr(RoundForm, "of", lambda process: found.append(process) or cached(process))
    return found


cached = functools.cache(RoundForm.of)


def test_a_form_is_found_again_and_runs_the_same_round(made, tmp_path):
    process, directory = linear_process(), str(tmp_path / "forms")
    first, second = (form_store.compiled(process, directory) for _ in range(2))
    assert len(made) == 1
    assert second == first
    states = []
    for form in (first, second):
        with LocalEngine(process, 1, form=form) as engine:
            client = tiny.batches(*tiny.client_data(12), batch_size=5)
            states.append(engine.run_round(engine.initialize(), [client]).state)
    for one, other in zip(*map(tiny.weights_of, states)):
        np.testing.assert_array_equal(one, other)


def test_what_others_can_write_is_not_read(made, tmp_path):
    process, directory = linear_process(), tmp_path / "forms"
    form_store.compiled(process, str(directory))
    (path,) = directory.iterdir()
    for where in (directory, path):
        where.chmod(0o777)
        form_store.compiled(process, str(directory))
        assert where.stat().st_mode & 0o077 == 0
    assert len(made) == 3
    form_store.compiled(process, str(directory))
    assert len(made) == 3


def test_the_first_state_is_not_stored(made, tmp_path):
    process = linear_process()
    form_store.compiled(process, str(tmp_path))
    (path,) = tmp_path.iterdir()
    with zipfile.ZipFile(path) as file:
        assert set(file.namelist()) == {*cached(process).computations, "moduli"} - {"initialize"}
    assert path.stat().st_mode & 0o77 == 0


def test_another_process_or_version_or_code_is_another_form(made, tmp_path, monkeypatch):
    form_store.compiled(linear_process(), str(tmp_path))
    form_store.compiled(linear_process(algorithms.build_fed_sgd), str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(tff, "__version__", "0.0")
        form_store.compiled(linear_process(), str(tmp_path))
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "form.py").write_text("another = True")
    with monkeypatch.context() as patch:
        patch.setattr(form_store, "__file__", str(tmp_path / "code" / "form_store.py"))
        form_store.compiled(linear_process(), str(tmp_path))
    assert len(made) == 4
    assert len(list(tmp_path.glob("*.form"))) == 4
    form_store.compiled(linear_process(), str(tmp_path))
    assert len(made) == 4


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b[:500] + b"?" + b[501:], lambda b: b""])
def test_a_damaged_file_is_made_anew(made, tmp_path, damage):
    form = form_store.compiled(linear_process(), str(tmp_path))
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert form_store.compiled(linear_process(), str(tmp_path)) == form
    assert len(made) == 2
    assert form_store.compiled(linear_process(), str(tmp_path)) == form
    assert len(made) == 2
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_that_cannot_be_is_done_without(made, tmp_path):
    (tmp_path / "file").touch()
    for _ in range(2):
        form_store.compiled(linear_process(), str(tmp_path / "file"))
    assert len(made) == 2


@pytest.mark.slow
def test_those_that_were_used_last_stay(made, tmp_path, monkeypatch):
    builds = algorithms.build_fed_avg, algorithms.build_fed_sgd, algorithms.build_mime_lite
    for age, build in enumerate(builds):
        form_store.compiled(linear_process(build), str(tmp_path), most=3)
        newest = max(tmp_path.iterdir(), key=os.path.getmtime)
        os.utime(newest, (age, age))
    form_store.compiled(linear_process(builds[0]), str(tmp_path), most=3)  # it is used
    monkeypatch.setattr(tff, "__version__", "0.0")
    form_store.compiled(linear_process(builds[0]), str(tmp_path), most=3)
    monkeypatch.undo()
    monkeypatch.setattr(RoundForm, "of", lambda process: pytest.fail("it is stored"))
    form_store.compiled(linear_process(builds[0]), str(tmp_path), most=3)
    form_store.compiled(linear_process(builds[2]), str(tmp_path), most=3)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.slow
def test_another_python_process_makes_the_same_name():
    code = "from tests.runtime import test_form_store as t; print(t.form_store._name(t.linear_process()))"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    assert len({run.stdout for run in runs}) == 1
