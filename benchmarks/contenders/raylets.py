"""Nodes of a Ray cluster on one machine, each with one core of its own."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

import psutil

from benchmarks.processes import ROOT
from tff_tx import runtime

_STORE_BYTES = 1_000_000_000
_SECONDS = 300.0


@contextlib.contextmanager
def cluster(number: int) -> Iterator[runtime.RayCluster]:
    """A cluster with a head that trains nobody, and nodes pinned to this process's cores, in turn.

    All end with the block, and with the contender.

    Args:
      number: Of the nodes with a processor; more than there are cores share them.
    """
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))
    from ray import cluster_utils

    options = {"object_store_memory": _STORE_BYTES}
    nodes = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **options})
    try:
        # Joined while there is the head alone, so that this process is on none of the others.
        with runtime.RayCluster(nodes.address) as joined:
            cores = sorted(os.sched_getaffinity(0))
            for i in range(number):
                with _on_core(cores[i % len(cores)]):
                    nodes.add_node(num_cpus=1, **options)
            _wait_for_workers(joined, number)
            yield joined
    finally:
        nodes.shutdown()


def worker_processes() -> list[psutil.Process]:
    """Processes of the workers on the nodes that this process has started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "ray::Worker" in " ".join(process.cmdline()):
                found.append(process)
    return found


@contextlib.contextmanager
def _on_core(core):
    """Processes started meanwhile stay on a core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _wait_for_workers(joined, number):
    deadline = time.monotonic() + _SECONDS
    while len(joined.ready()) < number:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{number} workers were not up after {_SECONDS:.0f} s {joined.start_error}")
        time.sleep(0.2)
        joined.refresh()
