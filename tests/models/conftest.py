"""What the tests of models share: models built once, and no process left behind."""

import os
import pathlib
import signal

import pytest

# Nothing here may wait for the network; transformers reads this when it is imported.
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session", autouse=True)
def _no_worker_left():
    """Ends the workers of TFF's default context, which outlive their parent and hold its pipes."""
    yield
    for directory in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (directory / "stat").read_text().rpartition(")")
        except OSError:  # it ended meanwhile
            continue
        if "worker_binary" in name and int(rest.split()[1]) == os.getpid():
            os.kill(int(directory.name), signal.SIGKILL)
