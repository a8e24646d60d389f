"""Workers of TFF: those of its default context outlive their parent and hold its pipes."""

import os
import pathlib
import signal

import psutil


def end_workers() -> None:
    """Kills those that this process has started."""
    for directory in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (directory / "stat").read_text().rpartition(")")
        except OSError:  # it ended meanwhile
            continue
        if "worker_binary" in name and int(rest.split()[1]) == os.getpid():
            os.kill(int(directory.name), signal.SIGKILL)


def running_in(directory) -> list[psutil.Process]:
    """The processes whose working directory is this one: a program's, and what it has started."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(directory):
                found.append(process)
        except psutil.Error:  # it ended meanwhile, or is another user's
            continue
    return found
