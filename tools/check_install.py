"""Tells in a sentence what is wrong with an installation of requirements.txt, if anything is.

`make setup` ends with it, and tests/test_packaging.py holds the environment of the tests to it.
"""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMPORTS = "tensorflow_federated, transformers, tf_keras"


def read_requirements(path):
    """Return {name: what follows it} for the lines of a requirements file."""
    lines = (line.split("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return {re.match(r"[\w.-]+", line)[0]: re.sub(r"^[\w.-]+", "", line).strip() for line in lines if line}


def wrong_versions(lock):
    """Return what is installed otherwise than the lock says, as one text for each package."""
    wrong = []
    for name, version in lock.items():
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = "not installed"
        if "==" + found != version:
            wrong.append(f"{name} is {found} instead of {version[2:]}")
    return wrong


def unknown_complaints(pip_check, overridden):
    """Return the lines of `pip check` that are not about a deliberately overridden package."""
    complaint = re.compile(r"\S+ \S+ (?:has requirement|requires) ([\w.-]+)")
    lines = [line for line in pip_check.splitlines() if line != "No broken requirements found."]
    return [line for line in lines if not (m := complaint.match(line)) or m[1].lower() not in overridden]


def failed_import():
    """Return why the main packages cannot be imported, or an empty text."""
    run = _python("-c", f"import {IMPORTS}")
    if run.returncode < 0:
        return f"killed by signal {-run.returncode}; TensorFlow needs a processor with AVX"
    return (run.stderr.strip().splitlines() or ["no message"])[-1] if run.returncode else ""


def main():
    """Run all checks, the quick ones first, and exit with the first that fails."""
    wrong = wrong_versions(read_requirements(ROOT / "requirements.txt"))
    if wrong:
        sys.exit(
            f"The installation differs from requirements.txt ({', '.join(wrong)}): "
            "run 'make clean' and then 'make setup'."
        )
    complaints = _python("-m", "pip", "check").stdout
    unknown = unknown_complaints(complaints, read_requirements(ROOT / "overrides.txt"))
    if unknown:
        sys.exit(
            f"Installed packages do not fit together ({' '.join(unknown)}): run 'make clean' and "
            "then 'make setup', and after a change of requirements.in also 'make lock' before it."
        )
    reason = failed_import()
    if reason:
        sys.exit(f"{IMPORTS} cannot be imported ({reason}): run 'make clean' and then 'make setup'.")


def _python(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True)


if __name__ == "__main__":
    main()
