"""Federations of real participants."""

import importlib
from typing import Any

_MODULES = {"align": f"{__name__}.alignment.tables", "Coordinator": "tff_tx.run.coordinator"}
"""Where what it offers is; imported when it is first asked for, as the coordinator is of a layer above."""
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
