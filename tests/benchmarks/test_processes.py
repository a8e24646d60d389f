"""No contender is left behind, and what one says is found."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from benchmarks import processes


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def pids_file(tmp_path, monkeypatch):
    path = tmp_path / "pids"
    monkeypatch.setenv("STUBBORN_PIDS", str(path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # a killed benchmark cannot remove its own
    return path


def test_what_takes_too_long_is_killed_with_all_it_started(pids_file):
    with pytest.raises(processes.ContenderError, match="took more than 5 s"):
        processes.run("tests.benchmarks.stubborn", timeout=5)
    pids = [int(pid) for pid in pids_file.read_text().split()]
    wait_for(lambda: all(is_gone(pid) for pid in pids))  # a signal is sent, and nobody waits for a child's child


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_contender_outlives_the_benchmark(pids_file, end):
    program = "from benchmarks import processes; processes.interruptible(); processes.run('tests.benchmarks.stubborn')"
    benchmark = subprocess.Popen([sys.executable, "-c", program], cwd=processes.ROOT, stderr=subprocess.DEVNULL)
    wait_for(lambda: pids_file.exists() and pids_file.read_text().endswith("\n"))
    benchmark.send_signal(end)
    benchmark.wait(30)
    pids = [int(pid) for pid in pids_file.read_text().split()]
    wait_for(lambda: all(is_gone(pid) for pid in pids))
    assert pids


def test_a_failure_tells_why():
    with pytest.raises(processes.ContenderError, match="No module named benchmarks.contenders.nobody"):
        processes.run("benchmarks.contenders.nobody")


def test_temporary_files_go_with_their_contender(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(processes.ContenderError):
        processes.run("benchmarks.contenders.nobody")
    assert not os.listdir(tmp_path)
