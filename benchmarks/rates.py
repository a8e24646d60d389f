"""Learning rates by what is trained, on three data sets: `python -m benchmarks.rates --data=DIR`.

The data sets, clients and flags of `benchmarks.comparisons`, in a few short rounds, with constant rates: which rates
learn, and which destroy a model, shows early. Runs that are done are read, and those that were interrupted go on.
"""

from __future__ import annotations

import json
import os

import numpy as np

from benchmarks import comparisons, report
from benchmarks.processes import run_program

ROUNDS, COHORT, STEPS, BATCH = 20, 2, 4, 8
TEST = 400
"""Held-out records, drawn at random."""

_RANDOM = (
    '--model_config={"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}'
)
TRAINED = {
    "random weights": ((5e-4, 2e-3, 5e-3), ("--architecture=bert", _RANDOM)),
    "all weights": ((1e-4, 3e-4, 1e-3), ()),
    "adapters": ((5e-4, 2e-3, 5e-3), ("--trainable=lora", "--lora_rank=8")),
    "head": ((5e-4, 2e-3, 1e-2), ("--trainable=head", "--cache_features")),
}
"""What is trained -> rates, and flags."""

METRICS = {"ag_news": "accuracy", "sts_benchmark": "pearson", "emotions": "f1_micro"}
"""Of the test split, by data set."""

_OWN = ("--pretrained", "--client_learning_rate", "--client_schedule")


def measure(name: str, flags) -> dict[str, dict[float, dict]]:
    """Results of the test split, by what is trained and by rate."""
    case, directory = comparisons.CASES[name], os.path.join(flags.run_dir, name)
    os.makedirs(directory, exist_ok=True)
    train, test = case.load(flags.data, np.random.default_rng(flags.seed))
    files = {"data": comparisons.write_table(train, directory, "train")}
    files["test_data"] = comparisons.write_table(test.sample(TEST, random_state=flags.seed), directory, "test")
    size = [f"--rounds={ROUNDS}", f"--clients_per_round={COHORT}", f"--local_steps={STEPS}", f"--batch_size={BATCH}"]
    rest = [f"--rounds_per_evaluation={10**6}", f"--rounds_per_checkpoint={10**6}", f"--seed={flags.seed}"]
    preset = [line for line in comparisons.preset_flags(case.preset) if line.split("=")[0] not in _OWN]
    common = [*preset, *size, *rest, "--client_column=client", *(f"--{key}={path}" for key, path in files.items())]
    found: dict = {}
    for trained, (rates, more) in TRAINED.items():
        of_model = (
            f"--tokenizer={flags.pretrained}" if trained == "random weights" else f"--pretrained={flags.pretrained}"
        )
        for rate in rates:
            run_dir = os.path.join(directory, f"{trained.replace(' ', '_')}-{rate:g}")
            results = os.path.join(run_dir, "results.json")
            if not os.path.exists(results):
                own = [of_model, f"--client_learning_rate={rate}", f"--run_dir={run_dir}"]
                run_program("train", *common, *more, *own)
            with open(results, encoding="utf-8") as file:
                found.setdefault(trained, {})[rate] = json.load(file)["test"]
    return found


def tell(found: dict[str, dict[str, dict[float, dict]]]) -> str:
    """A Markdown table: a row a rate and what is trained with it."""
    rows = [
        [trained, f"{rate:g}", *(f"{found[name][trained][rate].get(METRICS[name], np.nan):.3f}" for name in found)]
        for trained, (rates, _) in TRAINED.items()
        for rate in rates
    ]
    return report.table(["trained", "rate", *(f"{name}, {METRICS[name]}" for name in found)], rows)


def main() -> None:
    """Runs what is missing, prints and writes."""
    parser = report.parser(__doc__, "benchmarks/results/rates.json")
    parser.add_argument("--data", required=True, help="directory with the data sets")
    parser.add_argument("--run_dir", default="runs/rates", help="where the runs go")
    parser.add_argument("--case", action="append", choices=list(METRICS), help="several: only these")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pretrained", default="sentence-transformers/all-MiniLM-L6-v2", help="directory with MiniLM")
    flags = parser.parse_args()
    found = {name: measure(name, flags) for name in flags.case or METRICS}
    print(f"\n{tell(found)}\n")
    print(f"Written to {report.write('rates', {'machine': report.machine(), 'cases': found}, flags.output)}")


if __name__ == "__main__":
    main()
