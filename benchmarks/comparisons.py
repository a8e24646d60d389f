"""Federated against centralized training and against clients alone: `python -m benchmarks.comparisons --data=DIR`.

Each case is a preset of `programs/flags/` on a data set of `data/`. Its clients are written into a column, so that
three ways train by the same flags on the same records and are evaluated on the same test set: federated; centralized,
which is one client with all records, and as many examples in all; and alone, some clients with nothing but their own
records, each for as many passes over them. Runs that are done are read, and those that were interrupted go on.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
from typing import Callable

import numpy as np
import pandas as pd

from benchmarks import report
from benchmarks.processes import ROOT, run_program
from tff_tx.datasets import partition

# From the directory of data and a generator to the records for training, with the column `client`, and for testing.
Load = Callable[[str, np.random.Generator], tuple[pd.DataFrame, pd.DataFrame]]

_LOCAL_ROUNDS = 8
"""Rounds at most of a model that is trained in one place: its optimizer begins anew in each."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A data set with a preset.

    Attributes:
      load: Gives the records.
      preset: Its flags but those that say which records are for what.
      metrics: Of the test split.
      rounds: Federated ones.
      cohort: Clients a round.
      steps: Batches a client and round, or all of its records if they are fewer.
      flags: More of them.
      centralized_flags: Those of centralized training, whose many steps one after another may need another rate.
      baseline: From the records to the metrics of another model.
    """

    load: Load
    preset: str
    metrics: tuple[str, ...]
    rounds: int
    cohort: int
    steps: int
    batch_size: int = 16
    flags: tuple[str, ...] = ()
    centralized_flags: tuple[str, ...] = ()
    baseline: Callable[[pd.DataFrame, pd.DataFrame], dict] | None = None


def sts_benchmark(directory, rng):
    """Pairs of sentences by where they are from."""
    del rng
    read = dict(sep="\t", quoting=3)
    train, test = (pd.read_csv(f"{directory}/sts_benchmark/{name}.tsv", **read) for name in ("train", "test"))
    return train.rename(columns={"source": "client"}), test.assign(client="test")


def emotions(directory, rng):
    """Comments, dealt to 100 clients at random."""
    train, test = (pd.read_json(f"{directory}/emotions/{name}.jsonl", lines=True) for name in ("train", "test"))
    return train.assign(client=_names(partition.iid(len(train), 100, rng))), test.assign(client="test")


def ag_news(directory, rng):
    """News, 100 clients of Dirichlet(1.0), 1,600 held out."""
    news = pd.read_csv(f"{directory}/ag_news/ag_news_7600.csv", names=["label", "title", "text"])
    news = news.iloc[rng.permutation(len(news))]
    train, test = news[1600:], news[:1600]
    owners = partition.dirichlet(train["label"].to_numpy(), 100, 1.0, rng)
    return train.assign(client=_names(owners)), test.assign(client="test")


def adult(directory, rng):
    """People by occupation."""
    del rng
    files = (f"{directory}/adult/adult_{name}.csv" for name in ("train", "test"))
    return tuple(pd.read_csv(path).assign(client=lambda table: table["occupation"]) for path in files)


def spoken_digits(directory, rng):
    """Recordings by speaker, two of whom are held out."""
    recordings = pd.read_parquet(f"{directory}/spoken_digits/spoken_digits.parquet").rename(
        columns={"speaker": "client"}
    )
    held_out = recordings["client"].isin(rng.permutation(recordings["client"].unique())[:2])
    return recordings[~held_out], recordings[held_out]


def stdlib_docstrings(directory, rng):
    """Functions by module, 50 modules held out."""
    del directory
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "docstrings.jsonl")
        command = [sys.executable, "-m", "data.docstrings.prepare", f"--output={path}"]
        subprocess.run(command, cwd=ROOT, check=True)
        functions = pd.read_json(path, lines=True).rename(columns={"module": "client"})
    held_out = functions["client"].isin(rng.permutation(functions["client"].unique())[:50])
    return functions[~held_out], functions[held_out]


def boosted_trees(train: pd.DataFrame, test: pd.DataFrame) -> dict:
    """ROC AUC and accuracy of scikit-learn's gradient-boosted trees on pooled records."""
    from sklearn import compose, ensemble, metrics, pipeline, preprocessing

    x, y = ([table.drop(columns=["id", "client", "classification"]) for table in (train, test)], (train, test))
    names = x[0].select_dtypes(exclude="number").columns
    encoder = preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = compose.make_column_transformer((encoder, names), remainder="passthrough")
    trees = pipeline.make_pipeline(columns, ensemble.HistGradientBoostingClassifier(random_state=0))
    true = [table["classification"].str.startswith(">").to_numpy() for table in y]
    trees.fit(x[0], true[0])
    scores = trees.predict_proba(x[1])[:, 1]
    return {"roc_auc": metrics.roc_auc_score(true[1], scores), "accuracy": ((scores > 0.5) == true[1]).mean()}


# A client alone has not all classes.
_CLASSES = ("--label_names=1,2,3,4",)
NEWS = Case(ag_news, "ag_news_minilm", ("accuracy",), rounds=50, cohort=2, steps=4, flags=_CLASSES)
CASES = {
    "adult": Case(
        adult, "adult", ("roc_auc", "accuracy"), rounds=20, cohort=15, steps=12, batch_size=64, baseline=boosted_trees
    ),
    "spoken_digits": Case(spoken_digits, "spoken_digits", ("accuracy",), rounds=40, cohort=4, steps=32),
    "docstrings": Case(stdlib_docstrings, "docstrings", ("loss", "accuracy"), rounds=60, cohort=10, steps=4),
    "sts_benchmark": Case(sts_benchmark, "sts_benchmark", ("pearson",), rounds=30, cohort=2, steps=16),
    "ag_news": NEWS,
    "ag_news_lora": dataclasses.replace(
        NEWS, preset="ag_news_minilm_lora", centralized_flags=("--client_learning_rate=0.005",)
    ),
    "emotions": Case(
        emotions,
        "emotions",
        ("micro_f1", "macro_f1"),
        rounds=40,
        cohort=10,
        steps=4,
        centralized_flags=("--client_learning_rate=0.0001",),
    ),
}


def main() -> None:
    """Runs what is missing, prints and writes."""
    parser = report.parser(__doc__, "benchmarks/results/comparisons.json")
    parser.add_argument("--data", required=True, help="directory with the data sets")
    parser.add_argument("--run_dir", default="runs/comparisons", help="where the runs go")
    parser.add_argument("--case", action="append", choices=list(CASES), help="several: only these")
    parser.add_argument("--seed", action="append", type=int, help="several; default: 1, 2 and 3")
    parser.add_argument("--alone", type=int, default=3, help="how many clients train alone, those with most records")
    parser.add_argument("--pretrained", help="directory with MiniLM, without access to the hub")
    flags = parser.parse_args()
    cases = flags.case or list(CASES)
    found = {name: {seed: compare(name, seed, flags) for seed in flags.seed or [1, 2, 3]} for name in cases}
    print(f"\n{tell(found)}\n")
    print(f"Written to {report.write('comparisons', {'machine': report.machine(), 'cases': found}, flags.output)}")


def compare(name: str, seed: int, flags) -> dict[str, list[dict]]:
    """By way, the metrics of its runs: one each, but one a client that trains alone."""
    case, directory = CASES[name], os.path.join(flags.run_dir, f"{name}-{seed}")
    os.makedirs(directory, exist_ok=True)
    train, test = case.load(flags.data, np.random.default_rng(seed))
    test_file = write_table(test, directory, "test")

    def run(way, records, rounds, cohort, steps, flags_of_way=()):
        more = [f"--rounds={rounds}", f"--clients_per_round={cohort}", f"--local_steps={steps}", f"--seed={seed}"]
        files = [f"--data={write_table(records, directory, way)}", f"--test_data={test_file}", "--client_column=client"]
        return _run(case, os.path.join(directory, way), [*files, *more, *flags_of_way], flags.pretrained)

    sizes = train["client"].value_counts()
    examples = case.rounds * case.cohort * np.minimum(sizes, case.steps * case.batch_size).mean()
    passes = examples / len(train)

    def local(records):
        """Rounds, clients a round and steps of as many passes over records of one client."""
        steps = max(1, round(passes * len(records) / case.batch_size))
        of_a_round = math.ceil(steps / _LOCAL_ROUNDS)
        return round(steps / of_a_round), 1, of_a_round

    found = {"federated": [run("federated", train, case.rounds, case.cohort, case.steps)]}
    found["centralized"] = [run("centralized", train.assign(client="all"), *local(train), case.centralized_flags)]
    of_clients = [train[train["client"] == client] for client in sizes.index[: flags.alone]]
    found["alone"] = [run(f"alone-{n}", records, *local(records)) for n, records in enumerate(of_clients)]
    if case.baseline is not None:
        found["baseline"] = [case.baseline(train, test)]
    return {way: [{metric: run[metric] for metric in case.metrics} for run in runs] for way, runs in found.items()}


def _run(case, directory, flags, pretrained) -> dict:
    """Metrics of the test split after a run, which is done now if it was not before."""
    results = os.path.join(directory, "results.json")
    if not os.path.exists(results):
        preset = preset_flags(case.preset)
        minilm = [f"--pretrained={pretrained}"] if pretrained and any("--pretrained" in line for line in preset) else []
        rare = [f"--rounds_per_evaluation={10**6}", f"--run_dir={directory}", f"--batch_size={case.batch_size}"]
        run_program("train", *preset, *case.flags, *flags, *minilm, *rare)
    with open(results) as file:
        found = json.load(file)["test"]
    if set(case.metrics) <= set(found):
        return found
    evaluation = os.path.join(directory, "evaluation", "test.json")
    if not os.path.exists(evaluation):
        run_program("evaluate", f"--run_dir={directory}", "--nowords")
    with open(evaluation) as file:
        return json.load(file)["overall"]


_DATA_FLAGS = ("columns", "data_format", "partition", "dirichlet_alpha", "num_clients", "split", "test_fraction")
_OWN_FLAGS = ("client_column", "rounds", "clients_per_round", "local_epochs", "local_steps", "batch_size", "run_dir")


def preset_flags(name: str, all_of_it: bool = False) -> list[str]:
    """The flags of a preset, or those of them that do not say which records are for what, and how many."""
    with open(os.path.join(ROOT, "programs", "flags", f"{name}.flags"), encoding="utf-8") as file:
        lines = [line.strip() for line in file if line.startswith("--")]
    files = (line for line in lines if line[2:10] == "flagfile")
    nested = [preset_flags(os.path.basename(line).removesuffix(".flags"), all_of_it) for line in files]
    left_out = () if all_of_it else (*_DATA_FLAGS, *_OWN_FLAGS)
    own = [line for line in lines if line[2:].split("=")[0] not in (*left_out, "flagfile")]
    return [*itertools.chain(*nested), *own]


def write_table(table: pd.DataFrame, directory: str, name: str) -> str:
    """Path of a Parquet file with the table, which is written if it is not there."""
    path = os.path.abspath(os.path.join(directory, f"{name}.parquet"))
    if not os.path.exists(path):
        table.to_parquet(path + ".tmp", index=False)
        os.replace(path + ".tmp", path)
    return path


def _names(owners: np.ndarray) -> list[str]:
    return [f"client {owner}" for owner in owners]


def tell(found: dict[str, dict[int, dict[str, list[dict]]]]) -> str:
    """A Markdown table: a row a case and metric, medians (and range) over seeds; alone, over clients and seeds."""
    ways = ["federated", "centralized", "alone", "baseline"]
    rows = []
    for name, by_seed in found.items():
        for metric in CASES[name].metrics:
            values = {way: [run[metric] for runs in by_seed.values() for run in runs.get(way, ())] for way in ways}
            rows.append([name, metric, len(by_seed), *(report.spread(values[way], 3) for way in ways)])
    return report.table(["data", "metric", "seeds", *ways], rows)


if __name__ == "__main__":
    main()
