"""What every contender does alike: take the same flags, time its rounds, tell it in one line of JSON."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import re
import signal
import sys
import threading
import time
from typing import Any, Callable

import psutil

from benchmarks.workloads import WORKLOADS, Workload

WATCHER = "TFF_TX_BENCHMARK_WATCHER"
"""In a contender's environment, the process that started it: it ends with that, and is all that descends from it."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What a contender is told."""

    workload_name: str
    workload: Workload
    rounds: int
    warmup: int
    flags: argparse.Namespace | None = None


@dataclasses.dataclass(frozen=True)
class Round:
    """What a contender tells of a round.

    Attributes:
      loss: Mean training loss; shows that it trains, and on what.
      seconds: Where the round's wall time is not what counts, what does.
    """

    loss: float
    seconds: float | None = None


def parse(description: str | None = None, more: Callable[[argparse.ArgumentParser], None] | None = None) -> Options:
    """The flags of a contender. Not of absl, which the peers' environment lacks.

    Args:
      description: Of the contender.
      more: Adds flags of its own, which are in the result's `flags`.
    """
    _end_with_watcher()
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--workload", choices=WORKLOADS, default="A")
    parser.add_argument("--clients", type=int, help="clients a round; default: the workload's")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that are measured")
    parser.add_argument("--warmup", type=int, default=1, help="rounds before, in which graphs are traced")
    if more is not None:
        more(parser)
    flags = parser.parse_args()
    workload = WORKLOADS[flags.workload]
    if flags.clients:
        workload = dataclasses.replace(workload, clients=flags.clients)
    return Options(flags.workload, workload, flags.rounds, flags.warmup, flags)


def main(contender: Callable[[Workload], contextlib.AbstractContextManager[Callable[[], Round]]]) -> None:
    """Runs and reports a contender: a context that gives a function which runs a round."""
    options = parse(sys.modules[contender.__module__].__doc__)
    with contender(options.workload) as run_round:
        watch = Stopwatch(contender.__name__, options)
        while not watch.done:
            watch.lap(run_round())
        watch.report()


class Stopwatch:
    """Times rounds from one `lap` to the next; what is traced in the warm-up does not count."""

    def __init__(self, name: str, options: Options):
        self._name, self._options = name, options
        self._rounds: list[Round] = []
        self._first_round: float | None = None
        self._usage = None
        self._started = time.perf_counter()

    @property
    def total_rounds(self) -> int:
        """Rounds to run, with the warm-up."""
        return self._options.warmup + self._options.rounds

    @property
    def done(self) -> bool:
        """Whether all rounds are run."""
        return len(self._rounds) == self.total_rounds

    def lap(self, done: Round) -> None:
        """Ends a round; the next begins."""
        seconds = done.seconds if done.seconds is not None else time.perf_counter() - self._started
        if not self._rounds:
            self._first_round = time.time() - root().create_time()
        self._rounds.append(Round(float(done.loss), seconds))
        if len(self._rounds) == self._options.warmup:
            self._usage = time.perf_counter(), cpu_seconds()
        self._started = time.perf_counter()

    def report(self) -> None:
        """Prints the line; to be called before the contender ends its processes."""
        options, measured = self._options, self._rounds[self._options.warmup :]
        since, cpu_before = self._usage or (None, 0.0)
        cpu = cpu_seconds() - cpu_before
        line = {
            "contender": self._name,
            "workload": options.workload_name,
            "clients": options.workload.clients,
            "examples_per_second": len(measured)
            * options.workload.examples_per_round
            / sum(r.seconds for r in measured),
            "round_seconds": [r.seconds for r in measured],
            "first_round_seconds": self._first_round,
            "peak_memory_bytes": peak_memory_bytes(),
            "cpu_seconds": cpu,
            "busy_processors": cpu / (time.perf_counter() - since) if since else None,
            "losses": [r.loss for r in self._rounds],
        }
        print(json.dumps(line), flush=True)


def root() -> psutil.Process:
    """The first process of this contender: a launcher, if there is one, else this."""
    process, watcher = psutil.Process(), os.environ.get(WATCHER)
    if watcher is None:
        return process
    return next((p for p in (process, *process.parents()) if str(p.ppid()) == watcher), process)


def tree() -> list[psutil.Process]:
    """All processes of this contender."""
    return [root(), *root().children(recursive=True)]


def cpu_seconds() -> float:
    """User and system time of the process tree so far."""
    total = 0.0
    for process in tree():
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            # What children that ended used was added to their parent's.
            total += times.user + times.system + times.children_user + times.children_system
    return total


def peak_memory_bytes() -> int:
    """The peaks of resident memory of the processes in the tree, added up.

    The kernel keeps them, so nothing has to watch while rounds are timed. Their sum is more than the peak of the sum,
    by little where the processes work at the same time.
    """
    return sum(peak_bytes(process.pid) for process in tree())


def peak_bytes(pid: int) -> int:
    """The peak of resident memory of one process."""
    return _status_bytes(pid, "VmHWM")


def memory_bytes() -> int:
    """Resident memory of the process tree now."""
    return sum(_status_bytes(process.pid, "VmRSS") for process in tree())


def _status_bytes(pid: int, field: str) -> int:
    try:
        with open(f"/proc/{pid}/status") as status:
            found = re.search(rf"{field}:\s*(\d+) kB", status.read())
    except OSError:  # it ended meanwhile
        return 0
    return int(found[1]) * 1024 if found else 0


def _end_with_watcher() -> None:
    """Kills this process, its group and its descendants as soon as standard input, which the watcher holds, ends."""
    if WATCHER not in os.environ:
        return

    def watch():
        while os.read(0, 1):
            pass
        for child in psutil.Process().children(recursive=True):  # some lead groups of their own
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def mean(values: Any) -> float:
    """The mean of some losses."""
    values = [float(v) for v in values]
    return sum(values) / len(values)
