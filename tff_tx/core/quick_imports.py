"""Work that libraries do when they are imported, deferred until it is needed: 1.2 s of the imports' 4.2 s.

The same objects are there under the same names. Modules that have been imported before are left alone.
"""

from __future__ import annotations

import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import pickle
import sys
import threading
from types import ModuleType
from typing import Callable

_LATER = (
    "dp_accounting.pld",
    "tensorflow._api.v2.compat.v1.lite",
    "tensorflow._api.v2.compat.v2.lite",
    "tensorflow._api.v2.lite",
    "tensorflow.compat.v1.lite",
    "tensorflow.compat.v2.lite",
    "tensorflow_federated.python.core.environments.jax",
    "tensorflow_federated.python.learning.programs",
)
"""Modules that others import, and few use: TensorFlow Lite and TFF's JAX take jax along, TFF's programs take vizier.

None that several threads may be the first to use, of which one imports a module within it: they would wait for each
other for ever.
"""
_EXECUTES = ("__all__", "__path__", "__version__")
"""Names with underscores that are a module's own or, `__path__`, what imports of modules within it ask for."""


def install() -> None:
    """Makes later imports of these libraries quicker."""
    runners = {
        "transformers.utils.import_utils": _scan_once,
        "transformers.data.metrics": _without_sklearn,
        "tensorflow_privacy": _defer,
        **dict.fromkeys(_LATER, _run_later),
    }
    sys.meta_path.insert(0, _Finder(runners))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds some modules where Python does, and has them executed by functions of (module, how it executes itself)."""

    def __init__(self, runners: dict[str, Callable[[ModuleType, Callable[[ModuleType], None]], None]]):
        self._runners = runners

    def find_spec(self, name, path, target=None):
        if target is None and name in sys.modules and name.rpartition(".")[0] in _LATER:
            # To be imported, its package had to be executed, and that has imported it.
            return importlib.machinery.ModuleSpec(name, _Imported(sys.modules[name]))
        if name not in self._runners:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module
            spec.loader.exec_module = lambda module: self._runners[name](module, run)
        return spec


class _Imported(importlib.abc.Loader):
    """Gives a module that has been imported."""

    def __init__(self, module: ModuleType):
        self._module, self._spec = module, module.__spec__

    def create_module(self, spec):
        return self._module

    def exec_module(self, module):
        module.__spec__ = self._spec


def _run_later(module, run):
    """Executes a module when one of its names, or a module within it, is first asked for; other threads wait for it."""
    state, lock, done, running = vars(module), threading.RLock(), False, False
    path = state.pop("__path__", None)

    def __getattr__(name):
        nonlocal done, running
        with lock:
            if running or not done and name.startswith("__") and name not in _EXECUTES:
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            if not done:
                running = True
                try:
                    if path is not None:
                        module.__path__ = path
                    run(module)
                    done = True
                    if state.get("__getattr__") is __getattr__:  # and not the module's own
                        del module.__getattr__
                finally:
                    running = False
        return getattr(module, name)

    module.__getattr__ = __getattr__


def _without_sklearn(module, run):
    """Leaves out scikit-learn and SciPy's statistics, which transformers imports for metrics of its past: 0.2 s.

    Each of these first asks whether scikit-learn is there.
    """
    utils = sys.modules["transformers.utils"]
    available, utils.is_sklearn_available = utils.is_sklearn_available, lambda: False
    try:
        run(module)
    finally:
        utils.is_sklearn_available = available

    def requires_backends(*args):
        run(module)  # which takes the place of this function, too
        module.requires_backends(*args)

    module.requires_backends = requires_backends


def _scan_once(module, run):
    """Parses the sources of all models of transformers once, where it does so twice for one table: 0.3 s."""
    run(module)
    scan = module.create_import_structure_from_path
    scanned = functools.lru_cache(lambda path: pickle.dumps(scan(path)))  # from which a copy is made soonest

    def scan_once(path):
        return pickle.loads(scanned(str(path).removesuffix("/__init__.py")))

    module.create_import_structure_from_path = scan_once


_QUERIES = "tensorflow_privacy.privacy.dp_query"
_LIGHT = {
    "DPQuery": "dp_query",
    "SumAggregationDPQuery": "dp_query",
    "GaussianSumQuery": "gaussian_query",
    "NormalizedQuery": "normalized_query",
    "QuantileEstimatorQuery": "quantile_estimator_query",
    "NoPrivacyQuantileEstimatorQuery": "quantile_estimator_query",
    "QuantileAdaptiveClipSumQuery": "quantile_adaptive_clip_sum_query",
    "TreeResidualSumQuery": "tree_aggregation_query",
    "tree_aggregation": None,
}
"""By name in tensorflow_privacy, the module of queries that defines it; None: it is that module."""


def _defer(module, run):
    """Leaves out TensorFlow Probability and estimators, which tensorflow_privacy imports for what few use: 0.4 s."""
    sys.skip_tf_privacy_import = True  # the library's own switch
    try:
        run(module)
    finally:
        del sys.skip_tf_privacy_import

    def __getattr__(name):
        if name.startswith("__") and name != "__all__":  # which `import *` asks for
            raise AttributeError(name)
        if name in _LIGHT:
            found = importlib.import_module(f"{_QUERIES}.{_LIGHT[name] or name}")
            found = getattr(found, name) if _LIGHT[name] else found
        else:
            del module.__getattr__
            run(module)
            found = getattr(module, name)
        setattr(module, name, found)
        return found

    module.__getattr__ = __getattr__
