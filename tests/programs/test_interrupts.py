"""Signals end programs as Ctrl-C does, and the second one at once, wherever they come."""

import os
import signal
import subprocess
import sys

import pytest

from tests.processes import ROOT, with_signals

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]

WAITS = """
import sys, time
from programs import cli

def main(settings):
    try:
        say("runs")
        time.sleep(60)
    finally:
        say("saves")
        SAVING

def say(what):
    print(what, flush=True)

sys.argv = ["x"]
cli.Program(main).run()
"""

IMPORTS = """
import sys, time
sys.argv = ["-m"]  # as while `python -m programs.train` imports
import programs
print("runs", flush=True)
time.sleep(60)
"""

DESTROYS = """
import os, signal, sys
from programs import interrupts
interrupts.install()

class Destroyed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass

x = Destroyed()
del x
print("runs", flush=True)
sys.stdin.read()
"""


def start(program, ignored=()):
    command = with_signals([sys.executable, "-c", program], default=set(SIGNALS) - set(ignored), ignored=ignored)
    return subprocess.Popen(
        command, cwd=ROOT, text=True, **dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    )


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("program", [WAITS.replace("SAVING", "pass"), IMPORTS], ids=["running", "importing"])
def test_a_signal_ends_a_program_with_a_sentence(program, number):
    process = start(program)
    assert process.stdout.readline() == "runs\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert err.strip() == f"stopped by {number.name}."


def test_an_interrupt_that_a_library_makes_an_error_of_is_one():
    """As pybind11 does with one that comes while it makes an exception."""
    process = start(WAITS.replace("SAVING", 'raise RuntimeError("REPLACED BY KeyboardInterrupt")'))
    assert process.stdout.readline() == "runs\n"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err.strip()) == (128 + signal.SIGTERM, "stopped by SIGTERM.")


def test_the_second_signal_ends_it_at_once():
    process = start(WAITS.replace("SAVING", "time.sleep(60)"))
    assert process.stdout.readline() == "runs\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "saves\n"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)  # of the 60 s that saving would take
    assert (process.returncode, err) == (128 + signal.SIGTERM, "")


def test_a_signal_in_a_destructor_is_not_lost():
    process = start(DESTROYS)
    assert process.stdout.readline() == "runs\n"
    _, err = process.communicate(timeout=30) if process.wait(30) else ("", "")
    assert (process.returncode, err.strip()) == (128 + signal.SIGTERM, "stopped by SIGTERM.")


ENDS = """
import atexit, os, signal, sys
from programs import cli

class Last:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGHUP)

def main(settings):
    sys.modules["lives as long as Python"] = Last()
    atexit.register(lambda: sys.stdout.write("after it"))
    sys.stdout.write("runs, ")
    sys.exit(3)

sys.argv = ["x"]
cli.Program(main).run()
"""


def test_a_program_ends_with_its_code_and_words_before_python_takes_itself_apart():
    """Nobody catches signals then, and threads of libraries abort."""
    process = start(ENDS)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (3, "runs, after it", "")


PRINTS = """
import sys
from programs import cli
sys.argv = ["x"]
cli.Program(lambda settings: print("runs")).run()
"""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_is_said(unbuffered, monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with open("/dev/full", "w") as full:
        ended = subprocess.run([sys.executable, "-c", PRINTS], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (2, "Error: the output cannot be written (No space left on device).\n")


WRITES = """
import sys, tempfile, time
from programs import cli

def main(settings):
    with open(tempfile.mkstemp(suffix="generated.py")[0], "w"):
        print("runs", flush=True)
        SLEEPING

sys.argv = ["x"]
cli.Program(main).run()
"""


def test_no_end_leaves_temporary_files_beyond_the_next_start(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    others = [tmp_path / "tff_tx_of_x", tmp_path / f"tff_tx_of_{os.getpid()}_lives"]
    for other in others:
        other.mkdir()
    for number in (signal.SIGKILL, signal.SIGTERM, None):
        process = start(WRITES.replace("SLEEPING", "pass" if number is None else "time.sleep(60)"))
        assert process.stdout.readline() == "runs\n"
        if number is not None:
            process.send_signal(number)
        process.communicate(timeout=30)
        left = [path for path in tmp_path.iterdir() if path not in others]
        assert len(left) == (number == signal.SIGKILL)
    assert all(other.exists() for other in others)


FAILS = """
import resource, sys
from programs import cli

def main(settings):
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST, MOST))
    raise RuntimeError("of a library without room for its generated code")

sys.argv = ["x"]
cli.Program(main).run()
"""


@pytest.mark.parametrize(
    ("limit", "code", "end"),
    [
        (1 << 30, 1, "RuntimeError: of a library"),
        (1000, 2, "Error: temporary files cannot be written (File too large)"),
    ],
)
def test_an_error_for_want_of_temporary_files_is_a_sentence_and_any_other_is_not(limit, code, end):
    process = start(FAILS.replace("MOST", str(limit)))
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert err.strip().splitlines()[-1].startswith(end)
    assert ("Traceback" in err) == (code == 1)


def test_too_little_memory_is_a_sentence():
    large = "import numpy as np, resource; resource.setrlimit(resource.RLIMIT_DATA, (1 << 32, 1 << 32)); np.ones(2**40)"
    process = start(PRINTS.replace('print("runs")', f"exec({large!r})"))
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err.count("\n")) == (2, 1), err
    assert err.startswith("Error: the memory is too small (Unable to allocate 8.00 TiB")


def test_without_a_place_for_temporary_files_a_program_does_not_start(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "x"))
    process = start(f"import tempfile\ntempfile.tempdir = {str(tmp_path / 'x')!r}\n" + FAILS)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err.count("\n")) == (2, 1)
    assert err.startswith("Error: temporary files cannot be written (No such file or directory): make room")


def test_what_is_ignored_stays_ignored():
    """As after `nohup`."""
    process = start(WAITS.replace("SAVING", "pass"), ignored=[signal.SIGHUP])
    assert process.stdout.readline() == "runs\n"
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
