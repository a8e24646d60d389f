"""Programs as processes: started as users start them, or forked from one that has imported the libraries.

Importing TensorFlow and TFF takes six seconds of a core, more than most programs run in the tests. A forked program is
a process with an exit code and streams of its own all the same; what only a started one shows (that importing prints
nothing, that signals and kills find it at any time) is tested with started ones.
"""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

_SECONDS = 500
FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload(["pytest", "matplotlib.pyplot", "tff_tx.run.trainer", "tests.converted"])


def with_signals(command, *, default=(), ignored=()):
    """A command that starts with these signals at their defaults, or ignored, whatever the tests run under (`nohup`).

    In place of `preexec_fn`, with which Python forks: gRPC's and the tokenizers' handlers then run in the child, where
    the tests' process has used them, and print to its standard error.
    """
    program = "".join(f"signal.signal({int(n)}, signal.SIG_DFL)\n" for n in (*default, signal.SIGPIPE, signal.SIGXFSZ))
    program += "".join(f"signal.signal({int(n)}, signal.SIG_IGN)\n" for n in ignored)
    return [
        sys.executable,
        "-I",
        "-S",
        "-c",
        f"import os, signal, sys\n{program}os.execv(sys.argv[1], sys.argv[1:])",
        *command,
    ]


def start(program, *flags, cwd, default_signals=(), **kwargs):
    """Starts `python -m programs.PROGRAM`."""
    return subprocess.Popen(
        with_signals([sys.executable, "-m", f"programs.{program}", *flags], default=default_signals),
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


def run(program, *flags, cwd, code=0, forked=True):
    """Runs a program, or a module of another package, to an end with the exit code; gives its output and its errors."""
    if forked:
        found, out, err = _run_forked(program if "." in program else f"programs.{program}", flags, cwd)
    else:
        process = start(program, *flags, cwd=cwd)
        out, err = process.communicate(timeout=_SECONDS)
        found = process.returncode
    assert found == code, err[-3000:]
    return out, err


def call(target):
    """Calls a function of a module in a forked process, in which TensorFlow is not set up yet; gives the exit code."""
    process = FORKING.Process(target=target)
    process.start()
    process.join(_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
    return process.exitcode


class Forked:
    """A module as a program that is forked; it writes to two files, or to one."""

    def __init__(self, module, flags, cwd, *streams):
        self._process = FORKING.Process(target=_main, args=(module, flags, cwd, streams, dict(os.environ)))
        self._process.start()

    @property
    def pid(self):
        return self._process.pid

    def poll(self):
        """The exit code; None: it runs."""
        return self._process.exitcode

    def wait(self, seconds=_SECONDS):
        """The exit code, when it has ended; None: it takes longer."""
        self._process.join(seconds)
        return self.poll()

    def kill(self):
        """kill -9."""
        self._process.kill()
        self._process.join()


def _run_forked(module, flags, cwd):
    with tempfile.TemporaryDirectory() as directory:
        streams = [pathlib.Path(directory, name) for name in ("out", "err")]
        process = Forked(module, flags, cwd, *streams)
        if process.wait() is None:
            process.kill()
        return (process.poll(), *(path.read_text() if path.exists() else "" for path in streams))


def _main(module, flags, cwd, streams, environment):
    os.environ.clear()  # that of the server which forks is of its start
    os.environ.update(environment)
    os.chdir(cwd)
    for descriptor, path in zip((1, 2), (streams[0], streams[-1])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    sys.argv = [module, *flags]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
