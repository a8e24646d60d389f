"""What importing the runtime leaves behind when a program ends: nothing."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

USED = """
import numpy as np
import tensorflow_federated as tff

@tff.tensorflow.computation(np.int32)
def add_one(x):
    return x + 1

print(add_one(1))
"""


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
    program = f"import tff_tx.runtime\n{ending}\n"
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (ended.returncode, ended.stdout) == (code, out), ended.stderr
    assert "Exception ignored" not in ended.stderr
    assert "__del__" not in ended.stderr
    assert all(line in ended.stderr for line in err)
