"""Personal models by PFLlib's protocol: `python -m benchmarks.personalization`.

Clients that all take part, a part of each one's records held out, one local epoch; of digits and news 20 clients,
Dirichlet(0.1) over their labels, a quarter held out, batches of 10. `personal_cases` has the data sets. Of each method
the figures over clients, each with its own model on its own held-out records, whom it hurts, what a client sends and
what a round costs. Runs that are done are not repeated: start it again with the same --run_dir.
"""

from __future__ import annotations

import dataclasses
import os
import sys

import pandas as pd
import psutil

import tff_tx as ft
from benchmarks import report
from benchmarks.personal_cases import CASES, Case
from tff_tx.run.comparison import ALONE, BEFORE, GLOBAL, bad_tail, is_hurt, judged_by, statistics
from tff_tx.tasks import take_features

_PROCESSOR = "bench/processor_seconds"


@dataclasses.dataclass(frozen=True)
class Method:
    """A personalization method.

    Attributes:
      algorithm: Class of the training algorithm.
      settings: Its arguments.
      weights: Trainable ones: "all"; "personal" or "norms", of which the case's or the normalization layers' stay with
        the client; or "adapters".
      evaluation: Arguments of `Trainer.evaluate`, such as epochs of fine-tuning.
      run: Method whose training run is evaluated; None: its own.
    """

    algorithm: type = ft.FedAvg
    settings: dict = dataclasses.field(default_factory=dict)
    weights: str = "all"
    evaluation: dict = dataclasses.field(default_factory=dict)
    run: str | None = None


_TUNED = {"personalize_epochs": 5}
METHODS = {
    "FedAvg": Method(),
    "FedProx": Method(ft.FedProx, {"mu": 0.1}),
    "SCAFFOLD": Method(ft.Scaffold),
    "FedDyn": Method(ft.FedDyn, {"alpha": 0.1}),
    "FedNova": Method(ft.FedNova),
    "FedBN": Method(weights="norms"),
    "FedPer": Method(weights="personal"),
    "FedRep": Method(ft.FedRep, weights="personal"),
    "FedBABU": Method(ft.FedBABU, {"personal_epochs": 5}, "personal"),
    "FedRecon": Method(ft.FedRecon, {"personal_epochs": 5}, "personal"),
    "Ditto": Method(ft.Ditto, {"strength": 0.1}),
    "MR-MTL": Method(ft.MRMTL, {"strength": 0.1}),
    "pFedMe": Method(ft.PFedMe),
    "APFL": Method(ft.APFL),
    "FedAvg, adapters": Method(weights="adapters"),
    "FedDPA-T": Method(ft.FedDPA, weights="adapters"),
    "FedDPA-F": Method(ft.FedDPA, {"after": True, "personal_epochs": 5}, "adapters"),
    "IFCA, 4 clusters": Method(ft.IFCA, {"clusters": 4, "server": ft.SGD(4.0)}),
    "FedAvg, fine-tuned": Method(evaluation=_TUNED, run="FedAvg"),
    "Reptile, fine-tuned": Method(ft.Reptile, evaluation=_TUNED),
    "Per-FedAvg, fine-tuned": Method(ft.PerFedAvg, evaluation=_TUNED),
    "kNN-Per, 10 neighbors": Method(evaluation={"neighbors": 10}, run="FedAvg"),
}
"""By name."""


class _Processor(ft.Callback):
    """Adds to each round's figures what it took of all processors: the same on a busy machine, nearly."""

    def on_start(self, run):
        self._before = psutil.Process().cpu_times()

    def on_round_end(self, result):
        now = psutil.Process().cpu_times()
        result.row[_PROCESSOR] = now.user + now.system - self._before.user - self._before.system
        self._before = now


def flags_of(words: list[str] | None = None):
    """The command line, with the data set's own settings where it names none."""
    parser = report.parser(__doc__, "benchmarks/results/personalization.json")
    parser.add_argument("--case", choices=list(CASES), default="digits", help="data set; default: digits")
    parser.add_argument("--data", help="directory with the data sets, for all but digits")
    parser.add_argument("--pretrained", help="checkpoint for ag_news, of which the pooler and the head are trained")
    parser.add_argument("--run_dir", help="where the runs go; default: runs/personalization_CASE")
    parser.add_argument("--method", action="append", choices=list(METHODS), help="several: only these")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--alpha", type=float, default=0.1, help="Dirichlet's, of digits and ag_news")
    parser.add_argument("--learning_rate", type=float, help="at clients")
    parser.add_argument("--hidden_size", type=int, default=32, help="of digits' model; its MLP is twice as wide")
    flags = parser.parse_args(words)
    case = CASES[flags.case]
    flags.run_dir = flags.run_dir or f"runs/personalization_{flags.case}"
    flags.method = flags.method or [m for m in METHODS if m not in case.left_out]
    flags.rounds, flags.learning_rate = flags.rounds or case.rounds, flags.learning_rate or case.learning_rate
    return flags


def main() -> None:
    """Runs, prints and writes."""
    flags = flags_of()
    case, rows = CASES[flags.case], []
    for seed in range(1, flags.seeds + 1):
        beside = {"alone": None}
        for method in flags.method:
            found, beside["alone"] = run(method, seed, flags, beside["alone"])
            row = figures(found, beside, history(method, seed, flags), case)
            rows.append({"method": method, "seed": seed, **row})
            if method == "FedAvg":
                beside["fed_avg"] = found.by_client
            print(rows[-1], file=sys.stderr)
        rows.append({"method": "each client alone", "seed": seed, **over_clients(beside["alone"], found, case)})
    table = pd.DataFrame(rows)
    result = {"machine": report.machine(), "flags": vars(flags), "rows": table.to_dict("records")}
    print(f"\n{tell(table, case)}\n")
    print(f"Written to {report.write('personalization', result, flags.output)}")


def directory(method: str, seed: int, flags) -> str:
    """The run directory."""
    name = METHODS[method].run or method
    return os.path.join(flags.run_dir, f"{''.join(c if c.isalnum() else '_' for c in name)}-{seed}")


def history(method: str, seed: int, flags) -> pd.DataFrame:
    """`metrics.csv` of a run."""
    return pd.read_csv(os.path.join(directory(method, seed, flags), "metrics.csv"))


def create_task(method: str, seed: int, flags) -> ft.Task:
    """The data set with the model of a method."""
    case, which = CASES[flags.case], METHODS[method].weights
    os.makedirs(flags.run_dir, exist_ok=True)
    kind, data, model = case.parts(flags, flags.run_dir)
    chosen = {"personal": {"personal": case.personal}, "norms": {"personal": "norms"}}
    chosen |= {"adapters": {"trainable": ft.LoRA(**case.adapters), "cache_features": False}, "all": {}}
    return ft.load_task(kind, data=data, model=ft.Model(**{**model, **chosen[which]}), seed=seed)


def run(method: str, seed: int, flags, alone: pd.DataFrame | None):
    """The evaluation of a run, which is trained now if it was not before, and the clients alone."""
    case, way = CASES[flags.case], METHODS[method]
    share_features(method, seed, flags)
    client = {"client": case.client(flags.learning_rate), "epochs": 1, "batch_size": case.batch_size}
    trainer = ft.Trainer(
        create_task(method, seed, flags),
        algorithm=way.algorithm(**{**client, **case.algorithm, **way.settings}),
        clients_per_round=case.clients_per_round,
        rounds_per_evaluation=10,
        run_dir=directory(method, seed, flags),
        progress=False,
        callbacks=[_Processor()],
    )
    trainer.fit(rounds=flags.rounds)
    stored = os.path.join(flags.run_dir, f"alone-{seed}-{flags.rounds}.csv")
    if alone is None and os.path.exists(stored):
        alone = read_clients(stored)
    found = trainer.evaluate("test", alone_epochs=flags.rounds if alone is None else 0, **way.evaluation)
    if alone is None:
        alone = found.others[ALONE]
        alone.to_csv(stored, index_label="client")
    return found, alone


def read_clients(path: str) -> pd.DataFrame:
    """Figures by client that were stored; ids of clients may look like numbers."""
    return pd.read_csv(path, dtype={"client": str}).set_index("client")


def share_features(method: str, seed: int, flags) -> None:
    """Gives a run the activations of others with the same records; a run computes its own if these do not fit it."""
    mine, *others = (os.path.join(directory(m, seed, flags), "features") for m in (method, *METHODS))
    take_features(mine, [path for path in others if path != mine])


def judging(found, case: Case):
    """The metric by which clients are compared."""
    if case.metric is None:
        return judged_by(found.by_client, found.metrics)
    return next(metric for metric in found.metrics if metric.name == case.metric)


def over_clients(by_client: pd.DataFrame, found, case: Case) -> dict[str, float]:
    """Statistics of a model of each client."""
    metric = judging(found, case)
    row = statistics(by_client, metric)
    also = {} if case.also is None else {"also": by_client[case.also].mean()}
    return {"mean": row["mean"], "tail": row[bad_tail(metric)], "worst": row["worst"], **also}


def figures(found, beside: dict[str, pd.DataFrame], rows: pd.DataFrame, case: Case) -> dict[str, float]:
    """A row of the table; `beside` are other models of the same clients, by a word."""
    metric, shared = judging(found, case), found.others.get(GLOBAL, found.others.get(BEFORE))
    return {
        **over_clients(found.by_client, found, case),
        "hurt_by_own": float("nan") if shared is None else is_hurt(shared, found.by_client, metric).mean(),
        **{f"hurt_beside_{name}": is_hurt(table, found.by_client, metric).mean() for name, table in beside.items()},
        "kilobytes_up": rows["comm/upload_bytes_per_client"].iloc[-1] / 1e3,
        "processor_seconds": rows[_PROCESSOR].iloc[3:].median(),
    }


def tell(table: pd.DataFrame, case: Case) -> str:
    """A Markdown table: medians over seeds, with their ranges."""
    columns = {"mean": ("mean", case.scale, case.digits), "tail": ("worst tenth from", case.scale, case.digits)}
    columns |= {"worst": ("worst", case.scale, case.digits), "also": (f"mean {case.also}", 1, 3)}
    columns |= {"hurt_by_own": ("worse than global", 100, 1), "hurt_beside_fed_avg": ("worse than FedAvg", 100, 1)}
    columns |= {"hurt_beside_alone": ("worse than alone", 100, 1)}
    columns |= {"kilobytes_up": ("kB up", 1, 1), "processor_seconds": ("processor s a round", 1, 1)}
    columns = {name: column for name, column in columns.items() if name in table}
    rows = []
    for method, part in table.groupby("method", sort=False):
        cells = [report.spread(part[name].dropna(), digits, scale) for name, (_, scale, digits) in columns.items()]
        rows.append([method, *cells])
    return report.table(["method", *(title for title, *_ in columns.values())], rows)


if __name__ == "__main__":
    main()
