"""Signals that asked the process to end: libraries make other errors of a KeyboardInterrupt, or drop it."""

from __future__ import annotations

received: list[int] = []
"""Their numbers, oldest first, which programs add."""


def check() -> None:
    """Raises KeyboardInterrupt if a signal has come."""
    if received:
        raise KeyboardInterrupt
