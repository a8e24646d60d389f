"""What the tests of models share: no process left behind."""

import pytest

from tests.workers import end_workers


@pytest.fixture(scope="session", autouse=True)
def _no_worker_left():
    yield
    end_workers()
