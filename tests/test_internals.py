"""Internals of other libraries: used where the tables say, for what they say, and nowhere else."""

import ast
import pathlib
import re

import pytest

from tff_tx.core import internals
from tff_tx.models import tracing
from tff_tx.runtime import internals as runtime_internals

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = {
    ROOT / "tff_tx" / "models" / "tracing": tracing.INTERNALS,
    ROOT / "tff_tx" / "runtime" / "internals": runtime_internals.INTERNALS,
}
GUARD = ROOT / "tff_tx" / "core" / "internals.py"
ROWS = [row for rows in PACKAGES.values() for row in rows]

MODULES = re.compile(
    r"tensorflow\.(python|core)\.|tensorflow_federated\.(python|proto)\.|(tf_)?keras\.src\."
    r"|transformers\.(models|modeling_\w+|configuration_\w+)\."
)
"""What other libraries do not document, of all that can be imported."""

PUBLIC = {"_asdict", "_fields", "_make", "_replace", "_exit"}
"""Of named tuples and of `os`, documented in spite of their names."""
ATTRIBUTES = {"_gradient_op_type", "_trainable", "experimental_ints_on_device"}
"""Of graphs and layers, by the strings that name them."""


class Reaches(ast.NodeVisitor):
    """Collects what a file uses or replaces of other libraries' internals, as strings like the tables' symbols."""

    def __init__(self, own):
        self.own, self.found, self.patches = own, set(), set()
        self.names = {}

    def visit_Import(self, node):
        for alias in node.names:
            self._module(f"{alias.name}.")
            self.names[alias.asname or alias.name.split(".")[0]] = (
                alias.name if alias.asname else alias.name.split(".")[0]
            )

    def visit_ImportFrom(self, node):
        for alias in node.names:
            self.names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
            self._module(f"{node.module}.{alias.name}.")

    def _module(self, name):
        if MODULES.match(name):
            self.found.add(name.rstrip("."))

    def visit_Attribute(self, node):
        chain, inner = [node.attr], node.value
        while isinstance(inner, ast.Attribute):
            chain.insert(0, inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name) and inner.id in self.names:
            full = ".".join([self.names[inner.id], *chain])
            if "__internal__" in chain or (MODULES.match(f"{full}.") and not MODULES.match(f"{self.names[inner.id]}.")):
                self.found.add(full)
                return
        private = node.attr.startswith("_") and not node.attr.startswith("__") and node.attr not in PUBLIC
        of_self = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        if private and not of_self and node.attr not in self.own:
            self.found.add(node.attr)
        self.generic_visit(node)

    def visit_Call(self, node):
        name = getattr(node.func, "id", None)
        if name in ("setattr", "delattr") and not isinstance(getattr(node.args[0], "id", None), type(None)):
            self.patches.add(name)
        self.generic_visit(node)

    def visit_Assign(self, node):
        for target in node.targets:
            held = target.value if isinstance(target, ast.Subscript) else target
            if getattr(getattr(held, "func", None), "id", None) == "vars":
                self.patches.add("vars")
            elif isinstance(held, ast.Attribute) and re.fullmatch(r"__\w+__", held.attr):
                self.patches.add(held.attr)
        self.generic_visit(node)

    def visit_Constant(self, node):
        if node.value in ATTRIBUTES:
            self.found.add(node.value)


def own_private_names(paths):
    """Private names of this package: those of functions, and of attributes of `self`."""
    names = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                names.add(node.name)
            stored = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
            if stored and isinstance(node.value, ast.Name) and node.value.id == "self":
                names.add(node.attr)
    return names


def sources():
    paths = (p for top in ("tff_tx", "programs") for p in sorted((ROOT / top).rglob("*.py")))
    return [p for p in paths if not p.name.endswith("_pb2.py")]  # which protoc writes


@pytest.fixture(scope="module")
def reaches():
    """By file what it uses and what it replaces."""
    paths = sources()
    own, found = own_private_names(paths), {}
    for path in paths:
        found[path] = visitor = Reaches(own)
        visitor.visit(ast.parse(path.read_text()))
    return found


def named(symbol, rows):
    """The rows of a symbol, of its last part, or of what is in a module."""
    return [row for row in rows if f".{row.symbol}.".find(f".{symbol}.") >= 0]


def package(path):
    return next((package for package in PACKAGES if package in path.parents), None)


def test_internals_are_used_in_two_packages_alone(reaches):
    elsewhere = {str(p): r.found for p, r in reaches.items() if r.found and package(p) is None}
    assert not elsewhere


def test_what_is_used_is_in_the_tables(reaches):
    missing = [
        (str(path), symbol)
        for path, found in reaches.items()
        for symbol in found.found
        if package(path) is not None and not named(symbol, PACKAGES[package(path)])
    ]
    assert not missing


def test_what_is_in_the_tables_is_used(reaches):
    for directory, rows in PACKAGES.items():
        used = set().union(*(r.found for p, r in reaches.items() if directory in p.parents))
        source = "\n".join(p.read_text() for p in directory.glob("*.py") if p.name != "__init__.py")
        for row in rows:
            name = row.symbol.rsplit(".", 1)[-1]
            assert any(named(symbol, [row]) for symbol in used) or re.search(rf"\b{name}\b", source), row.symbol


def test_attributes_are_replaced_by_the_guard_alone(reaches):
    allowed = {
        GUARD: {"setattr", "delattr"},
        ROOT / "tff_tx" / "runtime" / "internals" / "calls.py": {"__dict__"},  # of many tensors a step: without a lock
        # Of libraries that are being imported, for good: there is no block, and nothing of this package is there yet.
        ROOT / "tff_tx" / "core" / "quick_imports.py": {"setattr", "__getattr__", "__path__", "__spec__"},
    }
    found = {path: r.patches for path, r in reaches.items() if r.patches}
    assert found == allowed
    swapping = [path for path in sources() if "swapped(" in path.read_text() and path != GUARD]
    for path in swapping:
        assert package(path) is not None, path
        assert [n for n in swapped_names(path) if not named(n, PACKAGES[package(path)])] == []


def swapped_names(path):
    """Names in tuples (owner, name, value)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Tuple) and len(node.elts) > 2 and isinstance(node.elts[0], (ast.Name, ast.Attribute)):
            name = getattr(node.elts[1], "value", None)
            if isinstance(name, str):
                yield name


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.symbol)
def test_every_row_has_a_reason_a_version_and_a_test(row):
    assert len(row.why) > 10
    assert re.match(r"(TensorFlow|TFF|Keras|tf_keras|transformers) \d", row.since)
    path, _, function = row.test.partition("::")
    assert re.search(rf"^def {function}\(", (ROOT / "tests" / path).read_text(), re.MULTILINE), row.test


@pytest.mark.parametrize(
    "code",
    [
        "from tensorflow.python.ops import gen_random_ops",
        "import tensorflow as tf\ntf.__internal__.eager_context.eager_mode()",
        "import transformers\ntransformers.modeling_tf_utils.TFConv1D",
        "x._model_mapping",
        "self._function._call_flat(x)",
    ],
)
def test_a_reach_is_seen(code):
    visitor = Reaches(set())
    visitor.visit(ast.parse(code))
    assert visitor.found


@pytest.mark.parametrize(
    "code", ['setattr(x, "a", 1)', "x.__dict__ = {}", 'x.__dict__["a"] = 1', 'vars(x)["a"] = 1', "x.__call__ = f"]
)
def test_a_patch_is_seen(code):
    visitor = Reaches(set())
    visitor.visit(ast.parse(code))
    assert visitor.patches


class Owner:
    """Has an attribute of its class and one of its own."""

    of_class = 1

    def __init__(self):
        self.own = 2


@pytest.mark.parametrize("fails", [False, True])
def test_the_guard_restores_what_was_there(fails):
    owner, table = Owner(), {"a": 1}
    swaps = [
        (owner, "own", 20),
        (owner, "of_class", 10),
        (owner, "own", 21),
        (owner, "new", 0),
        (table, "a", internals.ABSENT),
        (table, "b", 3),
        (Owner, "of_class", 100),
        (internals, "GUARDED", 1),
    ]
    try:
        with internals.swapped(*swaps):
            assert (owner.own, owner.of_class, owner.new, Owner.of_class, internals.GUARDED) == (21, 10, 0, 100, 1)
            assert table == {"b": 3}
            with internals.swapped((owner, "own", internals.ABSENT)):
                assert not hasattr(owner, "own")
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert vars(owner) == {"own": 2}
    assert (Owner.of_class, table, hasattr(internals, "GUARDED")) == (1, {"a": 1}, False)


def test_the_guard_restores_when_an_attribute_cannot_be_replaced():
    owner = Owner()
    with pytest.raises(TypeError), internals.swapped((owner, "own", 20), (3, "real", 1)):
        pass
    assert owner.own == 2
