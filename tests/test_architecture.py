"""Imports go down only, rooms on one floor do not know each other, and the public surface is pinned."""

import ast
import importlib
import inspect
import pathlib
import pkgutil

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

FLOORS = {
    "tff_tx.core": 0,
    "tff_tx.config": 1,
    "tff_tx.runtime": 2,
    "tff_tx.datasets": 3,
    "tff_tx.models": 3,
    "tff_tx.aggregators": 4,
    "tff_tx.privacy": 4,
    "tff_tx.algorithms": 5,
    "tff_tx.cohorts": 5,
    "tff_tx.federation": 6,
    "tff_tx.vertical": 7,
    "tff_tx.tasks": 6,
    "tff_tx.analysis": 7,
    "tff_tx.inference": 7,
    "tff_tx.run": 8,
    "programs": 9,
    "benchmarks": 10,
    "data": 10,
}

PACKAGES = (
    *("core", "config", "runtime", "datasets", "models", "aggregators", "aggregators.compression", "aggregators.dp"),
    *("privacy", "algorithms", "algorithms.distillation", "cohorts", "tasks", "analysis.attacks", "analysis.auditing"),
    *(
        "analysis.contribution",
        "analysis.vocabulary",
        "federation",
        "federation.alignment",
        "federation.secure_sums",
        "vertical",
        "inference",
        "run",
        "run.callbacks",
        "run.assemble",
    ),
)
NOTEBOOK = {
    *(
        "Adagrad",
        "Adam",
        "AdamW",
        "AdaptiveDPFedAvg",
        "Algorithm",
        "Attack",
        "BandMF",
        "ByColumn",
        "Callback",
        "DPFTRL",
        "DeltaSGD",
    ),
    *(
        "DPFedAvg",
        "DPSGD",
        "Data",
        "Devices",
        "Dirichlet",
        "FedAvg",
        "FedBuff",
        "FedDF",
        "FedEx",
        "FedExP",
        "FedGKD",
        "FedProx",
        "FedRep",
        "FedBABU",
        "FedRecon",
        "Ditto",
        "PFedMe",
        "APFL",
        "MRMTL",
        "FedDPA",
        "IFCA",
        "FedSGD",
        "FedDyn",
        "FedNova",
        "PerFedAvg",
        "Reptile",
        "Scaffold",
    ),
    *(
        "Iid",
        "LoRA",
        "LocalDP",
        "MimeLite",
        "Model",
        "PowerLaw",
        "Ray",
        "RunConfig",
        "SGD",
        "Shards",
        "Task",
        "Trainer",
    ),
    *(
        "UserError",
        "Yogi",
        "aggregator",
        "clip",
        "compress",
        "federation",
        "load_task",
        "mean",
        "settings",
        "stack",
        "zero",
    ),
}


def room(module):
    """The room a module is in: the longest of the names above that begins it."""
    found = [name for name in FLOORS if module == name or module.startswith(name + ".")]
    return max(found, key=len) if found else None


def files():
    for top in ("tff_tx", "programs", "benchmarks", "data"):
        yield from (p for p in (ROOT / top).rglob("*.py"))


def imported(path):
    """Modules that a file imports, `from package import module` as package.module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", files(), ids=module_name)
def test_imports_go_down(path):
    name = module_name(path)
    if name == "tff_tx":
        return
    here = room(name)
    assert here is not None, f"{name} is in no room: give it one in FLOORS"
    for target in imported(path):
        there = room(target)
        if there is None or there == here:
            continue
        assert FLOORS[there] < FLOORS[here], f"{name} imports {target}"


def test_flags_are_read_by_programs_alone():
    for path in (ROOT / "tff_tx").rglob("*.py"):
        assert not any(target.startswith("absl.flags") for target in imported(path)), path


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_package_offers_is_there_and_documented(package):
    module = importlib.import_module(f"tff_tx.{package}")
    assert module.__doc__
    tree = ast.parse(pathlib.Path(module.__file__).read_text())
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module.startswith("tff_tx")]
    for name in getattr(module, "__all__", [alias.name for node in imports for alias in node.names]):
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value):
            assert value.__doc__, f"{package}.{name}"


def test_what_a_notebook_needs_is_pinned():
    import tff_tx

    assert set(tff_tx.__all__) == NOTEBOOK
    assert all(getattr(tff_tx, name).__doc__ for name in NOTEBOOK)


def test_every_module_is_in_a_room():
    import tff_tx

    for info in pkgutil.iter_modules(tff_tx.__path__, "tff_tx."):
        assert info.name in FLOORS, f"{info.name} is in no room: give it one in FLOORS"
