"""Personal models by PFLlib's protocol: `python -m benchmarks.personalization`.

20 clients that all take part, Dirichlet(0.1) over their labels, a quarter of each client's records held out, batches of
10, one local epoch: digits with a Vision Transformer, or with --ag_news and --pretrained news with the pooler and the
head of a checkpoint whose other layers are frozen (their activations are computed once). Of each method the accuracy
over clients, each with its own model on its own held-out records, whom it hurts, what a client sends and what a round
costs. Runs that are done are not repeated: start it again with the same --run_dir.
"""

from __future__ import annotations

import os
import shutil
import sys

import pandas as pd
import psutil

import tff_tx as ft
from benchmarks import report
from tff_tx.run.comparison import ALONE, GLOBAL, is_hurt, judged_by

_PROCESSOR = "bench/processor_seconds"
_ADAPTERS = ft.LoRA(rank=4)

METHODS = {
    "FedAvg": ({}, lambda **p: ft.FedAvg(**p)),
    "FedProx": ({}, lambda **p: ft.FedProx(mu=0.1, **p)),
    "FedBN": ({"personal": "norms"}, lambda **p: ft.FedAvg(**p)),
    "FedPer": ({"personal": "head"}, lambda **p: ft.FedAvg(**p)),
    "FedRep": ({"personal": "head"}, lambda **p: ft.FedRep(**p)),
    "FedBABU": ({"personal": "head"}, lambda **p: ft.FedBABU(personal_epochs=5, **p)),
    "FedRecon": ({"personal": "head"}, lambda **p: ft.FedRecon(personal_epochs=5, **p)),
    "Ditto": ({}, lambda **p: ft.Ditto(strength=0.1, **p)),
    "MR-MTL": ({}, lambda **p: ft.MRMTL(strength=0.1, **p)),
    "pFedMe": ({}, lambda **p: ft.PFedMe(**p)),
    "APFL": ({}, lambda **p: ft.APFL(**p)),
    "FedAvg, adapters": ({"trainable": _ADAPTERS}, lambda **p: ft.FedAvg(**p)),
    "FedDPA-T": ({"trainable": _ADAPTERS}, lambda **p: ft.FedDPA(**p)),
    "FedDPA-F": ({"trainable": _ADAPTERS}, lambda **p: ft.FedDPA(after=True, personal_epochs=5, **p)),
    "IFCA, 4 clusters": ({}, lambda **p: ft.IFCA(clusters=4, server=ft.SGD(4.0), **p)),
}
"""By name: what the model is apart from others, and the algorithm of settings that all have."""
_NEEDS_ALL = ("FedBN", "FedAvg, adapters", "FedDPA-T", "FedDPA-F")
"""With all below the pooler frozen there are no norms to train; adapters train the layers below."""


class _Processor(ft.Callback):
    """Adds to each round's figures what it took of all processors: the same on a busy machine, nearly."""

    def on_start(self, run):
        self._before = psutil.Process().cpu_times()

    def on_round_end(self, result):
        now = psutil.Process().cpu_times()
        result.row[_PROCESSOR] = now.user + now.system - self._before.user - self._before.system
        self._before = now


def main() -> None:
    """Runs, prints and writes."""
    parser = report.parser(__doc__, "benchmarks/results/personalization.json")
    parser.add_argument("--run_dir", default="runs/personalization", help="where the runs go")
    parser.add_argument("--method", action="append", choices=list(METHODS), help="several: only these")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--alpha", type=float, default=0.1, help="Dirichlet's")
    parser.add_argument("--learning_rate", type=float, default=5e-3, help="of Adam at clients")
    parser.add_argument("--hidden_size", type=int, default=32, help="of digits' model; its MLP is twice as wide")
    parser.add_argument("--ag_news", help="CSV of news, with --pretrained")
    parser.add_argument("--pretrained", help="its checkpoint, of which the pooler and the head are trained")
    flags = parser.parse_args()
    methods = flags.method or [m for m in METHODS if not (flags.ag_news and m in _NEEDS_ALL)]
    rows = []
    for seed in range(1, flags.seeds + 1):
        alone = None
        for method in methods:
            found = run(method, seed, flags, with_alone=alone is None)
            alone = found.others[ALONE] if alone is None else alone
            rows.append({"method": method, "seed": seed, **figures(found, alone, history(method, seed, flags))})
            print(rows[-1], file=sys.stderr)
        rows.append(
            {"method": "each client alone", "seed": seed, **over_clients(alone, judged_by(alone, found.metrics))}
        )
    table = pd.DataFrame(rows)
    result = {"machine": report.machine(), "flags": vars(flags), "rows": table.to_dict("records")}
    print(f"\n{tell(table)}\n")
    print(f"Written to {report.write('personalization', result, flags.output)}")


def directory(method: str, seed: int, flags) -> str:
    """The run directory."""
    return os.path.join(flags.run_dir, f"{''.join(c if c.isalnum() else '_' for c in method)}-{seed}")


def history(method: str, seed: int, flags) -> pd.DataFrame:
    """`metrics.csv` of a run."""
    return pd.read_csv(os.path.join(directory(method, seed, flags), "metrics.csv"))


def run(method: str, seed: int, flags, with_alone: bool):
    """The evaluation of a run, which is trained now if it was not before."""
    parts, algorithm = METHODS[method]
    clients = ft.Dirichlet(20, alpha=flags.alpha)
    if flags.ag_news:
        columns = {"columns": ("label", "title", "text"), "label_column": "label", "text_join": "blank"}
        columns |= {"text_column": ("title", "text"), "data_format": "csv"}
        data = ft.Data(flags.ag_news, clients=clients, test=0.25, split="within_client", **columns)
        upper = {"trainable": "layers:pooler|classifier", "cache_features": True}
        model, kind = ft.Model(flags.pretrained, **upper, **parts), "sequence_classification"
    else:
        data = ft.Data("digits", clients=clients, test=0.25, split="within_client")
        digits = {"hidden_size": flags.hidden_size, "intermediate_size": 2 * flags.hidden_size}
        digits |= {"num_hidden_layers": 2, "num_attention_heads": 4}
        model, kind = ft.Model(config=digits, **parts), None
    share_features(method, seed, flags)
    task = ft.load_task(kind, data=data, model=model, seed=seed)
    trainer = ft.Trainer(
        task,
        algorithm=algorithm(client=ft.Adam(flags.learning_rate), epochs=1, batch_size=10),
        clients_per_round=20,
        rounds_per_evaluation=10,
        run_dir=directory(method, seed, flags),
        progress=False,
        callbacks=[_Processor()],
    )
    trainer.fit(rounds=flags.rounds)
    return trainer.evaluate("test", alone_epochs=flags.rounds if with_alone else 0)


def share_features(method: str, seed: int, flags) -> None:
    """Gives a run the activations of another with the same records; a run computes its own if these do not fit it."""
    mine, *others = (os.path.join(directory(m, seed, flags), "features") for m in (method, *METHODS))
    found = next((path for path in others if os.path.exists(path)), None)
    if found and not os.path.exists(mine):
        shutil.copytree(found, mine)


def over_clients(by_client: pd.DataFrame, metric) -> dict[str, float]:
    """Statistics of a model of each client."""
    values = by_client[metric.name]
    return {"mean": values.mean(), "p10": values.quantile(0.1), "worst": values.min()}


def figures(found, alone: pd.DataFrame, rows: pd.DataFrame) -> dict[str, float]:
    """A row of the table."""
    metric, shared = judged_by(found.by_client, found.metrics), found.others.get(GLOBAL)
    return {
        **over_clients(found.by_client, metric),
        "hurt_by_own": float("nan") if shared is None else is_hurt(shared, found.by_client, metric).mean(),
        "hurt_beside_alone": is_hurt(alone, found.by_client, metric).mean(),
        "kilobytes_up": rows["comm/upload_bytes_per_client"].iloc[-1] / 1e3,
        "processor_seconds": rows[_PROCESSOR].iloc[3:].median(),
    }


def tell(table: pd.DataFrame) -> str:
    """A Markdown table: medians over seeds, with their ranges."""
    header = ["method", "mean", "p10", "worst", "worse than global", "worse than alone", "kB up", "processor s a round"]
    columns = {"mean": 100, "p10": 100, "worst": 100, "hurt_by_own": 100, "hurt_beside_alone": 100}
    columns |= {"kilobytes_up": 1, "processor_seconds": 1}
    rows = []
    for method, part in table.groupby("method", sort=False):
        rows.append([method, *(report.spread(part[c].dropna(), 1, scale) for c, scale in columns.items())])
    return report.table(header, rows)


if __name__ == "__main__":
    main()
