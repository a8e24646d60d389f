"""Real data that the repository does not hold, for the tests that need them."""

from __future__ import annotations

import os
import pathlib

import pytest

_BESIDE = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
_PLACE = pathlib.Path(os.environ.get("TFF_TX_SHARED_DATA", _BESIDE))

DIRECTORY = _PLACE if _PLACE.is_dir() else None
"""Where the data are, None if nowhere; TFF_TX_SHARED_DATA says it."""


def shared_file(name: str) -> str:
    """The path of a file such as "ag_news/ag_news_7600.csv"; skips the test if it is not there."""
    path = _PLACE / name
    if not path.exists():
        pytest.skip(f"{name} is not in {path.parent}; TFF_TX_SHARED_DATA says where the data are.")
    return str(path)
