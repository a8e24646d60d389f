"""Real data that the repository does not hold, for the tests that need them."""

import os
import pathlib

import pytest


def shared_file(name: str) -> str:
    """The path of a file such as "ag_news/ag_news_7600.csv"; skips the test if it is not there."""
    beside = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
    path = pathlib.Path(os.environ.get("TFF_TX_SHARED_DATA", beside)) / name
    if not path.exists():
        pytest.skip(f"{name} is not in {path.parent}; TFF_TX_SHARED_DATA says where the data are.")
    return str(path)
