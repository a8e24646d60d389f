"""Studies of Transformers beside random search and FedEx beside a grid: `python -m benchmarks.studies --data=DIR`.

Of each data set, by `programs.tune` and `programs.train` themselves: the best of 16 random configurations, each a whole
run that is scored on all validation clients; a study for a quarter of the client-seconds which that has spent, with its
evaluations, that first compares after a third of the rounds; the same, after one round; the same of arms that
are runs of FedEx, whose clients draw rates around the arm's, or from a grid that all arms share; and FedEx beside each
fixed rate of this grid, as whole runs.
Searched are the rates of clients and server and the server's momentum. What is done is read, and what was interrupted
goes on: start it again with the same --run_dir.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys

import pandas as pd

from benchmarks import report
from benchmarks.processes import run_program
from tff_tx.config.task import ModelConfig
from tff_tx.run.tuning.brackets import least_rounds
from tff_tx.tasks import take_features

RANDOM = 16


@dataclasses.dataclass(frozen=True)
class Case:
    """A data set with a preset.

    Attributes:
      preset: Its name.
      metric: Of the test split; arms are compared by their loss.
      flags: In place of the preset's.
      lowest: Of the rates that are searched; the highest is a hundred times that.
      files: Of the data set, for training and for the test split.
    """

    preset: str
    metric: str
    flags: tuple[str, ...]
    lowest: float = 3e-4
    files: tuple[str, ...] = ()


_POOLER = ("--trainable=layers:pooler|classifier", "--cache_features")
CASES = {
    "digits": Case(
        "digits",
        "accuracy",
        ("--dirichlet_alpha=1.0", "--num_clients=40", "--clients_per_round=10", "--local_epochs=5")
        + ("--validation_fraction=0.25",),
    ),
    "ag_news": Case(
        "ag_news_minilm",
        "accuracy",
        (*_POOLER, "--clients_per_round=5", "--sampling=uniform", "--validation_fraction=0.2"),
        files=("ag_news/ag_news_7600.csv",),
    ),
    "sts_benchmark": Case(
        "sts_benchmark",
        "pearson",
        (*_POOLER, "--nobucket_by_length", "--client_column=", "--partition=iid", "--num_clients=60", "--split=example")
        + ("--clients_per_round=5", "--validation_fraction=0.2"),
        files=("sts_benchmark/train.tsv", "sts_benchmark/test.tsv"),
    ),
    "adult": Case(
        "adult",
        "accuracy",
        ("--split=within_client", "--validation_fraction=0.2", "--clients_per_round=5", "--local_steps=6"),
        files=("adult/adult_train.csv", "adult/adult_test.csv"),
    ),
    "plays": Case(
        "shakespeare",
        "accuracy",
        ("--max_examples=64", "--validation_fraction=0.15", "--clients_per_round=5"),
        files=("shakespeare/plays.txt",),
    ),
}


def main() -> None:
    """Runs what is missing, prints and writes."""
    parser = report.parser(__doc__, "benchmarks/results/studies.json")
    parser.add_argument("--data", required=True, help="directory with the data sets")
    parser.add_argument("--run_dir", default="runs/studies", help="where the runs go")
    parser.add_argument("--case", action="append", choices=list(CASES), help="several: only these")
    parser.add_argument("--seed", action="append", type=int, help="several; default: 1, 2 and 3")
    parser.add_argument("--rounds", type=int, default=12, help="of a whole run")
    parser.add_argument("--search", action="append", help="several: only these studies beside the random search")
    parser.add_argument("--sampler", default="tpe", help="of the studies beside the random search")
    parser.add_argument("--pretrained", help="directory with MiniLM, without access to the hub")
    flags = parser.parse_args()
    rows = []
    for name in flags.case or list(CASES):
        for seed in flags.seed or [1, 2, 3]:
            rows += [{"data": name, "seed": seed, **row} for row in compare(name, seed, flags)]
            print(pd.DataFrame(rows).to_string(), file=sys.stderr)
    print(f"\n{tell(pd.DataFrame(rows))}\n")
    content = {"machine": report.machine(), "flags": vars(flags), "rows": rows}
    print(f"Written to {report.write('studies', content, flags.output)}")


def compare(name: str, seed: int, flags) -> list[dict]:
    """Searches and runs of a data set: the metric of the test split, and client-seconds."""
    case, directory = CASES[name], os.path.abspath(os.path.join(flags.run_dir, f"{name}-{seed}-{flags.rounds}"))
    os.makedirs(directory, exist_ok=True)
    common = [*_flags(name, flags), f"--rounds={flags.rounds}", f"--seed={seed}", "--seconds_per_example=1"]
    common += ["--client_schedule=constant"]  # clients of FedEx draw their rates
    common += [f"--cache_dir={directory}/cache"]
    client = {"client_learning_rate": {"low": case.lowest, "high": 100 * case.lowest, "log": True}}
    server = {"server_learning_rate": {"low": 0.1, "high": 3.0, "log": True}}
    server |= {"server_momentum": {"low": 0.0, "high": 0.95}}
    rates = [float(f"{case.lowest * 100 ** (i / 4):.2g}") for i in range(5)]
    fed_ex = ["--algorithm=fed_ex", f"--client_choices={json.dumps({'client_learning_rate': rates})}"]

    def study(kind, space, *more):
        study_dir = os.path.join(directory, kind.replace(" ", "_"))
        _take_features(directory, os.path.join(study_dir, "arms", "0000"))
        return {"search": kind, **_study(study_dir, case, space, common, *more)}

    whole = ["--tuning_sampler=random", "--tuning_reduction=16", "--tuning_clients=1000"]
    found = [study("random", {**client, **server}, *whole, f"--budget={RANDOM * flags.rounds}")]
    quarter = f"--budget={found[0]['client_seconds'] / 4:.0f} client-seconds"
    for kind, space, more in (
        ("halving", {**client, **server}, [f"--tuning_least_rounds={least_rounds(ModelConfig(), flags.rounds)}"]),
        ("halving from round 1", {**client, **server}, ["--tuning_least_rounds=1"]),
        ("halving of FedEx around rates", {**client, **server}, ["--algorithm=fed_ex"]),
        ("halving of FedEx", server, fed_ex),
    ):
        if not flags.search or kind in flags.search:
            found.append(study(kind, space, f"--tuning_sampler={flags.sampler}", quarter, *more))
    runs = {f"rate {rate}": [f"--client_learning_rate={rate}"] for rate in rates} | {"FedEx": fed_ex}
    for kind, more in runs.items() if not flags.search else ():
        run_dir = os.path.join(directory, kind.replace(" ", "_"))
        if not os.path.exists(os.path.join(run_dir, "results.json")):
            _take_features(directory, run_dir)
            run_program("train", *common, *more, f"--run_dir={run_dir}", "--rounds_per_evaluation=0")
        found.append({"search": kind, "metric": _result(run_dir, case.metric)})
    return found


def _take_features(directory, run_dir):
    """Gives a run the activations of the random search's best arm, which are those of all."""
    take_features(os.path.join(run_dir, "features"), [os.path.join(directory, "random", "best", "features")])


def _study(directory, case, space, common, *more):
    """The test metric of a study's best arm, and what the study has spent."""
    if not os.path.exists(os.path.join(directory, "table.csv")):
        path = directory + ".toml"
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(f"{name} = {_toml(domain)}\n" for name, domain in space.items())
        run_program("tune", *common, *more, f"--space={path}", f"--study_dir={directory}")
    from tff_tx.run.tuning.records import Records

    arms = len(pd.read_csv(os.path.join(directory, "table.csv")))
    spent = Records(directory).spent
    metric = _result(os.path.join(directory, "best"), case.metric)
    return {"metric": metric, "arms": arms, "rounds": spent["rounds"], "client_seconds": spent["client_seconds"]}


def _toml(domain):
    return "{" + ", ".join(f"{key} = {json.dumps(value)}" for key, value in domain.items()) + "}"


def _result(run_dir, metric):
    with open(os.path.join(run_dir, "results.json"), encoding="utf-8") as file:
        return json.load(file)["test"][metric]


def _flags(name, flags):
    """The preset and what takes the place of its flags."""
    case = CASES[name]
    paths = [f"--{key}={flags.data}/{path}" for key, path in zip(("data", "test_data"), case.files)]
    minilm = [f"--pretrained={flags.pretrained}"] if flags.pretrained and "--cache_features" in case.flags else []
    return [f"--flagfile=programs/flags/{case.preset}.flags", *paths, *minilm, *case.flags]


def tell(rows: pd.DataFrame) -> str:
    """A Markdown table: a row a data set and search, medians and ranges over seeds."""
    is_rate = rows["search"].str.startswith("rate ")
    best = rows[is_rate].sort_values("metric").groupby(["data", "seed"]).tail(1)
    rows = pd.concat([rows[~is_rate], best.assign(search="best rate of the grid")])
    lines = []
    for (data, search), part in rows.groupby(["data", "search"], sort=False):
        costs = [report.spread(part[c].dropna(), 0) if c in part else "-" for c in ("arms", "client_seconds")]
        lines.append([data, search, len(part), report.spread(part["metric"], 3), *costs])
    return report.table(["data", "search", "seeds", "test metric", "arms", "client-seconds"], lines)


if __name__ == "__main__":
    main()
