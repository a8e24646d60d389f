"""Peak memory of the in-process engine as the cohort grows: `python -m benchmarks.memory`."""

from __future__ import annotations

import sys

from benchmarks import processes, report
from benchmarks.workloads import WORKLOADS


def main() -> None:
    """Runs, prints and writes."""
    parser = report.parser(__doc__, "benchmarks/results/memory.json")
    parser.add_argument("--cohort", action="append", type=int, help="clients a round; several: 50, 500 and 2000")
    parser.add_argument("--large", action="store_true", help="also 50 and 500 clients of workload B: an hour or more")
    parser.add_argument("--rounds", type=int, default=1, help="rounds after the first")
    parser.add_argument("--workload", choices=WORKLOADS, default="A", help="of --cohort")
    flags = parser.parse_args()
    flags.cohort = flags.cohort or [50, 500, 2000]
    processes.interruptible()
    result = {"machine": report.machine(), "runs": []}
    cohorts = {flags.workload: flags.cohort, **({"B": [50, 500]} if flags.large else {})}
    rows = []
    for workload, sizes in cohorts.items():
        smallest = None
        for clients in sizes:
            print(f"{workload}: {clients} clients", file=sys.stderr)
            # A round before does not count its time, but its memory.
            arguments = [f"--workload={workload}", f"--clients={clients}", f"--rounds={flags.rounds}", "--warmup=1"]
            run = processes.run("benchmarks.contenders.local_streaming", arguments, timeout=4 * 3600)
            result["runs"].append(run)
            peak = run["peak_memory_bytes"]
            smallest = smallest or peak
            speed = f"{run['examples_per_second']:.0f}"
            rows.append([workload, f"{clients:,}", f"{peak / 1e6:,.0f}", f"{peak / smallest:.2f}", speed])
    header = ["workload", "clients a round", "peak MB", f"x that of {flags.cohort[0]}", "examples/s"]
    print(f"\n{report.table(header, rows)}\n")
    print(f"Written to {report.write('memory', result, flags.output)}")


if __name__ == "__main__":
    main()
