"""What importing the runtime leaves behind when a program ends: nothing; and what is not its own it leaves alone."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.processes import ROOT, with_signals

USED = """
import numpy as np
import tensorflow_federated as tff

@tff.tensorflow.computation(np.int32)
def add_one(x):
    return x + 1

print(add_one(1))
"""


def run(program, ignored=()):
    command = with_signals([sys.executable, "-W", "ignore", "-c", program], ignored=ignored)
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "code", "out", "err"),
    [
        ("", 0, "", []),
        ("raise SystemExit(3)", 3, "", []),
        ("raise RuntimeError('at the end')", 1, "", ["RuntimeError: at the end"]),
        # TFF's own default still works, and its worker, which holds stdout open, ends with the program.
        (USED, 0, "2\n", []),
    ],
    ids=["normal", "exit", "exception", "default context used"],
)
def test_a_program_ends_without_noise(ending, code, out, err):
    ended = run(f"import tff_tx.runtime\n{ending}\n")
    assert (ended.returncode, ended.stdout) == (code, out), ended.stderr
    assert "Exception ignored" not in ended.stderr
    assert "__del__" not in ended.stderr
    assert all(line in ended.stderr for line in err)


@pytest.mark.slow
def test_tffs_default_context_goes_on_working_where_it_was_used_before():
    ended = run(f"{USED}\nimport tff_tx.runtime\nprint(add_one(2))")
    assert (ended.returncode, ended.stdout) == (0, "2\n3\n"), ended.stderr
    assert "Exception ignored" not in ended.stderr


@pytest.mark.slow
def test_what_the_program_made_itself_is_left_alone():
    """A worker that another context started survives, and a context that the program has set computes to the end."""
    program = """
import atexit, os, subprocess

@atexit.register
def compute():
    print(add_one(1))

import tensorflow_federated as tff
import tff_tx.runtime

worker = os.path.join(os.path.dirname(tff.__file__), "data", "worker_binary")
child = subprocess.Popen([worker, "--port=0"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(child.pid)

class Mine(tff.framework.SyncContext):
    def invoke(self, comp, arg):
        return "mine"

tff.framework.set_default_context(Mine())

@tff.tensorflow.computation(int)
def add_one(x):
    return x + 1
""".replace("(int)", "(__import__('numpy').int32)")
    ended = run(program)
    pid, *rest = ended.stdout.splitlines()
    assert psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE, ended.stderr
    os.kill(int(pid), signal.SIGKILL)
    assert (ended.returncode, rest) == (0, ["mine"]), ended.stderr


@pytest.mark.slow
def test_a_program_ends_where_it_ignores_interrupts():
    """As after `nohup python x.py &`: a worker of TFF's default context would be waited for and never end."""
    ended = run("import tff_tx.runtime", ignored=[signal.SIGINT])
    assert (ended.returncode, ended.stderr) == (0, "")
