"""Time from the command to the first finished round, and what it is spent on: `python -m benchmarks.start`.

The program is `programs.train` on the digits; the steps are those of workload A, to which peers are compared.
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
    result = {"machine": report.machine(), "program": [], "steps": [], "cpu": []}
    for repetition in range(1, flags.repetitions + 1):
        print(f"{repetition}/{flags.repetitions}", file=sys.stderr)
        result["program"].append(_program())
        turn = processes.run("benchmarks.contenders.start_steps", ["--workload=A"])
        result["steps"].append(turn["steps"])
        result["cpu"].append(turn["cpu"])
    rows = [
        [f"programs.train to its {title}", report.spread(_of(result["program"], name)), cpu, ""]
        for title, name, cpu in (
            ("first finished round", "first_round", report.spread(_of(result["program"], "first_round_cpu"))),
            ("end", "end", ""),
        )
    ]
    totals = [sum(steps.values()) - steps["second round"] for steps in result["steps"]]
    for name in result["steps"][0]:
        seconds = _of(result["steps"], name)
        part = report.spread(report.paired_ratios(seconds, totals))
        rows.append([name, report.spread(seconds), report.spread(_of(result["cpu"], name)), part])
    header = ["step", "seconds", "of processors", "part of all up to the first round"]
    print("\n" + report.table(header, rows) + "\n")
    print(f"Written to {report.write('start', result, flags.output)}")


def _of(turns, name):
    return [turn[name] for turn in turns]


def _program() -> dict[str, float]:
    """Seconds from the start of the program to its first row of metrics and to its end; no data are cached."""
    with tempfile.TemporaryDirectory() as directory:
        run_dir = os.path.join(directory, "run")
        command = [sys.executable, "-m", "programs.train", "--dataset=digits", f"--cache_dir={directory}"]
        command += [f"--run_dir={run_dir}", "--rounds=1", "--rounds_per_evaluation=0"]
        started = time.perf_counter()
        with open(os.path.join(directory, "log"), "w+") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=processes.ROOT, start_new_session=True
            )
            try:
                while not os.path.exists(os.path.join(run_dir, "metrics.csv")):
                    seconds = time.perf_counter() - started
                    if process.poll() is not None or seconds > _LIMIT:
                        log.seek(0)
                        raise processes.ContenderError(f"No round after {seconds:.0f} s:\n{log.read()[-3000:]}")
                    time.sleep(0.01)
                first_round = time.perf_counter() - started
                used = psutil.Process(process.pid).cpu_times()
                process.wait(_LIMIT)
            finally:
                processes.end_group(process)
        return {
            "first_round": first_round,
            "first_round_cpu": used.user + used.system,
            "end": time.perf_counter() - started,
        }


if __name__ == "__main__":
    main()
