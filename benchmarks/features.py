"""Rounds that train the head alone, on features kept on disk and on texts: `python -m benchmarks.features`.

A pretrained model on `ag_news`, the local engine, one process, taking turns with the same clients in every round. The
first round on features computes them; what is trained is the same, which the last column shows.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
import time

import numpy as np

from benchmarks import report
from tff_tx import algorithms, datasets, runtime, tasks
from tff_tx.config.algorithm import ClientConfig
from tff_tx.core.errors import UserError

_NO_LIMIT = 2**62


def create_task(flags) -> tasks.FederatedTask:
    """The task of `programs/flags/ag_news_minilm.flags`, with what is trained of `flags`."""
    data = datasets.DataSpec(
        "file",
        files=(flags.data,),
        format="csv",
        columns=("label", "title", "text"),
        text_column=("title", "text"),
        text_join="blank",
        label_column="label",
        partition="iid",
        num_clients=100,
        split="example",
        test_fraction=1600,
        seed=1,
    )
    model = tasks.ModelSpec(pretrained=flags.pretrained, max_length=64, trainable=flags.trainable, frozen_dropout=False)
    return tasks.create_task("sequence_classification", data, model, ClientConfig(batch_size=16))


def measure(task: tasks.FederatedTask, clients: int, rounds: int, directory: str) -> dict[str, dict]:
    """By way, the seconds of each round after the first, of the first, and the weights after the last.

    Args:
      task: What is trained.
      clients: How many, the same in each round.
      rounds: How many after the first.
      directory: Where features go.
    """
    threads = len(os.sched_getaffinity(0))
    cache = tasks.FeatureCache(task, os.path.join(directory, "features"), _NO_LIMIT, threads)
    client_ids, figures, running = task.train.client_ids[:clients], {}, {}
    with contextlib.ExitStack() as stack:
        for name, one in (("texts", task), ("features", cache.task)):
            engine = stack.enter_context(runtime.LocalEngine(one.process(_process(one)), threads))
            running[name], figures[name] = (engine, engine.initialize()), {"seconds": []}
        for round_num in range(1, rounds + 2):
            for name, (engine, state) in running.items():
                started = time.perf_counter()
                if name == "features":
                    cache.prepare(client_ids)
                arguments = tasks.client_arguments(client_ids, 1, round_num)
                running[name] = engine, engine.run_round(state, arguments).state
                seconds = time.perf_counter() - started
                print(f"round {round_num} on {name}: {seconds:.3f} s", file=sys.stderr)
                if round_num == 1:
                    figures[name]["first_seconds"] = seconds
                else:
                    figures[name]["seconds"].append(seconds)
        weights = {name: engine.model_weights(state).trainable for name, (engine, state) in running.items()}
    figures["features"]["bytes"] = cache.bytes
    figures["features"]["difference"] = max(
        float(np.abs(a - b).max()) for a, b in zip(weights["texts"], weights["features"])
    )
    return figures


def _process(task):
    return algorithms.build_fed_avg(
        task.model,
        algorithms.Options(
            client_optimizer_fn=lambda rate: algorithms.build_optimizer("adam", rate),
            server_optimizer=algorithms.build_optimizer("sgd", 1.0),
            client_learning_rate=1e-3,
        ),
    )


def tell(figures: dict[str, dict]) -> str:
    """A table: a row a way; ratios are within a turn."""
    texts, features = figures["texts"], figures["features"]
    ratios = report.paired_ratios(texts["seconds"], features["seconds"])
    rows = [
        ["texts", f"{texts['first_seconds']:.2f}", report.spread(texts["seconds"], 3), "1.00", "", ""],
        [
            "features",
            f"{features['first_seconds']:.2f}",
            report.spread(features["seconds"], 3),
            report.spread(ratios, 1),
            f"{features['bytes'] / 1e6:.2f}",
            f"{features['difference']:.1e}",
        ],
    ]
    header = ["trained on", "first round s", "later rounds s", "times as fast", "MB on disk", "weights differ by"]
    return report.table(header, rows)


def main() -> int:
    """Runs, prints and writes."""
    parser = report.parser(__doc__, "benchmarks/results/features.json")
    parser.add_argument("--data", required=True, help="ag_news_7600.csv, see data/ag_news")
    parser.add_argument("--pretrained", default="sentence-transformers/all-MiniLM-L6-v2", help="directory or hub id")
    parser.add_argument("--trainable", default="head", help="what is trained, as of programs.train")
    parser.add_argument("--clients", type=int, default=10, help="clients a round, of 100 with 60 texts each")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that are measured, after the first")
    flags = parser.parse_args()
    runtime.configure_tensorflow()
    try:
        task = create_task(flags)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as directory:
        figures = measure(task, flags.clients, flags.rounds, directory)
    print(tell(figures))
    ratio = statistics.median(report.paired_ratios(figures["texts"]["seconds"], figures["features"]["seconds"]))
    path = report.write("features", {"machine": report.machine(), "ratio": ratio, "ways": figures}, flags.output)
    print(f"Written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
