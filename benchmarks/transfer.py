"""Federated transfer against the number of rows in common: `python -m benchmarks.transfer DATA OUT`.

What a party without labels predicts of rows that it alone knows, by 0, 25, 50, 100 and 200 rows in common, beside
chance, a model of its own columns and the labels that it lacks, and the vertical model of all rows. DATA and OUT are as
of `benchmarks.vertical`, without DATA ("") the embedded data sets alone; `--table OUT` prints the tables.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from collections.abc import Iterator

from benchmarks.vertical import measure, read, scenarios

COUNTS = (0, 25, 50, 100, 200)
_METRICS = {"adult": "roc_auc", "breast_cancer": "roc_auc"}
_TUMOURS = {
    "clinic": {"numeric": ["mean_radius", "mean_texture", "mean_smoothness"], "label": "label"},
    "laboratory": {"numeric": ["worst_area", "worst_concavity", "worst_symmetry"]},
}


def variants(settings: dict, parties: dict, counts: tuple[int, ...] = COUNTS) -> Iterator[tuple[str, dict]]:
    """(name, fields of `VerticalConfig`) of each point of the curve, and of what it is compared with."""
    (teacher, label), (learner, own) = ((name, dict(fields)) for name, fields in parties.items())
    for count in counts:
        # A common row without a weight teaches nothing.
        of = {"common_rows": count} if count else {"common_rows": 1, "alignment_weight": 0.0}
        yield f"{count} rows in common", {**settings, **of, "parties": {teacher: label, learner: own}}
    yield f"{learner} with labels", {**settings, "parties": {learner: {**own, "label": label["label"]}}}
    yield "vertical model", {**settings, "parties": {teacher: label, learner: own}}


def chance(config, settings) -> float:
    """Accuracy of the most frequent class of the held-out rows."""
    import numpy as np

    from tff_tx.run.vertical_federation import Federation

    with tempfile.TemporaryDirectory() as directory:
        federation = Federation(config, settings, directory)
    labels = federation.labels[federation.label.schedule.split("test")]
    return float(np.bincount(labels).max() / len(labels))


def main(data: str, out: str, seeds: int = 3, counts: tuple[int, ...] = COUNTS) -> None:
    """Runs what OUT has not yet, a line for each data set, variant and seed."""
    from tff_tx.config import RunConfig
    from tff_tx.config.vertical import VerticalConfig

    done = {(r["data"], r["variant"], r["seed"]) for r in read(out)}
    small = {"cut_size": 16, "batch_size": 64, "learning_rate": 3e-3}
    with tempfile.TemporaryDirectory() as scratch:
        curves = {"breast_cancer": ({"data.dataset": "breast_cancer"}, {**small, "epochs": 8}, _TUMOURS)}
        for name, (of_data, settings, found) in scenarios(data, "", scratch).items() if data else ():
            if name in ("digits", "adult"):
                curves[name] = of_data, settings, found["vertical"]
        for seed, (name, (of_data, settings, parties)) in itertools.product(range(seeds), curves.items()):
            config = RunConfig.of({**of_data, "run.seed": seed})
            for variant, fields in variants(settings, parties, counts):
                if (name, variant, seed) not in done:
                    row = measure(config, VerticalConfig(**fields))
                    _append(out, {"data": name, "variant": variant, "seed": seed, **row})
            if (name, "chance", seed) not in done:
                of = 0.5 if name in _METRICS else chance(config, VerticalConfig(**fields))
                _append(out, {"data": name, "variant": "chance", "seed": seed, _METRICS.get(name, "accuracy"): of})


def _append(out, row):
    with open(out, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def table(out: str) -> str:
    """Means and standard deviations over seeds, in Markdown."""
    import pandas as pd

    rows = pd.DataFrame(read(out))
    lines = ["| data | metric | party without labels by | mean | deviation | seeds |", "|---" * 6 + "|"]
    for (name, variant), part in rows.groupby(["data", "variant"], sort=False):
        metric = _METRICS.get(name, "accuracy")
        values = part[metric]
        lines.append(f"| {name} | {metric} | {variant} | {values.mean():.4f} | {values.std():.4f} | {len(values)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(sys.argv[2])) if sys.argv[1] == "--table" else main(*sys.argv[1:3], *map(int, sys.argv[3:4]))
