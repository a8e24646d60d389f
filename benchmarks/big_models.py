"""Peak memory and time of a round of GPT-2 small (124 million parameters): `python -m benchmarks.big_models`.

Random weights and texts, adapters of rank 8, ten clients with a batch each on the local engine; each row is a process
of its own, whose peak of resident memory the kernel keeps.
"""

from __future__ import annotations

import sys

from benchmarks import processes, report

WAYS = {
    "as it is": [],
    "4 parts": ["--gradient_accumulation_steps=4"],
    "blocks again": ["--gradient_checkpointing"],
    "bfloat16": ["--frozen_dtype=bfloat16"],
    "4 parts, bfloat16": ["--gradient_accumulation_steps=4", "--frozen_dtype=bfloat16"],
    "all three": ["--gradient_accumulation_steps=4", "--gradient_checkpointing", "--frozen_dtype=bfloat16"],
}
"""Flags of the contender by what the table calls them."""

_GIB = 2**30


def tell(runs: dict[str, dict]) -> str:
    """A table: a row a way, ratios to the first."""
    first = next(iter(runs.values()))
    rows = [
        [
            name,
            f"{run['peak_memory_bytes'] / _GIB:.2f}",
            f"{run['peak_memory_bytes'] / first['peak_memory_bytes']:.2f}",
            f"{run['memory_before_the_round_bytes'] / _GIB:.2f}",
            f"{run['round_seconds']:.0f}",
            f"{run['round_seconds'] / first['round_seconds']:.2f}",
            f"{run['loss']:.4f}",
        ]
        for name, run in runs.items()
    ]
    return report.table(["clients compute", "peak GiB", "x", "GiB before the round", "round s", "x", "loss"], rows)


def main() -> int:
    """Runs, prints and writes."""
    parser = report.parser(__doc__, "benchmarks/results/big_models.json")
    parser.add_argument("--size", default="gpt2", choices=("gpt2", "tiny"))
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--length", type=int, default=256, help="tokens an example")
    parser.add_argument("--threads", type=int, help="clients at work at a time; default: one a processor")
    parser.add_argument("--way", action="append", choices=WAYS, help="may be given several times; default: all")
    flags = parser.parse_args()
    processes.interruptible()
    shared = [f"--{name}={getattr(flags, name)}" for name in ("size", "clients", "batch_size", "length")]
    shared += [f"--threads={flags.threads}"] if flags.threads else []
    runs = {}
    for way in flags.way or WAYS:
        runs[way] = processes.run("benchmarks.contenders.big_model", [*shared, *WAYS[way]], timeout=3600)
        peak = runs[way]["peak_memory_bytes"] / _GIB
        print(f"{way}: {peak:.2f} GiB, {runs[way]['round_seconds']:.0f} s", file=sys.stderr)
    print(f"\n{tell(runs)}\n")
    result = {"machine": report.machine(), "flags": vars(flags), "runs": runs}
    print(f"Written to {report.write('big_models', result, flags.output)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
