"""Time from the command to the first finished round, and what it is spent on: `python -m benchmarks.start`.

The program is `programs.train` on the digits; the steps are those of workload A, to which peers are compared. A second
start finds what the first has stored: encoded data, and the compiled round.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

import psutil

from benchmarks import processes, report

_LIMIT = 600.0


def main() -> None:
    """Runs, prints and writes."""
    parser = report.parser(__doc__, "benchmarks/results/start.json")
    parser.add_argument("--repetitions", type=int, default=3, help="turns of each")
    flags = parser.parse_args()
    processes.interruptible()
    turns = []
    for repetition in range(1, flags.repetitions + 1):
        print(f"{repetition}/{flags.repetitions}", file=sys.stderr)
        with tempfile.TemporaryDirectory() as directory:
            turns.append([_start(directory, name) for name in ("first", "second")])
    rows = []
    for name in turns[0][0]["seconds"]:
        columns = ([turn[i][kind][name] for turn in turns] for i in (0, 1) for kind in ("seconds", "cpu"))
        rows.append([name, *map(report.spread, columns)])
    header = ["step", "seconds", "of processors", "second start: seconds", "of processors"]
    print("\n" + report.table(header, rows) + "\n")
    result = {"machine": report.machine(), "turns": turns}
    print(f"Written to {report.write('start', result, flags.output)}")


def _start(directory: str, name: str) -> dict[str, dict[str, float]]:
    """Seconds, of the clock and of processors, of the program, and of the steps and their sum."""
    program, steps = _program(directory, name), _steps(directory)
    return {kind: {**program[kind], **steps[kind]} for kind in program}


def _steps(directory):
    found = processes.run("benchmarks.contenders.start_steps", ["--workload=A", f"--forms={directory}/steps"])
    found = {"seconds": found["steps"], "cpu": found["cpu"]}
    return {kind: {**steps, "all up to the first round": sum([*steps.values()][:-1])} for kind, steps in found.items()}


def _program(directory: str, name: str) -> dict[str, dict[str, float]]:
    """From the start of the program to its first row of metrics."""
    run_dir = os.path.join(directory, name)
    command = [sys.executable, "-m", "programs.train", "--dataset=digits", f"--cache_dir={directory}/cache"]
    command += [f"--run_dir={run_dir}", "--rounds=1", "--rounds_per_evaluation=0"]
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=processes.ROOT, start_new_session=True
        )

        try:
            while not os.path.exists(os.path.join(run_dir, "metrics.csv")):
                if process.poll() is not None or time.perf_counter() - started > _LIMIT:
                    log.seek(0)
                    raise processes.ContenderError(f"No round in time:\n{log.read()[-3000:]}")
                time.sleep(0.01)
            seconds, used = time.perf_counter() - started, psutil.Process(process.pid).cpu_times()
        finally:
            processes.end_group(process)
    title = "programs.train to its first finished round"
    return {"seconds": {title: seconds}, "cpu": {title: used.user + used.system}}


if __name__ == "__main__":
    main()
