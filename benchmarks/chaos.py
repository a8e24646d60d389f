"""Runs that are killed, damaged and crowded out again and again, beside undisturbed ones: `python -m benchmarks.chaos`.

Each run of `programs.train` is started until it has ended, and every start but the last meets something: a kill or a
signal at any moment, a disk that is full after so many bytes, a second start at the same time, or a file that was
damaged since. In the end its rounds, cohorts and model must be those of an undisturbed run, byte for byte.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pandas as pd

from benchmarks import processes

ENGINES = ("local", "tff_native", "ray")
_SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_ROUNDS, _STARTS, _LIMIT = 8, 5, 600.0
_FLAGS = [
    *("--dataset=digits", "--num_clients=6", "--clients_per_round=4", "--local_steps=2", f"--rounds={_ROUNDS}"),
    *("--rounds_per_evaluation=3", "--rounds_per_checkpoint=2", "--seconds_per_example=0.1"),
    '--model_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}',
]
_REFUSED = 2


@dataclasses.dataclass
class Started:
    """A start of the program that has ended: its exit code, what it wrote to standard error, and its seconds."""

    code: int
    said: str
    seconds: float

    def problem(self, expected: set[int]) -> str:
        """What is wrong with the way that it ended; empty: nothing."""
        if "Traceback" in self.said:
            return "traceback"
        return "" if self.code in expected else f"exit code {self.code}"


class Runs:
    """Runs of one engine in a directory, with a cache and a place for temporary files of their own."""

    def __init__(self, engine: str, directory: pathlib.Path):
        self.engine, self.directory, self.temporary = engine, directory, directory / "tmp"
        self.temporary.mkdir(parents=True)

    def begin(self, name: str, most_bytes: int | None = None) -> subprocess.Popen:
        """Starts the program; files may grow to so many bytes."""

        def limit():
            for number in _SIGNALS[2:]:
                signal.signal(number, signal.SIG_DFL)
            if most_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))

        command = [sys.executable, "-m", "programs.train", *_FLAGS, f"--engine={self.engine}", f"--run_dir={name}"]
        return subprocess.Popen(
            [*command, f"--cache_dir={self.directory / 'cache'}"],
            cwd=self.directory,
            env={
                **os.environ,
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "PYTHONPATH": processes.ROOT,
                "TMPDIR": str(self.temporary),
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=limit,
            start_new_session=True,
        )

    def end(self, process: subprocess.Popen, number: int | None = None, after: float = 0.0) -> Started:
        """Waits for the end of a start; one that does not come to it is killed, with exit code None for a hang."""
        started = time.monotonic()
        if number is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(after)
            if process.poll() is None:
                process.send_signal(number)
        try:
            _, said = process.communicate(timeout=_LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            _, said = process.communicate()
            said += "\nTraceback: it hung"
        return Started(process.returncode, said, time.monotonic() - started)

    def results(self, name: str) -> dict[str, object]:
        """What must be the same: rounds but for times, cohorts, and the model."""
        run = self.directory / name
        table = pd.read_csv(run / "metrics.csv", dtype=str)
        return {
            "rounds": table[[column for column in table if not column.startswith("time/")]].to_csv(),
            "cohorts": (run / "cohorts.jsonl").read_text(),
            "model": (run / "model" / "model.safetensors").read_bytes(),
        }


class Chaos:
    """Disturbs runs, and counts what happens.

    Args:
      engines: Which.
      directory: For all files.
      seed: Decides what is done, but not when a process is how far.
    """

    def __init__(self, engines: list[str], directory: pathlib.Path, seed: int):
        self._draw, self.counts = random.Random(seed), collections.Counter()
        self._runs = {engine: Runs(engine, directory / engine) for engine in engines}
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
        engine = self._draw.choice([*self._runs])
        runs, name, log, starts = self._runs[engine], f"run{number}", [], self._draw.randint(1, _STARTS)
        for _ in range(starts):
            if self._disturb(runs, name, log) and self._ended(runs, name):
                break
        last = runs.end(runs.begin(name))
        if last.code == _REFUSED and "Error:" in last.said and any("damage" in what for what in log):
            # Both checkpoints, or all that is known of a round: said, and begun anew.
            self.counts["refused after damage"] += 1
            log.append(f"refused ({last.said.strip().splitlines()[-1][:160]})")
            shutil.rmtree(runs.directory / name)
            last = runs.end(runs.begin(name))
        self._judge(last, {0}, log)
        if last.code == 0:
            self._compare(runs, name, log)
        left = [path.name for path in runs.temporary.iterdir()]
        if left:
            self.counts["left temporary files"] += len(left)
            log.append(f"left {', '.join(left)[:100]}")
            shutil.rmtree(runs.temporary)
            runs.temporary.mkdir()
        self.counts["runs"] += 1
        print(f"{time.strftime('%H:%M:%S')} {number} {engine}: {'; '.join(log)}", flush=True)

    def _ended(self, runs, name):
        return (runs.directory / name / "results.json").exists()

    def _disturb(self, runs, name, log):
        what = self._draw.choice((self._signal, self._signal, self._signal, self._full, self._crowd, self._damage))
        what(runs, name, log)
        return True

    def _signal(self, runs, name, log):
        number, after = self._draw.choice(_SIGNALS), self._draw.uniform(0, 1.1 * self._seconds[runs.engine])
        log.append(f"{number.name} after {after:.1f} s")
        self._judge(runs.end(runs.begin(name), number, after), {0, 128 + number, -number}, log)

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
        if not any(end.code == 0 for end in ends):
            self.counts["neither of two ended"] += 1

    def _damage(self, runs, name, log):
        files = [p for p in (runs.directory / name).rglob("*") if p.is_file() and p.name != ".lock"]
        files += [p for p in (runs.directory / "cache").rglob("*") if p.is_file() and p.suffix != ".lock"]
        if not files:
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
        if problem := end.problem(expected):
            self.counts["problems"] += 1
            log.append(f"PROBLEM {problem}: {end.said[-600:]}")

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
    parser.add_argument("--engine", action="append", choices=ENGINES, help="may be repeated; default: all")
    parser.add_argument("--seed", type=int, default=0, help="of what is done")
    flags = parser.parse_args()
    started, number = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="chaos") as directory:
        chaos = Chaos(flags.engine or list(ENGINES), pathlib.Path(directory), flags.seed)
        chaos.undisturbed()
        while time.monotonic() < started + 60 * flags.minutes:
            number += 1
            chaos.disturbed(number)
    zeros = ("lost rounds", "differences", "problems", "neither of two ended", "left temporary files")
    counts = {**dict.fromkeys(zeros, 0), **chaos.counts}
    print(f"{(time.monotonic() - started) / 60:.0f} minutes: " + ", ".join(f"{n} {what}" for what, n in counts.items()))
    return int(any(counts[what] for what in zeros))


if __name__ == "__main__":
    sys.exit(main())
