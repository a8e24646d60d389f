"""Peak memory of the in-process engine as the cohort grows: `python -m benchmarks.memory`."""

from __future__ import annotations

import sys

from absl import flags

from benchmarks import processes, report
from programs import cli

FLAGS = flags.FLAGS

flags.DEFINE_multi_integer("cohort", [50, 500, 2000], "Clients a round of workload A.", lower_bound=1)
flags.DEFINE_boolean("large", False, "Also 50 and 500 clients a round of workload B, which takes about an hour.")
flags.DEFINE_integer("rounds", 1, "Rounds after the first.", lower_bound=1)
flags.DEFINE_string("workload", "A", "Of --cohort.")
flags.DEFINE_string("output", None, "Where the JSON goes; default: benchmarks/results/memory.json.")


def main(_) -> None:
    """Runs, prints and writes."""
    processes.interruptible()
    result = {"machine": report.machine(), "runs": []}
    cohorts = {FLAGS.workload: FLAGS.cohort, **({"B": [50, 500]} if FLAGS.large else {})}
    rows = []
    for workload, sizes in cohorts.items():
        smallest = None
        for clients in sizes:
            print(f"{workload}: {clients} clients", file=sys.stderr)
            # A round before does not count its time, but its memory.
            arguments = [f"--workload={workload}", f"--clients={clients}", f"--rounds={FLAGS.rounds}", "--warmup=1"]
            run = processes.run("benchmarks.contenders.local_streaming", arguments, timeout=4 * 3600)
            result["runs"].append(run)
            peak = run["peak_memory_bytes"]
            smallest = smallest or peak
            speed = f"{run['examples_per_second']:.0f}"
            rows.append([workload, f"{clients:,}", f"{peak / 1e6:,.0f}", f"{peak / smallest:.2f}", speed])
    header = ["workload", "clients a round", "peak MB", f"x that of {FLAGS.cohort[0]}", "examples/s"]
    print(f"\n{report.table(header, rows)}\n")
    print(f"Written to {report.write('memory', result, FLAGS.output)}")


if __name__ == "__main__":
    cli.run(main)
