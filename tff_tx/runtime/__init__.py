"""Engines: where and how the rounds of a `LearningProcess` run. The only room that touches TFF's internals."""

from tff_tx.runtime.engine import Engine, Traffic
from tff_tx.runtime.local import LocalEngine
from tff_tx.runtime.native import NativeEngine

ENGINES = {"local": LocalEngine, "tff_native": NativeEngine}
"""By the name of `--engine`."""

__all__ = ["ENGINES", "Engine", "LocalEngine", "NativeEngine", "Traffic"]
