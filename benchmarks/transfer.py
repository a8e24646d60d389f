"""Federated transfer against the number of rows in common: `python -m benchmarks.transfer DATA OUT`.

What a party without labels predicts of rows that it alone knows, by 0, 25, 50, 100 and 200 rows in common, beside
chance, two references of scikit-learn with the same rows (`references`), a model of its own columns and the labels that
it lacks, and the vertical model of all rows. DATA and OUT are as of `benchmarks.vertical`, without DATA ("") the
embedded data sets alone; names of data sets behind it measure these alone. `--table OUT` prints the tables.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Iterator

from benchmarks.vertical import TUMOURS, append, measure, read, scenarios

COUNTS = (0, 25, 50, 100, 200)
_METRICS = {"adult": "roc_auc", "breast_cancer": "roc_auc"}
_SETTINGS = {
    "digits": {"epochs": 20, "top": "concatenation", "dropout": 0.2},
    "adult": {"top": "concatenation", "dropout": 0.2},
}
"""Of transfer, where they are others than those of the vertical federation."""


def variants(settings: dict, parties: dict, counts: tuple[int, ...] = COUNTS) -> Iterator[tuple[str, dict]]:
    """(name, fields of `VerticalConfig`) of each point of the curve, and of what it is compared with."""
    (teacher, label), (learner, own) = ((name, dict(fields)) for name, fields in parties.items())
    for count in counts:
        # A common row without a weight teaches nothing.
        of = {"common_rows": count} if count else {"common_rows": 1, "alignment_weight": 0.0}
        yield f"{count} rows in common", {**settings, **of, "parties": {teacher: label, learner: own}}
    yield f"{learner} with labels", {**settings, "parties": {learner: {**own, "label": label["label"]}}}
    yield "vertical model", {**settings, "parties": {teacher: label, learner: own}}


def references(config, settings) -> dict[str, float]:
    """Figures of scikit-learn's models on the rows that a run has, by name.

    "ridge": a ridge regression from the other party's columns to the hidden layer of the label party's perceptron, on
    the rows in common, whose head then reads it. "labels": a logistic regression on the labels of the rows in common,
    as if these were sent. "chance": the most frequent class, or an AUC of 0.5.
    """
    import numpy as np
    from sklearn import linear_model, metrics, neural_network

    from tff_tx.run.vertical_federation import load

    label, other = (load(config, settings, name, "", False) for name in settings.parties)
    labels, schedule = label.data.labels, label.schedule
    train, test, common = schedule.split("train"), schedule.split("test"), schedule.common_rows()
    own, far = _columns(label.data.inputs, train), _columns(other.data.inputs, schedule.known(False))
    head = neural_network.MLPClassifier((64, 16), max_iter=100, random_state=config.run.seed)
    head.fit(own[train], labels[train])

    def hidden(x):
        for weights, bias in zip(head.coefs_[:-1], head.intercepts_[:-1]):
            x = np.maximum(x @ weights + bias, 0.0)
        return x

    ridge = linear_model.RidgeCV(np.logspace(-3, 3, 13)).fit(far[common], hidden(own[common]))
    scores = {"ridge": ridge.predict(far[test]) @ head.coefs_[-1] + head.intercepts_[-1]}
    known = linear_model.LogisticRegression(max_iter=1000).fit(far[common], labels[common])
    scores["labels"] = known.decision_function(far[test])
    if len(label.facts["classes"]) == 2:
        return {"chance": 0.5, **{name: metrics.roc_auc_score(labels[test], x.ravel()) for name, x in scores.items()}}
    classes = {"ridge": head.classes_, "labels": known.classes_}
    found = {name: float(np.mean(classes[name][x.argmax(1)] == labels[test])) for name, x in scores.items()}
    return {"chance": float(np.bincount(labels[test]).max() / len(test)), **found}


def _columns(inputs, known):
    """Arrays of a party's inputs as standardized columns, categories one-hot."""
    import numpy as np
    from sklearn.preprocessing import StandardScaler

    found = []
    for name, array in inputs.items():
        flat = array.reshape(len(array), -1)
        if name == "categories":
            flat = np.concatenate([np.eye(column.max() + 1)[column] for column in flat.T], axis=1)
        found.append(flat)
    flat = np.nan_to_num(np.concatenate(found, axis=1))
    return StandardScaler().fit(flat[known]).transform(flat)


def main(data: str, out: str, *names: str, seeds: int = 3, counts: tuple[int, ...] = COUNTS) -> None:
    """Runs what OUT has not yet, a line for each data set, variant and seed; of the named data sets, by default all."""
    from tff_tx.config import RunConfig
    from tff_tx.config.vertical import VerticalConfig

    done = {(r["data"], r["variant"], r["seed"]) for r in read(out)}
    small = {"cut_size": 16, "batch_size": 64, "learning_rate": 3e-3}
    with tempfile.TemporaryDirectory() as scratch:
        curves = {"breast_cancer": ({"data.dataset": "breast_cancer"}, {**small, "epochs": 8}, TUMOURS)}
        for name, (of_data, settings, found) in scenarios(data, "", scratch).items() if data else ():
            if name in _SETTINGS:
                curves[name] = of_data, {**settings, **_SETTINGS[name]}, found["vertical"]
        for seed, (name, (of_data, settings, parties)) in itertools.product(range(seeds), curves.items()):
            if names and name not in names:
                continue
            config = RunConfig.of({**of_data, "run.seed": seed})
            for variant, fields in variants(settings, parties, counts):
                own = VerticalConfig(**fields)
                if (name, variant, seed) not in done:
                    append(out, {"data": name, "variant": variant, "seed": seed, **measure(config, own)})
                if own.common_rows and own.alignment_weight and (name, f"{variant}: ridge", seed) not in done:
                    for of, value in references(config, own).items():
                        row = {"variant": f"{variant}: {of}", _METRICS.get(name, "accuracy"): value}
                        append(out, {"data": name, "seed": seed, **row})


def table(out: str) -> str:
    """Means and standard deviations over seeds, in Markdown."""
    import pandas as pd

    rows = pd.DataFrame(read(out))
    lines = ["| data | metric | party without labels by | mean | deviation | seeds |", "|---" * 6 + "|"]
    for (name, variant), part in rows.groupby(["data", "variant"], sort=False):
        metric = _METRICS.get(name, "accuracy")
        values = part[metric]
        lines.append(f"| {name} | {metric} | {variant} | {values.mean():.3f} | {values.std():.3f} | {len(values)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(sys.argv[2])) if sys.argv[1] == "--table" else main(*sys.argv[1:])
