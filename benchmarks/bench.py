"""Speed and memory of this project beside others on the same work: `python -m benchmarks.bench`.

Each contender runs in a fresh process; they take turns, and all have had one before any has the next. Figures of one
turn are compared with each other only.
"""

from __future__ import annotations

import argparse
import os
import sys

from benchmarks import processes, report
from benchmarks.workloads import WORKLOADS

CONTENDERS = ("bare", "ceiling", "tff_as_users_write_it", "tff_native", "local")
# Each with what comes between the interpreter and `-m`, and the variables it needs.
PEERS = {
    "torch_bare": ((), {}),
    "flower": ((), {}),
    "pfl_research": ((), {}),
    # One process a processor, as pfl's guide to fast simulations has it.
    "pfl_research_distributed": (
        ("-m", "torch.distributed.run", f"--nproc-per-node={len(os.sched_getaffinity(0))}", "--standalone"),
        {"OMP_NUM_THREADS": "1"},
    ),
}


def _flags() -> argparse.Namespace:
    parser = report.parser(__doc__, "benchmarks/results/speed.json, or peers.json with --peers_python")
    parser.add_argument("--workload", action="append", choices=WORKLOADS, help="may be given several times; A and B")
    parser.add_argument("--contenders", help="comma-separated; all, or local and the peers with --peers_python")
    parser.add_argument("--repetitions", type=int, default=3, help="turns of each contender")
    parser.add_argument("--rounds", type=int, default=3, help="rounds measured in each turn")
    parser.add_argument("--warmup", type=int, default=1, help="rounds before that, in which graphs are traced")
    parser.add_argument("--peers_python", help="interpreter of the peers' environment (make bench-peers)")
    flags = parser.parse_args()
    flags.workload = flags.workload or ["A", "B"]
    everyone = [*PEERS, "local"] if flags.peers_python else CONTENDERS
    flags.contenders = flags.contenders.split(",") if flags.contenders else everyone
    known = {*CONTENDERS, *(PEERS if flags.peers_python else ())}
    if not known.issuperset(flags.contenders):
        unknown = ", ".join(sorted(set(flags.contenders) - known))
        parser.error(f"--contenders: {unknown} is none of {', '.join(sorted(known))}; peers need --peers_python.")
    return flags


def main() -> int:
    """Runs, prints and writes."""
    flags = _flags()
    processes.interruptible()
    name = "peers" if flags.peers_python else "speed"
    result = {"machine": report.machine(), "workloads": {}}
    failed = False
    for workload in flags.workload:
        turns = {contender: [] for contender in flags.contenders}
        for repetition in range(1, flags.repetitions + 1):
            for contender in flags.contenders:
                turn = _turn(flags, contender, workload, repetition)
                failed = failed or turn is None
                turns[contender].append(turn)
        summary = summarize(turns)
        result["workloads"][workload] = {"turns": turns, "summary": summary}
        print(f"\nWorkload {workload}, {flags.repetitions} repetitions of {flags.rounds} rounds:\n\n{tell(summary)}\n")
        path = report.write(name, result, flags.output)  # each time: the next workload takes long
    print(f"Written to {path}")
    return 1 if failed else 0


def _turn(flags: argparse.Namespace, contender: str, workload: str, repetition: int) -> dict | None:
    print(f"{workload} {repetition}/{flags.repetitions} {contender}: ", end="", file=sys.stderr, flush=True)
    arguments = [f"--workload={workload}", f"--rounds={flags.rounds}", f"--warmup={flags.warmup}"]
    try:
        if contender in PEERS:
            launcher, environment = PEERS[contender]
            module = f"benchmarks.peers.{contender.replace('_distributed', '')}"
            turn = processes.run(
                module,
                arguments,
                python=os.path.abspath(flags.peers_python),
                launcher=launcher,
                environment=environment,
            )
        else:
            turn = processes.run(f"benchmarks.contenders.{contender}", arguments)
    except processes.ContenderError as error:
        print(f"failed\n{error}", file=sys.stderr)
        return None
    print(f"{turn['examples_per_second']:.0f} examples/s", file=sys.stderr)
    return turn


def summarize(turns: dict[str, list[dict | None]]) -> dict[str, dict[str, list[float]]]:
    """By contender and figure, the values of the repetitions; ratios are of the same repetition."""

    def values(contender, field):
        return [turn and turn[field] for turn in turns.get(contender, [])]

    summary = {}
    for contender in turns:
        speed = values(contender, "examples_per_second")
        busy = values(contender, "busy_processors")
        summary[contender] = {
            "examples_per_second": [v for v in speed if v],
            "of_ceiling": report.paired_ratios(speed, values("ceiling", "examples_per_second")),
            "local_is_times": report.paired_ratios(values("local", "examples_per_second"), speed),
            "cpu_seconds_per_1000_examples": [1000 * b / s for b, s in zip(busy, speed) if b and s],
            "busy_processors": [b for b in busy if b],
            "peak_memory_bytes": [v for v in values(contender, "peak_memory_bytes") if v],
            "memory_to_local": report.paired_ratios(
                values(contender, "peak_memory_bytes"), values("local", "peak_memory_bytes")
            ),
            "first_round_seconds": [v for v in values(contender, "first_round_seconds") if v],
        }
    return summary


_COLUMNS = (
    ("examples/s", "examples_per_second", 0, 1.0),
    ("of the ceiling", "of_ceiling", 2, 1.0),
    ("local is x times", "local_is_times", 2, 1.0),
    ("CPU s / 1000 examples", "cpu_seconds_per_1000_examples", 2, 1.0),
    ("processors busy", "busy_processors", 2, 1.0),
    ("peak MB", "peak_memory_bytes", 0, 1e-6),
    ("x local's memory", "memory_to_local", 2, 1.0),
    ("first round after s", "first_round_seconds", 1, 1.0),
)


def tell(summary: dict[str, dict[str, list[float]]]) -> str:
    """The summary as a table: a row a contender, medians with ranges; without columns nobody has a figure for."""
    columns = [c for c in _COLUMNS if any(figures[c[1]] for figures in summary.values())]
    rows = [
        [contender, *(report.spread(figures[field], digits, scale) for _, field, digits, scale in columns)]
        for contender, figures in summary.items()
    ]
    return report.table(["contender", *(title for title, *_ in columns)], rows)


if __name__ == "__main__":
    sys.exit(main())
