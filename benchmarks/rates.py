"""Learning rates by what is trained, on three data sets each: `python -m benchmarks.rates --data=DIR`.

A pretrained model on data sets and clients of `benchmarks.comparisons`, models of random weights on embedded data sets,
by the flags of their presets in a few short rounds of a constant rate: what learns, and what destroys a model, shows
early. Runs that are done are read, and those that were interrupted go on.
"""

from __future__ import annotations

import json
import os

import numpy as np
import tensorflow as tf

from benchmarks import comparisons, report
from tff_tx import runtime
from tff_tx.config import FIELDS, RunConfig
from tff_tx.run.trainer import Trainer

ROUNDS, COHORT, STEPS, BATCH, LENGTH = 12, 2, 4, 8, 24
TEST = 300
"""Held-out records, drawn at random."""

TRAINED = {
    "all weights": ((1e-4, 3e-4, 1e-3), ()),
    "all blocks, pooler, head": ((5e-4,), ("--trainable=layers:layer_|pooler|classifier",)),
    "last block, pooler, head": ((1e-4, 5e-4, 1e-3, 3e-3), ("--trainable=layers:layer_._5|pooler|classifier",)),
    "pooler, head": ((1e-4, 5e-4, 1e-3, 3e-3), ("--trainable=layers:pooler|classifier",)),
    "adapters": ((5e-4, 2e-3, 5e-3), ("--trainable=lora", "--lora_rank=8")),
    "head": ((2e-3, 1e-2), ("--trainable=head",)),
}
"""What of a pretrained model is trained -> rates, and flags."""

METRICS = {"ag_news": "accuracy", "sts_benchmark": "pearson", "emotions": "loss"}
"""Of the test split, by data set."""

RANDOM_RATES = 5e-4, 2e-3, 5e-3
RANDOM = {
    "digits": ("accuracy", ("--rounds=30", "--clients_per_round=10", "--local_epochs=2")),
    "breast_cancer": ("accuracy", ("--rounds=10",)),
    "stdlib": ("loss", ("--rounds=30", "--clients_per_round=3", "--local_steps=4", "--max_length=64")),
}
"""Embedded data set -> metric of models of random weights, and flags for the preset."""


def configuration(lines: list[str]) -> RunConfig:
    """That of flags, the last of each."""
    fields = {field.flag: field for field in FIELDS.values()}
    given = (line[2:].partition("=") for line in lines)
    return RunConfig.of({fields[name].path: value if equals else True for name, equals, value in given})


def measure(name: str, flags) -> dict[str, dict[float, dict]]:
    """Results of the test split of a pretrained model, by what is trained and by rate."""
    case, directory = comparisons.CASES[name], os.path.join(flags.run_dir, name)
    os.makedirs(directory, exist_ok=True)
    train, test = case.load(flags.data, np.random.default_rng(flags.seed))
    files = {"data": comparisons.write_table(train, directory, "train")}
    files["test_data"] = comparisons.write_table(test.sample(TEST, random_state=flags.seed), directory, "test")
    size = [f"--rounds={ROUNDS}", f"--clients_per_round={COHORT}", f"--local_steps={STEPS}", f"--batch_size={BATCH}"]
    size += [f"--max_length={LENGTH}", "--eval_batch_size=50", f"--pretrained={flags.pretrained}"]
    common = [*comparisons.preset_flags(case.preset), *size, "--client_column=client"]
    common += [f"--{key}={path}" for key, path in files.items()]
    return {
        trained: {rate: _run([*common, *more], rate, directory, trained, flags.seed) for rate in rates}
        for trained, (rates, more) in TRAINED.items()
    }


def measure_random(name: str, flags) -> dict[float, dict]:
    """Results of the test split of a model of random weights, by rate."""
    directory = os.path.join(flags.run_dir, name)
    common = [*comparisons.preset_flags(name, all_of_it=True), *RANDOM[name][1]]
    return {rate: _run(common, rate, directory, "random weights", flags.seed) for rate in RANDOM_RATES}


def _run(lines, rate, directory, trained, seed) -> dict:
    """Metrics of the test split after a run, which is done now if it was not before."""
    run_dir = os.path.join(directory, f"{trained.replace(', ', '_').replace(' ', '_')}-{rate:g}")
    results = os.path.join(run_dir, "results.json")
    if not os.path.exists(results):
        rest = [f"--rounds_per_evaluation={10**6}", f"--rounds_per_checkpoint={10**6}", f"--seed={seed}"]
        own = [f"--client_learning_rate={rate}", "--client_schedule=constant", f"--run_dir={run_dir}"]
        tf.keras.backend.clear_session()
        Trainer.run(configuration([*lines, *rest, *own]))
    with open(results, encoding="utf-8") as file:
        return json.load(file)["test"]


def tell(found: dict[str, dict[str, dict[float, dict]]], random: dict[str, dict[float, dict]]) -> str:
    """Markdown tables: a row a rate and what is trained with it."""
    rows = [
        [trained, f"{rate:g}", *(f"{found[name][trained][rate][METRICS[name]]:.3f}" for name in found)]
        for trained, (rates, _) in TRAINED.items()
        for rate in rates
    ]
    more = [[f"{rate:g}", *(f"{random[name][rate][RANDOM[name][0]]:.3f}" for name in random)] for rate in RANDOM_RATES]
    tables = [
        report.table(["trained", "rate", *(f"{name}, {METRICS[name]}" for name in found)], rows),
        report.table(["rate of random weights", *(f"{name}, {RANDOM[name][0]}" for name in random)], more),
    ]
    return "\n\n".join(tables)


def main() -> None:
    """Runs what is missing, prints and writes."""
    parser = report.parser(__doc__, "benchmarks/results/rates.json")
    parser.add_argument("--data", required=True, help="directory with the data sets")
    parser.add_argument("--run_dir", default="runs/rates", help="where the runs go")
    parser.add_argument("--case", action="append", choices=[*METRICS, *RANDOM], help="several: only these")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pretrained", default="sentence-transformers/all-MiniLM-L6-v2", help="directory with MiniLM")
    flags = parser.parse_args()
    runtime.configure_tensorflow()
    names = flags.case or [*METRICS, *RANDOM]
    found = {name: measure(name, flags) for name in names if name in METRICS}
    random = {name: measure_random(name, flags) for name in names if name in RANDOM}
    print(f"\n{tell(found, random)}\n")
    figures = {"machine": report.machine(), "pretrained": found, "random": random}
    print(f"Written to {report.write('rates', figures, flags.output)}")


if __name__ == "__main__":
    main()
