"""Ends the workers of TFF's default context, which outlive their parent and hold its pipes."""

import os
import pathlib
import signal


def end_workers() -> None:
    """Kills those that this process has started."""
    for directory in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (directory / "stat").read_text().rpartition(")")
        except OSError:  # it ended meanwhile
            continue
        if "worker_binary" in name and int(rest.split()[1]) == os.getpid():
            os.kill(int(directory.name), signal.SIGKILL)
