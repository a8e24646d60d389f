"""Whether rounds cost more as rounds go by, or as there are more clients: `python -m benchmarks.rounds`."""

from __future__ import annotations

import statistics
import sys

from benchmarks import processes, report

_GROWING = ("round_seconds", "yardstick_seconds", "memory_bytes")


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
    result["many_rounds"] = {**long_run, "growth": growth(**{n: long_run[n] for n in _GROWING})}
    result["many_clients"] = {clients: [] for clients in flags.population}
    for repetition in range(1, flags.repetitions + 1):
        for clients in flags.population:
            print(f"{repetition}/{flags.repetitions}: {clients:,} clients", file=sys.stderr)
            arguments = [f"--clients={clients}", "--rounds=10", "--warmup=2"]
            result["many_clients"][clients].append(processes.run("benchmarks.contenders.many_clients", arguments))
    print(f"\n{_tell_rounds(result['many_rounds'])}\n\n{_tell_clients(result['many_clients'])}\n")
    print(f"Written to {report.write('rounds', result, flags.output)}")


def growth(round_seconds: list[float], yardstick_seconds: list[float], memory_bytes: list[int]) -> dict:
    """Late rounds against early ones.

    Args:
      round_seconds: Of each round.
      yardstick_seconds: Of work that is always the same, just before each round.
      memory_bytes: At the beginning of each round, and at the end.

    Returns:
      Medians of the seconds of rounds 5 to 50 and of the last 50, the same in units of the yardstick, memory after
      50 rounds and at the end, and their ratios. A run of less than 100 rounds is halved.
    """
    some = min(50, len(round_seconds) // 2)
    seconds, yardstick = (
        [statistics.median(values[4:some]), statistics.median(values[-some:])]
        for values in (round_seconds, yardstick_seconds)
    )
    memory = [memory_bytes[some], memory_bytes[-1]]
    yards = [s / y for s, y in zip(seconds, yardstick)]
    parts = {"seconds": seconds, "yards": yards, "memory_bytes": memory}
    return {name: {"early": early, "late": late, "ratio": late / early} for name, (early, late) in parts.items()}


def _tell_rounds(run):
    parts = [
        ("seconds a round", "seconds", 1, ".4f"),
        ("the same work done just before each as the unit", "yards", 1, ".2f"),
        ("memory, MB", "memory_bytes", 1e6, ",.0f"),
    ]
    rows = [
        [
            told,
            *(f"{run['growth'][part][when] / unit:{form}}" for when in ("early", "late")),
            f"{run['growth'][part]['ratio']:.2f}",
        ]
        for told, part, unit, form in parts
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
