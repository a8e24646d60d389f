"""One machine as a cluster, a core a node: `python -m benchmarks.scaling`.

Speed, bytes, memory, idle time and a cost model. Contenders take turns, and ratios are of the same repetition. Needs a
quiet machine: nodes are pinned to cores, and bytes are those of the loopback device.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence

from benchmarks import cost_model, processes, report
from benchmarks.workloads import WORKLOADS

# Of --nodes=N: the flags, and beside whom.
_SPEED = {
    "one raylet": lambda n: ["--nodes=1"],
    "raylets": lambda n: [f"--nodes={n}"],
    "local, one core": lambda n: ["--cores=1"],
    "local": lambda n: [f"--cores={n}"],
    "one raylet, one core": lambda n: ["--nodes=1", "--cores=1"],
}
_BESIDE = {"raylets": "local", "one raylet, one core": "local, one core"}


def main() -> None:
    """Runs, prints and writes."""
    flags = _flags()
    processes.interruptible()
    result = {"machine": report.machine(), "speed": {}, "cohorts": {}, "power_law": {}}

    def tell(title, told):
        print(f"\n{title}\n\n{told}\n", flush=True)
        return report.write("scaling", result, flags.output)  # each time: the next takes long

    for workload in flags.workload:
        turns = {name: [] for name in _SPEED}
        for repetition in range(flags.repetitions):
            for name, arguments in _SPEED.items():
                told = f"{workload} {repetition + 1}/{flags.repetitions} {name}"
                turns[name].append(_run(flags, told, workload, *arguments(flags.nodes)))
        result["speed"][workload] = turns
        tell(f"Workload {workload}, {flags.nodes} raylets:", tell_speed(turns))
    for clients in flags.cohort:
        result["cohorts"][clients] = _run(
            flags, f"{clients} clients", "small", f"--nodes={flags.nodes}", clients=clients
        )
    tell("Little to compute, more and more clients a round:", tell_cohorts(result["cohorts"]))
    for workload in flags.workload:
        arguments = [f"--nodes={flags.nodes}", f"--exponent={flags.exponent}"]
        result["power_law"][workload] = [
            _run(flags, f"{workload} power law", workload, *arguments) for _ in range(flags.repetitions)
        ]
    tell(f"Sizes by a power law, exponent {flags.exponent}:", tell_idle(result["power_law"]))

    first, some = flags.workload[0], flags.cohort[len(flags.cohort) // 2]
    few = max(2, _clients(flags, first) // 5)
    more = {("small", some, n) for n in (1, 2 * flags.nodes)} | {(first, few, n) for n in (1, flags.nodes)}
    unseen = [(first, 3 * few, flags.nodes), ("small", 2 * some, flags.nodes + 1)]

    def runs(configurations, *more):
        return [
            _run(flags, f"{name}, {clients} clients, {nodes} nodes", name, f"--nodes={nodes}", *more, clients=clients)
            for name, clients, nodes in configurations
        ]

    measured = [turn for turns in result["speed"].values() for n in ("one raylet", "raylets") for turn in turns[n]]
    # Few leaves, to tell what a leaf costs from what a client does.
    few_leaves = runs([("small", some, flags.nodes)], f"--leaves={4 * flags.nodes}")
    result["fitted"] = [*measured, *result["cohorts"].values(), *runs(sorted(more)), *few_leaves]
    result["unseen"] = runs(unseen)
    for workload, turns in result["speed"].items():
        tell(f"Workload {workload}, bytes a round:", tell_bytes([turns["one raylet"][0], turns["raylets"][0]]))
    path = tell("Cost model:", cost_model.tell(result["fitted"], result["unseen"]))
    print(f"Written to {path}")


def _flags() -> argparse.Namespace:
    parser = report.parser(__doc__, "benchmarks/results/scaling.json")
    parser.add_argument("--workload", action="append", choices=WORKLOADS, help="may be given several times; A and B")
    parser.add_argument("--clients", type=int, help="a round of these; default: each workload's own")
    parser.add_argument("--nodes", type=int, default=2, help="raylets with a core each, beside one")
    parser.add_argument("--cohort", action="append", type=int, help="small clients a round; 100, 1000 and 10000")
    parser.add_argument("--exponent", type=float, default=1.5, help="of the power law of clients' sizes")
    parser.add_argument("--repetitions", type=int, default=3, help="turns of each contender")
    parser.add_argument("--rounds", type=int, default=3, help="rounds measured in each turn")
    flags = parser.parse_args()
    flags.workload = flags.workload or ["A", "B"]
    flags.cohort = flags.cohort or [100, 1000, 10_000]
    return flags


def _clients(flags, workload):
    return flags.clients or WORKLOADS[workload].clients


def _run(flags, told: str, workload: str, *arguments: str, clients: int | None = None) -> dict:
    print(f"{told}: ", end="", file=sys.stderr, flush=True)
    work = "--small" if workload == "small" else f"--workload={workload}"
    clients = clients or _clients(flags, workload)
    # Two rounds before: the first traces, and tells how fast each worker is.
    always = [f"--clients={clients}", f"--rounds={flags.rounds}", "--warmup=2"]
    run = processes.run("benchmarks.contenders.clustered", [work, *always, *arguments])
    print(f"{run['examples_per_second']:.0f} examples/s", file=sys.stderr)
    return run


def tell_speed(turns: Mapping[str, Sequence[Mapping]]) -> str:
    """Examples a second, beside one raylet and beside the local engine on as many cores."""
    speed = {name: [turn["examples_per_second"] for turn in found] for name, found in turns.items()}
    rows = [
        [
            name,
            report.spread(speed[name], 0),
            report.spread(report.paired_ratios(speed[name], speed["one raylet"])),
            report.spread(report.paired_ratios(speed[name], speed["one raylet, one core"])),
            report.spread(report.paired_ratios(speed[name], speed[_BESIDE[name]])) if name in _BESIDE else "-",
        ]
        for name in turns
    ]
    header = ["contender", "examples/s", "x one raylet", "x one raylet, one core", "x local on as many cores"]
    return report.table(header, rows)


def tell_bytes(runs: Sequence[Mapping]) -> str:
    """What the formula says, what the engine counted, and what crossed the loopback device; means over rounds."""
    rows = []
    for run in runs:
        configuration = cost_model.observation(run).configuration
        counted, crossed, sums = (
            statistics.fmean(r[name] for r in run["rounds"]) for name in ("moved_bytes", "loopback_bytes", "sums")
        )
        predicted = configuration.moved_bytes
        told = [run["nodes"], f"{configuration.weights_bytes:,}", f"{run['update_bytes']:,}", f"{sums:.1f}"]
        told += [f"{predicted:,}", f"{counted:,.0f}", f"{crossed:,.0f}", f"{crossed / predicted:.2f}"]
        rows.append(told)
    header = ["nodes", "weights", "a sum", "sums", "predicted", "counted", "crossed", "crossed / predicted"]
    return report.table(header, rows)


def tell_cohorts(runs: Mapping[int, Mapping]) -> str:
    """Time and memory of rounds with more and more clients."""
    first = next(iter(runs.values()))["peak_memory_bytes"]
    rows = []
    for clients, run in runs.items():
        seconds = [r["seconds"] for r in run["rounds"]]
        memory = run["peak_memory_bytes"]
        rows.append(
            [
                f"{clients:,}",
                report.spread(seconds),
                f"{clients / statistics.median(seconds):,.0f}",
                sum(r["failures"] for r in run["rounds"]),
                *(f"{m / 1e6:,.0f}" for m in (memory["coordinator"], max(memory["workers"]))),
                f"{memory['coordinator'] / first['coordinator']:.2f}",
                f"{max(memory['workers']) / max(first['workers']):.2f}",
            ]
        )
    of_first = f"x that of {next(iter(runs)):,}"
    header = ["clients a round", "seconds", "clients/s", "left out", "coordinator MB", "worker MB"]
    return report.table([*header, f"coordinator {of_first}", f"worker {of_first}"], rows)


def tell_idle(runs: Mapping[str, Sequence[Mapping]]) -> str:
    """The share of the workers' time that they did not use while clients ran."""
    rows = []
    for workload, turns in runs.items():
        phases = [r["phases"] for turn in turns for r in turn["rounds"]]
        shares = [100 * p["idle"] / (p["busy"] + p["reading"] + p["idle"]) for p in phases]
        steals = statistics.fmean(r["steals"] for turn in turns for r in turn["rounds"])
        rows.append([workload, turns[0]["nodes"], report.spread(shares, 1), f"{steals:.1f}"])
    return report.table(["workload", "raylets", "idle %", "steals a round"], rows)


if __name__ == "__main__":
    main()
