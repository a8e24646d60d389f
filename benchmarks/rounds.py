"""Whether rounds cost more as rounds go by, or as there are more clients: `python -m benchmarks.rounds`."""

from __future__ import annotations

import statistics
import sys

from benchmarks import processes, report


def main() -> None:
    """Runs, prints and writes."""
    parser = report.parser(__doc__, "benchmarks/results/rounds.json")
    parser.add_argument("--rounds", type=int, default=1000, help="of the long run")
    parser.add_argument("--repetitions", type=int, default=3, help="turns of each population")
    parser.add_argument("--population", action="append", type=int, help="clients there are; several: 1000 and 100000")
    flags = parser.parse_args()
    flags.population = flags.population or [1000, 100_000]
    processes.interruptible()
    result = {"machine": report.machine()}
    print(f"{flags.rounds} rounds", file=sys.stderr)
    long_run = processes.run("benchmarks.contenders.many_rounds", [f"--rounds={flags.rounds}"])
    result["many_rounds"] = {**long_run, **growth(long_run["round_seconds"], long_run["memory_bytes"])}
    result["many_clients"] = {clients: [] for clients in flags.population}
    for repetition in range(1, flags.repetitions + 1):
        for clients in flags.population:
            print(f"{repetition}/{flags.repetitions}: {clients:,} clients", file=sys.stderr)
            arguments = [f"--clients={clients}", "--rounds=10", "--warmup=2"]
            result["many_clients"][clients].append(processes.run("benchmarks.contenders.many_clients", arguments))
    print(f"\n{_tell_rounds(result['many_rounds'])}\n\n{_tell_clients(result['many_clients'])}\n")
    print(f"Written to {report.write('rounds', result, flags.output)}")


def growth(seconds: list[float], memory: list[int]) -> dict:
    """Late rounds against early ones.

    Args:
      seconds: Of each round.
      memory: Bytes at the beginning of each round, and at the end.

    Returns:
      Medians of the seconds of rounds 5 to 50 and of the last 50, memory after 50 rounds and at the end, and their
      ratios. A run of less than 100 rounds is halved.
    """
    some = min(50, len(seconds) // 2)
    early, late = statistics.median(seconds[4:some]), statistics.median(seconds[-some:])
    return {
        "early_seconds": early,
        "late_seconds": late,
        "seconds_ratio": late / early,
        "early_memory_bytes": memory[some],
        "late_memory_bytes": memory[-1],
        "memory_ratio": memory[-1] / memory[some],
    }


def _tell_rounds(run):
    rows = [
        ["seconds a round", f"{run['early_seconds']:.4f}", f"{run['late_seconds']:.4f}", f"{run['seconds_ratio']:.2f}"],
        [
            "memory, MB",
            f"{run['early_memory_bytes'] / 1e6:,.0f}",
            f"{run['late_memory_bytes'] / 1e6:,.0f}",
            f"{run['memory_ratio']:.2f}",
        ],
    ]
    return report.table([f"{run['rounds']} rounds of 5 clients", "rounds 5-50", "last 50", "ratio"], rows)


def _tell_clients(runs):
    medians = {clients: [statistics.median(r["round_seconds"]) for r in turns] for clients, turns in runs.items()}
    memory = {clients: [r["peak_memory_bytes"] for r in turns] for clients, turns in runs.items()}
    first = next(iter(runs))
    rows = [
        [
            f"{clients:,}",
            report.spread(medians[clients], 3),
            report.spread(report.paired_ratios(medians[clients], medians[first])),
            report.spread(report.paired_ratios(memory[clients], memory[first])),
        ]
        for clients in runs
    ]
    against = f"x that of {first:,}"
    return report.table(["clients there are", "seconds a round of 100", against, f"memory {against}"], rows)


if __name__ == "__main__":
    main()
