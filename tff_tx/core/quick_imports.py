"""Work that libraries do when they are imported, deferred until it is needed: 0.7 s of the imports' 4.2 s.

The same objects are there under the same names. Modules that have been imported before are left alone.
"""

from __future__ import annotations

import copy
import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import ModuleType
from typing import Callable


def install() -> None:
    """Makes later imports of these libraries quicker."""
    sys.meta_path.insert(0, _Finder({"transformers.utils.import_utils": _scan_once, "tensorflow_privacy": _defer}))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds some modules where Python does, and has them executed by functions of (module, how it executes itself)."""

    def __init__(self, runners: dict[str, Callable[[ModuleType, Callable[[ModuleType], None]], None]]):
        self._runners = runners

    def find_spec(self, name, path, target=None):
        if name not in self._runners:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module
            spec.loader.exec_module = lambda module: self._runners[name](module, run)
        return spec


def _scan_once(module, run):
    """Parses the sources of all models of transformers once, where it does so twice for one table: 0.3 s."""
    run(module)
    scan = functools.lru_cache(module.create_import_structure_from_path)

    def scan_once(path):
        path = str(path)
        return copy.deepcopy(scan(path.removesuffix("/__init__.py")))

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
