"""A directory for the temporary files of a program and of what it starts, which no end of it leaves behind for long.

TensorFlow writes each function that it converts to a file of its own, and removes these when a program ends as usual.
Those of a killed program are removed by the next one that starts.
"""

from __future__ import annotations

import atexit
import glob
import os
import re
import shutil
import tempfile

_PREFIX = "tff_tx_of_"
_PROBE = 1 << 20


def use() -> None:
    """Makes the directory, and removes those of programs that have ended."""
    place = tempfile.gettempdir()
    for path in glob.glob(os.path.join(glob.escape(place), f"{_PREFIX}*")):
        owner = re.match(rf"{_PREFIX}(\d+)_", os.path.basename(path))
        if owner is not None and not os.path.exists(f"/proc/{owner[1]}"):
            shutil.rmtree(path, ignore_errors=True)  # which leaves alone what is another user's
    tempfile.tempdir = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}_", dir=place)
    os.environ["TMPDIR"] = tempfile.tempdir
    atexit.register(remove)


def problem() -> str | None:
    """Why temporary files cannot be written; None: they can.

    AutoGraph needs them, and where it has none it leaves functions as they are, which fail in any way later.
    """
    try:
        with tempfile.TemporaryFile() as file:
            file.write(bytes(_PROBE))
    except OSError as error:
        reason = error.strerror or error
        return f"temporary files cannot be written ({reason}): make room, or name another place by the variable TMPDIR."
    return None


def remove() -> None:
    """Removes the directory of this process, if it has one."""
    if os.path.basename(tempfile.gettempdir()).startswith(f"{_PREFIX}{os.getpid()}_"):
        shutil.rmtree(tempfile.gettempdir(), ignore_errors=True)
