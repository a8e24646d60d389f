"""Speed and memory of this project beside others on the same work: `python -m benchmarks.bench`.

Each contender runs in a fresh process; they take turns, and all have had one before any has the next. Figures of one
turn are compared with each other only.
"""

from __future__ import annotations

import os
import sys

from absl import flags

from benchmarks import processes, report
from benchmarks.workloads import WORKLOADS
from programs import cli
from tff_tx.errors import UserError

FLAGS = flags.FLAGS

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

flags.DEFINE_multi_enum("workload", ["A", "B"], list(WORKLOADS), "The work; may be given several times.")
flags.DEFINE_list("contenders", None, "Who takes part; default: all, or local and the peers with --peers_python.")
flags.DEFINE_integer("repetitions", 3, "Turns of each contender.", lower_bound=1)
flags.DEFINE_integer("rounds", 3, "Rounds measured in each turn.", lower_bound=1)
flags.DEFINE_integer("warmup", 1, "Rounds before that, in which graphs are traced.", lower_bound=1)
flags.DEFINE_string("peers_python", None, "Interpreter of the peers' environment (make bench-peers).")
flags.DEFINE_string("output", None, "Where the JSON goes; default: a file in benchmarks/results.")


def main(_) -> int:
    """Runs, prints and writes."""
    processes.interruptible()
    name = "peers" if FLAGS.peers_python else "speed"
    if FLAGS.contenders and not FLAGS.peers_python and set(FLAGS.contenders) & set(PEERS):
        raise UserError(f"--contenders={','.join(FLAGS.contenders)} has peers, which run in --peers_python: set it.")
    contenders = FLAGS.contenders or ([*PEERS, "local"] if FLAGS.peers_python else CONTENDERS)
    result = {"machine": report.machine(), "workloads": {}}
    failed = False
    for workload in FLAGS.workload:
        turns = {contender: [] for contender in contenders}
        for repetition in range(1, FLAGS.repetitions + 1):
            for contender in contenders:
                turn = _turn(contender, workload, repetition)
                failed = failed or turn is None
                turns[contender].append(turn)
        summary = summarize(turns)
        result["workloads"][workload] = {"turns": turns, "summary": summary}
        print(f"\nWorkload {workload}, {FLAGS.repetitions} repetitions of {FLAGS.rounds} rounds:\n\n{tell(summary)}\n")
    print(f"Written to {report.write(name, result, FLAGS.output)}")
    return 1 if failed else 0


def _turn(contender: str, workload: str, repetition: int) -> dict | None:
    print(f"{workload} {repetition}/{FLAGS.repetitions} {contender}: ", end="", file=sys.stderr, flush=True)
    arguments = [f"--workload={workload}", f"--rounds={FLAGS.rounds}", f"--warmup={FLAGS.warmup}"]
    try:
        if contender in PEERS:
            launcher, environment = PEERS[contender]
            module = f"benchmarks.peers.{contender.replace('_distributed', '')}"
            turn = processes.run(
                module,
                arguments,
                python=os.path.abspath(FLAGS.peers_python),
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
    cli.run(main)
