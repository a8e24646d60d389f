"""Federations of real participants."""

import importlib
from typing import Any

__all__ = ["align"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.alignment.tables").align


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
