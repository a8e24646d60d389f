"""What a private round costs beside one that is not: `python -m benchmarks.privacy_cost`.

Rounds of the local engine on the same clients, in one process; the mechanisms take turns round by round, and each round
is compared with the non-private one of the same turn.
"""

from __future__ import annotations

import contextlib
import sys
import time

import numpy as np

from benchmarks import report
from benchmarks.contenders import parts
from benchmarks.workloads import WORKLOADS, Workload
from tff_tx import runtime
from tff_tx.aggregators import dp

BANDS = 16
_RELEASES = 1000
_KEY = dp.noise_key(1)


def mechanisms(clients: int) -> dict:
    """The aggregators by name; None is the mean weighted by examples.

    Args:
      clients: A round expects.
    """
    # Some strategy of so many bands; what the bands are does not change what they cost.
    strategy = np.tile(np.linspace(1.0, 0.1, BANDS), [_RELEASES, 1])
    noises = {
        "gaussian": dp.independent_noise(1e-3, _KEY),
        "tree": dp.tree_noise(1e-3, _KEY, restart_every=64),
        f"banded, {BANDS} bands": dp.banded_noise(strategy, 1e-3, _KEY),
    }
    return {
        "none": None,
        **{name: dp.fixed_clip_aggregator(1.0, clients, noise) for name, noise in noises.items()},
        "adaptive": dp.adaptive_clip_aggregator(1e-3, 1.0, clients, _KEY),
    }


def measure(workload: Workload, rounds: int, warmup: int) -> dict[str, list[float]]:
    """Seconds of each round after the warm-up, by mechanism.

    Args:
      workload: Model and clients.
      rounds: Turns of each mechanism.
      warmup: Turns before that, in which graphs are traced.
    """
    runtime.configure_tensorflow()
    clients = list(parts.Clients(workload))
    seconds = {name: [] for name in mechanisms(workload.clients)}
    with contextlib.ExitStack() as stack:
        runs = {}
        for name, aggregator in mechanisms(workload.clients).items():
            options = {} if aggregator is None else {"weighted": False, "aggregator": aggregator}
            engine = runtime.LocalEngine(parts.process(workload, **options), parts.threads())
            runs[name] = stack.enter_context(engine)
        states = {name: engine.initialize() for name, engine in runs.items()}
        for turn in range(warmup + rounds):
            for name, engine in runs.items():
                started = time.perf_counter()
                states[name] = engine.run_round(states[name], clients).state
                if turn >= warmup:
                    seconds[name].append(time.perf_counter() - started)
            print(f"turn {turn + 1}/{warmup + rounds}", file=sys.stderr, flush=True)
    return seconds


def main() -> None:
    """Runs, prints and writes."""
    parser = report.parser(__doc__, "benchmarks/results/privacy_cost.json")
    parser.add_argument("--workload", choices=WORKLOADS, default="A")
    parser.add_argument("--rounds", type=int, default=10, help="turns that are measured")
    parser.add_argument("--warmup", type=int, default=2, help="turns before that")
    flags = parser.parse_args()
    result = {"machine": report.machine(), "workload": flags.workload}
    result["seconds"] = seconds = measure(WORKLOADS[flags.workload], flags.rounds, flags.warmup)
    rows = [
        [name, report.spread(taken, 3), report.spread(report.paired_ratios(taken, seconds["none"]), 3)]
        for name, taken in seconds.items()
    ]
    print("\n" + report.table(["mechanism", "seconds a round", "times the non-private round"], rows) + "\n")
    print(f"Written to {report.write('privacy_cost', result, flags.output)}")


if __name__ == "__main__":
    main()
