"""Runs that are killed, damaged and crowded out again and again, beside undisturbed ones: `python -m benchmarks.chaos`.

Each run of `programs.train` is started until it has ended, and every start but the last meets something: a kill or a
signal at any moment, a disk that is full after so many bytes, a second start at the same time, or a file that was
damaged since. In the end its rounds, cohorts and model must be those of an undisturbed run, byte for byte.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable
from typing import Any

import psutil

from benchmarks.chaos_runs import SIGNALS, FederationRuns, Runs

ENGINES = {"local": Runs, "tff_native": Runs, "ray": Runs, "federation": FederationRuns}
_SIGNALS = (signal.SIGKILL, signal.SIGKILL, *SIGNALS)
_STARTS, _REFUSED = 5, 2
_PYTHON_SECONDS = 3.0
"""In which Python may not have come to the program's own code yet."""


class Deck:
    """Draws from what is left until nothing is, and then from all again: short soaks meet everything, too."""

    def __init__(self, draw: random.Random, cards: Iterable[Any]):
        self._draw, self._cards, self._left = draw, [*cards], []

    def __call__(self) -> Any:
        if not self._left:
            self._left = self._draw.sample(self._cards, len(self._cards))
        return self._left.pop()


class Chaos:
    """Disturbs runs, and counts what happens.

    Args:
      engines: Which.
      directory: For all files.
      seed: Decides what is done, but not when a process is how far.
    """

    def __init__(self, engines: list[str], directory: pathlib.Path, seed: int):
        self._draw, self.counts = random.Random(seed), collections.Counter()
        self._runs = {engine: ENGINES[engine](engine, directory / engine) for engine in engines}
        self._engines = Deck(self._draw, engines)
        often = (self._signal, self._signal, self._signal, self._damage, self._damage)
        whats = (*often, self._full, self._crowd, self._orphan)
        self._disturbances = {engine: Deck(self._draw, whats) for engine in engines}
        self._expected, self._seconds = {}, {}

    def undisturbed(self) -> None:
        """Makes the runs that others are compared with."""
        for engine, runs in self._runs.items():
            whole = runs.end(runs.begin("whole"))
            if whole.problem({0}):
                raise RuntimeError(f"{engine}: {whole.said[-2000:]}")
            self._expected[engine], self._seconds[engine] = runs.results("whole"), whole.seconds
            print(f"{engine}: undisturbed in {whole.seconds:.0f} s", flush=True)

    def disturbed(self, number: int) -> None:
        """One run, started until it has ended, and its comparison."""
        engine = self._engines()
        runs, name, log = self._runs[engine], f"run{number}", []
        for _ in range(self._draw.randint(1, _STARTS)):
            self._disturbances[engine]()(runs, name, log)
            if (runs.directory / name / "results.json").exists() and self._draw.random() < 0.8:
                break
        last = runs.end(runs.begin(name))
        if self._refused(last, log):  # both checkpoints, or all that is known of a round: said, and begun anew
            shutil.rmtree(runs.directory / name)
            last = runs.end(runs.begin(name))
        self._judge(last, {0}, log)
        if last.code == 0:
            self._compare(runs, name, log)
        while runs.ends:
            ended, number = runs.ends.pop()
            self._judge(ended, set() if number is None else {128 + number, -number}, log)
        self._count_left("files", [path.name for path in runs.temporary.iterdir()], log)
        self._count_left("processes", runs.left_processes(), log)
        shutil.rmtree(runs.temporary)
        runs.temporary.mkdir()
        self.counts["runs"] += 1
        print(f"{time.strftime('%H:%M:%S')} {number} {engine}: {'; '.join(log)}", flush=True)

    def close(self) -> None:
        """Ends what serves all runs."""
        for runs in self._runs.values():
            runs.close()

    def _count_left(self, what, left, log):
        self.counts[f"left {what}"] += len(left)
        if left:
            log.append(f"LEFT {', '.join(left)[:200]}")

    def _signal(self, runs, name, log):
        number, after = self._draw.choice(_SIGNALS), self._draw.uniform(0, 1.1 * self._seconds[runs.engine])
        log.append(f"{number.name} after {after:.1f} s")
        expected = {0, 128 + number, *([-number] if number == signal.SIGKILL or after < _PYTHON_SECONDS else [])}
        self._judge(runs.end(runs.begin(name), number, after), expected, log)

    def _full(self, runs, name, log):
        most = int(10 ** self._draw.uniform(2, 5.5))
        log.append(f"no file beyond {most} bytes")
        self._judge(runs.end(runs.begin(name, most)), {0, _REFUSED}, log)

    def _crowd(self, runs, name, log):
        log.append("two starts")
        both = [runs.begin(name) for _ in range(2)]
        ends = [runs.end(process) for process in both]
        for end in ends:
            self._judge(end, {0, _REFUSED}, log)
        if not any(end.code == 0 for end in ends) and not any(self._refused(end, log) for end in ends):
            self.counts["neither of two ended"] += 1

    def _orphan(self, runs, name, log):
        after, number = self._draw.uniform(0.2, 1) * self._seconds[runs.engine], self._draw.choice(_SIGNALS[1:3])
        process = runs.begin(name)
        time.sleep(after)
        if others := runs.others(process):
            other = self._draw.choice(others)
            with contextlib.suppress(psutil.NoSuchProcess):
                log.append(f"{number.name} for {other.name()} after {after:.1f} s")
                runs.sent[other.pid] = number
                other.send_signal(number)
        else:
            log.append("depends on no other process")
        self._judge(runs.end(process), {0, _REFUSED}, log)

    def _damage(self, runs, name, log):
        if not (files := sorted(runs.files(name))):
            return
        path = self._draw.choice(files)
        content = bytearray(path.read_bytes())
        how = self._draw.choice(("emptied", "cut", "changed", "removed"))
        if how == "removed":
            path.unlink()
        else:
            place = self._draw.randrange(len(content) or 1)
            content = content[: 0 if how == "emptied" else place if how == "cut" else None]
            if how == "changed" and content:
                content[place] ^= 1 << self._draw.randrange(8)
            path.write_bytes(content)
        log.append(f"damage: {path.relative_to(runs.directory)} {how}")

    def _judge(self, end, expected, log):
        self.counts["starts"] += 1
        problem = end.problem(expected)
        if problem and not self._refused(end, log):
            self.counts["problems"] += 1
            log.append(f"PROBLEM {problem}: {end.said[-600:]}")

    def _refused(self, end, log):
        """Whether a sentence says that damage cannot be made good."""
        refused = end.code == _REFUSED and "Error:" in end.said and any("damage" in what for what in log)
        if refused:
            self.counts["refused after damage"] += 1
            log.append(f"refused ({end.said.strip().splitlines()[-1][:160]})")
        return refused

    def _compare(self, runs, name, log):
        found, expected = runs.results(name), self._expected[runs.engine]
        lost = expected["rounds"].count("\n") - found["rounds"].count("\n")
        self.counts["lost rounds"] += max(lost, 0)
        different = [part for part in expected if found[part] != expected[part]]
        self.counts["differences"] += len(different)
        log.append(f"DIFFERENT {', '.join(different)}" if different else "the same")


def main() -> int:
    """Disturbs runs for a time; the exit code is 1 if anything was lost, different, or ended in anything but words."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="no run is begun after that")
    parser.add_argument("--engine", action="append", choices=[*ENGINES], help="may be repeated; default: all")
    parser.add_argument("--seed", type=int, default=0, help="of what is done")
    flags = parser.parse_args()
    started, number = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="chaos") as directory:
        chaos = Chaos(flags.engine or list(ENGINES), pathlib.Path(directory), flags.seed)
        with contextlib.closing(chaos):
            chaos.undisturbed()
            while time.monotonic() < started + 60 * flags.minutes:
                number += 1
                chaos.disturbed(number)
    zeros = ("lost rounds", "differences", "problems", "neither of two ended", "left files", "left processes")
    counts = {**dict.fromkeys(zeros, 0), **chaos.counts}
    print(f"{(time.monotonic() - started) / 60:.0f} minutes: " + ", ".join(f"{n} {what}" for what, n in counts.items()))
    return int(any(counts[what] for what in zeros))


if __name__ == "__main__":
    sys.exit(main())
