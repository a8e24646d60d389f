"""The environment of `%%tff` cells: found, or made from requirements.txt with a Python 3.9 to 3.11."""

import contextlib
import importlib.util
import os
import pathlib
import platform
import runpy
import shutil
import subprocess
import sys
import time

from tff_cells.problems import Problem

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHON = "TFF_PYTHON"
"""Environment variable with the Python of an environment that is already there."""
_CHECK = ROOT / "tff_tx" / "core" / "platform_check.py"
_VERSIONS = ("3.11", "3.10", "3.9")


def runs_in_place():
    """Whether this very Python can run the cells, and no other was asked for."""
    wrong = runpy.run_path(str(_CHECK))["problem"](
        sys.version_info, platform.system(), platform.machine(), platform.libc_ver()
    )
    return not wrong and PYTHON not in os.environ and bool(importlib.util.find_spec("tensorflow_federated"))


def variables(python):
    """The environment variables of a kernel of that Python."""
    return {
        **{name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "VIRTUAL_ENV")},
        "PATH": os.pathsep.join([os.path.dirname(python), os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "notebooks")]),
        "PYTHONWARNINGS": "ignore:IProgress not found",  # progress bars are text: widgets belong to one kernel
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def prepare():
    """Makes the environment unless there is one, showing progress; returns its Python.

    Raises:
      Problem: If no Python 3.9 to 3.11 can be had, or the packages cannot be installed.
    """
    if PYTHON in os.environ:
        return _named(os.environ[PYTHON])
    if shutil.which("make") is None:
        raise Problem("The environment of %%tff cells is made by make, which is not installed: install it.")
    python = str(ROOT / ".venv" / "bin" / "python")
    if subprocess.run(["make", "-q", ".venv/complete"], cwd=ROOT, capture_output=True).returncode:
        base = find_python() or fetch_python()
        if _stream(["make", "--no-print-directory", "setup", f"PYTHON={base}"], cwd=ROOT):
            raise Problem(
                f"The packages of requirements.txt could not be installed into {ROOT / '.venv'}, for the reason above: "
                "run the cell again when it is removed."
            )
    return python


def _named(python):
    found = shutil.which(python)
    if found is None or not _is_right(found, "import ipykernel, tensorflow_federated"):
        raise Problem(
            f"{PYTHON}={python}: must be a Python 3.9 to 3.11 with the packages of requirements.txt; unset it, and an "
            "environment is made."
        )
    return os.path.abspath(found)


def find_python():
    """The first Python 3.11, 3.10 or 3.9 that can make a virtual environment, None if there is none."""
    home = pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv"))
    for version in _VERSIONS:
        found = [shutil.which(f"python{version}"), _uv_find(version)]
        for python in filter(None, [*found, *sorted(home.glob(f"versions/{version}.*/bin/python"), reverse=True)]):
            if _is_right(str(python), "import ensurepip, venv"):
                return str(python)
    return None


def fetch_python():
    """Lets uv fetch a Python 3.11; returns its path.

    Raises:
      Problem: If it cannot be had.
    """
    print("Found no Python 3.9, 3.10 or 3.11: fetching Python 3.11 with uv.", flush=True)
    reason = ""
    with contextlib.suppress(OSError):
        if _uv() is None:
            subprocess.run([sys.executable, "-m", "pip", "install", "-qq", "uv"], capture_output=True)
        if uv := _uv():
            run = subprocess.run([*uv, "python", "install", "3.11"], capture_output=True, text=True)
            reason = (run.stderr.strip().splitlines() or [""])[-1].strip()
            if found := _uv_find("3.11"):
                return found
    raise Problem(
        "No Python 3.9, 3.10 or 3.11 is on this machine, and uv could not fetch one"
        f"{f' ({reason})' if reason else ''}: install Python 3.11 with its venv module, or check the network."
    )


def _uv():
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    return ["uv"] if shutil.which("uv") else None


def _uv_find(version):
    if (uv := _uv()) is None:
        return None
    run = subprocess.run(
        [*uv, "python", "find", "--managed-python", "--no-project", version], capture_output=True, text=True
    )
    return run.stdout.strip() if run.returncode == 0 else None


def _is_right(python, imports):
    """Whether it is supported, and imports what is needed."""
    program = f"import importlib.util, sys; exec(open({str(_CHECK)!r}).read()); " + "; ".join(
        f"assert importlib.util.find_spec({name.strip()!r})" for name in imports.removeprefix("import ").split(",")
    )
    with contextlib.suppress(OSError):
        return subprocess.run([python, "-c", program], cwd=ROOT, capture_output=True).returncode == 0
    return False


def _stream(command, **options):
    """Runs a command and shows what it prints as it comes; returns its exit code."""
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options) as process:
        while piece := os.read(process.stdout.fileno(), 4096):
            sys.stdout.write(piece.decode("utf-8", "replace"))
            sys.stdout.flush()
    print(f"{command[0]} took {time.monotonic() - started:.0f} s.")
    return process.returncode
