"""What is deferred when libraries are imported is there when it is asked for."""

import importlib
import subprocess
import sys
import threading

import pytest

from tff_tx.core import quick_imports

DEFERRED = """
import ast, builtins, pathlib, sys
import programs
import tensorflow_federated, tff_tx.run.trainer
names = {"tensorflow_probability", "tensorflow_estimator", "jax", "vizier", "sklearn", "scipy.stats"}
names |= {"tff_tx.federation.hub", "matplotlib.pyplot"}
assert not names & set(sys.modules), names & set(sys.modules)

import pandas
import tensorflow as tf
assert tf.lite.TFLiteConverter is tf.compat.v2.lite.TFLiteConverter and "jax" in sys.modules
assert callable(tensorflow_federated.learning.programs.train_model)
assert callable(tensorflow_federated.jax.computation)
from dp_accounting import pld
assert pld.PLDAccountant().get_epsilon(1e-5) == 0
from transformers.data import metrics
figures = metrics.acc_and_f1(pandas.Series([1, 0, 1]), pandas.Series([1, 0, 0]))
assert figures["f1"] == 2 / 3 and metrics.pearson_and_spearman([1, 2, 3], [2, 4, 6])["spearmanr"] == 1

import tensorflow_privacy
from tensorflow_privacy.privacy.dp_query import dp_query, tree_aggregation
assert tensorflow_privacy.DPQuery is dp_query.DPQuery
assert tensorflow_privacy.tree_aggregation is tree_aggregation
tree = ast.parse(pathlib.Path(tensorflow_privacy.__file__).read_text())
names = {a.asname or a.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for a in node.names}
assert len(names) > 30
missing = {name for name in names if not hasattr(tensorflow_privacy, name)}
assert not missing, missing
assert not hasattr(tensorflow_privacy, "nothing")

import transformers.models
from transformers.utils import import_utils
models, opened, really = pathlib.Path(transformers.models.__file__), [], builtins.open
builtins.open = lambda path, *args, **kwargs: opened.append(path) or really(path, *args, **kwargs)
found = import_utils.create_import_structure_from_path(str(models))
assert not opened
assert found == import_utils.create_import_structure_from_path(models.parent)
found.clear()
assert "bert" in import_utils.create_import_structure_from_path(models.parent)
"""


@pytest.mark.slow
def test_deferred_modules_are_imported_on_access():
    run = subprocess.run([sys.executable, "-c", DEFERRED], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]


@pytest.fixture
def deferred(tmp_path, monkeypatch):
    """Imports a package of these sources, by name in it, which is executed later; gives it and what was executed."""

    def make(**sources):
        package = tmp_path / "put_off"
        package.mkdir()
        for name, source in sources.items():
            (package / f"{name}.py").write_text(f"import sys\nsys.executed.append({name!r})\n{source}")
        sys.path_importer_cache.clear()
        return importlib.import_module("put_off"), sys.executed

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "executed", [], raising=False)
    monkeypatch.setattr(quick_imports, "_LATER", ("put_off",))
    finder = quick_imports._Finder({"put_off": quick_imports._run_later})
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    yield make
    for name in [name for name in sys.modules if name.startswith("put_off")]:
        del sys.modules[name]


def test_a_deferred_module_is_executed_when_a_name_is_asked_for(deferred):
    package, executed = deferred(__init__="x = 1")
    assert not hasattr(package, "__wrapped__")
    assert package.__file__
    assert executed == []
    assert package.x == 1
    assert not hasattr(package, "y")
    assert executed == ["__init__"]
    assert importlib.reload(package) is package


def test_a_module_within_a_deferred_one_is_executed_once_and_after_it(deferred):
    package, executed = deferred(__init__="from put_off import inner", inner="from put_off import other", other="")
    inner = importlib.import_module("put_off.inner")
    assert executed == ["__init__", "inner", "other"]
    assert inner is package.inner is sys.modules["put_off.inner"]
    assert type(inner.__spec__.loader).__name__ == "SourceFileLoader"
    assert importlib.import_module("put_off.other") is inner.other
    importlib.reload(inner)
    assert executed == ["__init__", "inner", "other", "inner"]


def test_names_that_a_deferred_module_makes_itself(deferred):
    package, _ = deferred(__init__="def __getattr__(name):\n  return name * 2")
    assert package.x == "xx"
    assert package.y == "yy"


def test_a_deferred_module_that_fails_is_executed_anew(deferred):
    package, executed = deferred(__init__="if len(sys.executed) == 1: 1 / 0\nx = 1")
    with pytest.raises(ZeroDivisionError):
        _ = package.x
    assert package.x == 1
    assert executed == ["__init__"] * 2


def test_threads_wait_for_a_deferred_module(deferred):
    package, executed = deferred(__init__="import time\nx = 1\ntime.sleep(0.05)\ny = 2")
    found = []
    threads = [threading.Thread(target=lambda: found.append(package.y)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [2] * 4
    assert executed == ["__init__"]
