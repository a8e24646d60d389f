"""The one place that says where tff_tx runs.

setup.py, the Makefile and the package itself ask here before anything else can fail in a longer way. The Pythons that
it turns away have to parse it too: standard library only, and no syntax that Python 2.7 does not know.
"""

import platform
import sys

PYTHONS = ((3, 9), (3, 10), (3, 11))
GLIBC = (2, 31)


def problem(version, system, machine, libc):
    """Say in one sentence why tff_tx cannot run here, or return None where it can.

    Args:
        version: The Python version, as in `sys.version_info`.
        system: The operating system, as `platform.system()` names it.
        machine: The processor, as `platform.machine()` names it.
        libc: The C library and its version, as `platform.libc_ver()` returns them.
    """
    right_python = tuple(version[:2]) in PYTHONS
    right_machine = system == "Linux" and machine == "x86_64"
    right_libc = libc[0] == "glibc" and _numbers(libc[1]) >= GLIBC
    if right_python and right_machine and right_libc:
        return None

    found = "Python {}.{} on {} {}".format(version[0], version[1], {"Darwin": "macOS"}.get(system, system), machine)
    if right_machine and not right_libc:
        found += " with " + (" ".join(libc) if libc[0] else "a C library other than glibc")
    if right_machine and right_libc:
        remedy = "install Python 3.11, or use a container that has it, such as python:3.11"
    else:
        remedy = "use a Linux x86-64 machine, a container such as python:3.11 or, on Windows, WSL 2, with Python 3.11"
    return (
        "tff_tx runs on Linux x86-64 (glibc {}.{} or newer) with Python 3.9, 3.10 or 3.11, the "
        "only platform TensorFlow Federated 0.87 is built for, and this is {}: {}.".format(
            GLIBC[0], GLIBC[1], found, remedy
        )
    )


class UnsupportedPlatformError(ImportError):
    """tff_tx cannot be imported here; the message is the sentence."""


def check():
    """Raise `UnsupportedPlatformError` where tff_tx cannot run."""
    sentence = problem(sys.version_info, platform.system(), platform.machine(), platform.libc_ver())
    if sentence:
        raise UnsupportedPlatformError(sentence)


def require():
    """Exit with the sentence, and nothing more, where tff_tx cannot run: for installation alone."""
    try:
        check()
    except UnsupportedPlatformError as error:
        sys.exit(str(error))


def _numbers(dotted):
    return tuple(int(part) for part in dotted.split(".")[:2] if part.isdigit())


if __name__ == "__main__":
    require()
