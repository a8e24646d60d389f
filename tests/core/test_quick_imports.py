"""What is deferred when libraries are imported is there when it is asked for."""

import subprocess
import sys

import pytest

DEFERRED = """
import ast, builtins, pathlib, sys
import programs
import tensorflow_federated, tff_tx.aggregators.dp, tff_tx.algorithms
assert not {"tensorflow_probability", "tensorflow_estimator"} & set(sys.modules)

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
