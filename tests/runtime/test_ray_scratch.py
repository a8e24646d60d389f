"""The end of a cluster of ours: whoever it started is killed, and nobody else."""

import os
import subprocess
import sys

import pytest

from tff_tx.runtime import ray_cluster


def test_processes_of_the_cluster_end_and_readers_of_its_logs_do_not():
    scratch = ray_cluster._Scratch()
    wait = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", scratch.path]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with ray_cluster._environment("TFF_TX_RAY_SCRATCH", scratch.path):
        started = subprocess.Popen(wait, **pipes)
    assert "TFF_TX_RAY_SCRATCH" not in os.environ
    with started, subprocess.Popen(wait, **pipes) as reader:
        for process in (started, reader):
            process.stdout.readline()
        scratch.close()
        assert started.wait(10) == -9
        with pytest.raises(subprocess.TimeoutExpired):
            reader.wait(0.2)
        reader.stdin.close()
        assert reader.wait(10) == 0
    assert not os.path.exists(scratch.path)
