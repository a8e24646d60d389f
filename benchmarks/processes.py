"""Runs contenders, each in a process of its own, and leaves none behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

import psutil

from benchmarks import measure

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_OFFLINE": "1",
    "PYTHONWARNINGS": "ignore",
    "PYTHONDONTWRITEBYTECODE": "",  # this project's code, as all installed code, is compiled once
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


class ContenderError(RuntimeError):
    """A contender ended without a result; the message has the end of what it wrote."""


def run_program(name: str, *arguments: str) -> None:
    """Runs a program of the project to its end, whose output is shown; one that fails ends this one."""
    done = subprocess.run([sys.executable, "-m", f"programs.{name}", *arguments], cwd=ROOT, check=False)
    if done.returncode:
        raise SystemExit(f"programs.{name} {' '.join(arguments)} ended with code {done.returncode}.")


def run(
    module: str,
    arguments: Sequence[str] = (),
    *,
    python: str = sys.executable,
    launcher: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    timeout: float = 3600.0,
) -> dict:
    """Runs `python -m module arguments` and gives the JSON object that it prints.

    It runs in a session and with a temporary directory of its own. What is left of it is killed when it ends, when this
    program is interrupted, and (by `measure.parse`) when this program is killed.

    Args:
      module: Name of the module.
      arguments: Its flags.
      python: Which interpreter.
      launcher: Put between the interpreter and `-m`, such as another module that starts several.
      environment: Variables to set.
      timeout: Seconds it may take.

    Raises:
      ContenderError: If it fails or takes too long.
    """
    with contextlib.ExitStack() as stack:
        # Files, as a process that outlives the contender would keep a pipe open.
        output, errors = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
        scratch = tempfile.mkdtemp(prefix="bench")
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        process = subprocess.Popen(
            [python, *launcher, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=errors,
            cwd=ROOT,
            env={
                **os.environ,
                **_QUIET,
                **(environment or {}),
                **dict.fromkeys(("TMPDIR", "RAY_TMPDIR"), scratch),
                measure.WATCHER: str(os.getpid()),
            },
            start_new_session=True,
        )
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ContenderError(f"{module} took more than {timeout:.0f} s.") from None
        finally:
            end_group(process)
        output.seek(0)
        for line in output.read().decode().splitlines():
            with contextlib.suppress(ValueError):
                found = json.loads(line)
                if isinstance(found, dict):
                    return found
        errors.seek(0)
        told = errors.read().decode(errors="replace").strip()[-3000:]
        raise ContenderError(f"{module} ended with code {process.returncode} and no result:\n{told}")


def end_group(process: subprocess.Popen) -> None:
    """Kills what is left of a process, of what it has started, and of the session it leads."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):  # some lead sessions of their own
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.stdin.close()
    process.wait()


def interruptible() -> None:
    """Makes a terminated program clean up as an interrupted one does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
