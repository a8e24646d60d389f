"""Runs that `benchmarks.chaos` disturbs: of the programs on one machine, and of a federation on loopback."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pandas as pd
import portpicker
import psutil

from benchmarks import processes
from tff_tx.core import certificates

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
ROUNDS, LIMIT = 8, 600.0
_TINY = '--model_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}'
_ROUNDS_FLAGS = [
    *("--clients_per_round=4", "--local_steps=2", f"--rounds={ROUNDS}"),
    *("--rounds_per_evaluation=3", "--rounds_per_checkpoint=2", _TINY),
]
_GONE = 60.0
"""Seconds in which what a killed program has started must have ended (docs/cluster.md)."""


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
        self.sent: dict[int, int] = {}
        """Signals to processes that runs depend on, by process."""
        self.ends: list[tuple[Started, int | None]] = []
        """Of what has served all runs, and was started again, with the signal that it was sent."""

    def begin(self, name: str, most_bytes: int | None = None) -> subprocess.Popen:
        """Starts the program; files may grow to so many bytes."""
        command = [*self._command(), f"--run_dir={name}", f"--cache_dir={self.directory / 'cache'}"]
        return self._start(command, most_bytes, stdout=subprocess.DEVNULL)

    def end(self, process: subprocess.Popen, number: int | None = None, after: float = 0.0) -> Started:
        """Waits for the end of a start; one that does not come to it is killed, and has a traceback."""
        started = time.monotonic()
        if number is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(after)
            if process.poll() is None:
                process.send_signal(number)
        try:
            _, said = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            _, said = process.communicate()
            said += "\nTraceback: it hung"
        return Started(process.returncode, said, time.monotonic() - started)

    def others(self, process: subprocess.Popen) -> list[psutil.Process]:
        """Processes that a start depends on."""
        try:
            return psutil.Process(process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def files(self, name: str) -> list[pathlib.Path]:
        """What a run finds when it is started again, but for locks."""
        places = (self.directory / name, self.directory / "cache")
        return [p for place in places for p in place.rglob("*") if p.is_file() and p.suffix != ".lock" != p.name]

    def results(self, name: str) -> dict[str, object]:
        """What must be the same: rounds but for times, cohorts, and the model."""
        run = self.directory / name
        table = pd.read_csv(run / "metrics.csv", dtype=str)
        return {
            "rounds": table[[column for column in table if not column.startswith("time/")]].to_csv(),
            "cohorts": (run / "cohorts.jsonl").read_text(),
            "model": (run / "model" / "model.safetensors").read_bytes(),
        }

    def left_processes(self) -> list[str]:
        """Those of ended starts that are still there when they should have gone."""
        deadline = time.monotonic() + _GONE
        while (left := [*self._mine()]) and time.monotonic() < deadline:
            time.sleep(0.2)
        return left

    def close(self) -> None:
        """Ends what serves all runs."""

    def _command(self):
        data = ["--dataset=digits", "--num_clients=6", "--seconds_per_example=0.1"]
        return ["programs.train", *_ROUNDS_FLAGS, *data, f"--engine={self.engine}"]

    def _start(self, command, most_bytes=None, temporary=None, **streams):
        def limit():
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            if most_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))

        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=self.directory,
            env={
                **os.environ,
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "PYTHONPATH": processes.ROOT,
                "TMPDIR": str(temporary or self.temporary),
            },
            text=True,
            preexec_fn=limit,
            start_new_session=True,
            **{"stderr": subprocess.PIPE, **streams},
        )

    def _mine(self) -> Iterator[str]:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                of = process.environ().get("PYTHONPATH"), process.cwd()
                if of == (processes.ROOT, str(self.directory)) and process.status() != psutil.STATUS_ZOMBIE:
                    yield " ".join(process.cmdline())[:80]


class FederationRuns(Runs):
    """Runs of a coordinator; its participants stay, and start again whenever they end, as services do."""

    _CLIENTS = {"north": 3, "south": 2, "west": 1}
    _RESTARTED_AFTER = 0.2

    def __init__(self, engine: str, directory: pathlib.Path):
        super().__init__(engine, directory)
        self._write_data()
        certificates.make_node_certificate(str(directory / "certs"), "coordinator", role="coordinator")
        for name in self._CLIENTS:
            certificates.make_node_certificate(str(directory / "certs"), name, role="participant")
        self._port = portpicker.pick_unused_port()
        self._plan = self._read_plan()
        (directory / "state").mkdir()
        self._parties, self._closed = {}, threading.Event()
        self._tending = threading.Thread(target=self._tend, daemon=True)
        self._tending.start()

    def others(self, process):
        return [psutil.Process(party.pid) for party in self._parties.values() if party.poll() is None]

    def close(self):
        self._closed.set()
        self._tending.join()
        for party in self._parties.values():
            party.kill()
            party.wait()

    def _command(self):
        return [
            *("programs.coordinate", *_ROUNDS_FLAGS, f"--silos={','.join(self._CLIENTS)}", "--client_column=patient"),
            *("--task=sequence_classification", "--architecture=bert", "--tokenizer=bytes", "--max_length=8"),
            *("--test_data=held_out.csv", f"--federation_address=localhost:{self._port}"),
            *("--federation_silence_seconds=300", "--seconds_per_example=0.1"),
        ]

    def _write_data(self):
        for name, clients in {**self._CLIENTS, "held_out": 1}.items():
            rows = [
                f"p{c},{'red dog' if (c + e) % 3 else 'sea'},{(c + e) % 2}" for c in range(clients) for e in range(8)
            ]
            (self.directory / f"{name}.csv").write_text("\n".join(["patient,text,label", *rows, ""]))

    def _read_plan(self):
        coordinator = self._start([*self._command(), "--run_dir=planned"], stdout=subprocess.PIPE)
        plan = next(line.split()[1] for line in coordinator.stdout if line.startswith("Plan "))
        coordinator.kill()
        coordinator.communicate()
        return plan

    def _tend(self):
        while not self._closed.wait(self._RESTARTED_AFTER):
            for name in self._CLIENTS:
                party = self._parties.get(name)
                if party is None or party.poll() is not None:
                    if party is not None:
                        ended = Started(party.returncode, self._log(name).read_text(), 0.0)
                        self.ends.append((ended, self.sent.pop(party.pid, None)))
                    self._parties[name] = self._participate(name)

    def _participate(self, name):
        own = [f"--certificate=certs/{name}", f"--data={name}.csv", f"--state_dir=state/{name}", "--threads=1"]
        own += [f"--coordinator=localhost:{self._port}", f"--approve={self._plan}"]
        with open(self._log(name), "w") as log:
            command = ["programs.participate", *own]
            return self._start(command, temporary=self.directory / "state", stdout=log, stderr=log)

    def _log(self, name):
        return self.directory / f"{name}.log"

    def _mine(self):
        return (line for line in super()._mine() if "programs.participate" not in line)
