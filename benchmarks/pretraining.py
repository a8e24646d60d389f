"""What federated pretraining brings where labels are few: `python -m benchmarks.pretraining --news=FILE --plays=FILE`.

A small GPT-2 is pretrained by language modeling on the plays, or on the news without their labels, a small BERT by
masked language modeling on the news, and then each tells four classes of news apart after a few labelled items a
client; beside them the same models with random weights. All have the same vocabulary, which the news' clients learn
with epsilon 4, and the same fine-tuning, whose seed deals the items to clients, decides which of them are labelled, and
draws cohorts and the weights that are new. The last 1,600 items are held out from everything. Presets are those of
programs/flags; vocabulary and pretrained models stay in --run_dir, and are not made again.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
import json
import os
import subprocess
import sys
import time

import tensorflow_federated as tff

from benchmarks import report
from benchmarks.processes import ROOT
from tff_tx import algorithms, cohorts, datasets, runtime, tasks
from tff_tx.config.algorithm import ClientConfig
from tff_tx.run import evaluation


@dataclasses.dataclass(frozen=True)
class Start:
    """Where weights come from.

    Attributes:
      preset: That trains a model of this architecture.
      pretrained: Whether it has trained, or the weights are random.
    """

    preset: str
    pretrained: bool = True


STARTS = {
    "random weights": Start("pretrain_news", pretrained=False),
    "plays": Start("pretrain_plays"),
    "news": Start("pretrain_news"),
    "BERT, random weights": Start("pretrain_news_masked", pretrained=False),
    "BERT, news": Start("pretrain_news_masked"),
}
"""By name; without one it is a GPT-2."""

_HELD_OUT = 1600


def main() -> None:
    """Runs what is missing, prints and writes."""
    parser = report.parser(__doc__, "benchmarks/results/pretraining.json")
    parser.add_argument("--news", required=True, help="ag_news_7600.csv of data/ag_news")
    parser.add_argument("--plays", required=True, help="plays.txt of data/shakespeare")
    parser.add_argument("--run_dir", default="runs/pretraining", help="where vocabulary and models are kept")
    parser.add_argument("--start", action="append", choices=list(STARTS), help="several: only these")
    parser.add_argument("--labels", type=int, action="append", help="labelled items a client; default: 4")
    parser.add_argument("--seeds", type=int, default=3, help="of the fine-tuning")
    flags = parser.parse_args()
    runtime.configure_tensorflow()
    run_dir, starts = os.path.abspath(flags.run_dir), flags.start or list(STARTS)
    result = {"machine": report.machine(), "flags": vars(flags), "pretraining": {}, "accuracy": {}}
    prepare(flags.news, run_dir)
    for start in starts:
        if STARTS[start].pretrained:
            result["pretraining"][start] = pretrain(STARTS[start].preset, flags.plays, run_dir)
    for labels in flags.labels or (4,):
        for seed in range(1, flags.seeds + 1):
            for start, accuracy in fine_tune(starts, labels, seed, run_dir).items():
                result["accuracy"].setdefault(start, {}).setdefault(str(labels), []).append(accuracy)
            path = report.write("pretraining", result, flags.output)
    print(f"\n{tell(result['accuracy'])}\n\nWritten to {path}")


def prepare(news: str, run_dir: str) -> None:
    """Divides the news into train.csv and test.csv, and learns vocabulary/."""
    os.makedirs(run_dir, exist_ok=True)
    with open(news, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    for name, part in (("train.csv", rows[:-_HELD_OUT]), ("test.csv", rows[-_HELD_OUT:])):
        with open(os.path.join(run_dir, name), "w", encoding="utf-8", newline="") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows(part)
    output = os.path.join(run_dir, "vocabulary")
    if not os.path.exists(output):
        _run("vocabulary", "vocabulary_news", *_news_flags(run_dir), f"--output={output}", "--dp_noise_seed=1")


def pretrain(preset: str, plays: str, run_dir: str) -> dict:
    """Trains a language model; its figures on held-out text."""
    results = os.path.join(run_dir, preset, "results.json")
    if not os.path.exists(results):
        data = [f"--data={plays}"] if preset == "pretrain_plays" else _news_flags(run_dir)
        tokenizer = f"--tokenizer={os.path.join(run_dir, 'vocabulary')}"
        _run("train", preset, *data, tokenizer, f"--run_dir={os.path.dirname(results)}")
    with open(results, encoding="utf-8") as file:
        return json.load(file)["test"]


def fine_tune(starts, labels: int, seed: int, run_dir: str) -> dict[str, float]:
    """Trains a classifier from each start on the same items with the same cohorts; accuracies on held-out items."""
    preset = read_preset("ag_news_few_labels")
    found = {start: _task(start, labels, seed, run_dir, preset) for start in starts}
    rounds, rate = int(preset["rounds"]), float(preset["client_learning_rate"])
    options = algorithms.Options(
        client_optimizer_fn=functools.partial(algorithms.build_optimizer, preset["client_optimizer"]),
        server_optimizer=algorithms.build_optimizer("sgd", 1.0),
        client_learning_rate=rate,
        client_schedule=algorithms.build_schedule(preset["client_schedule"], rate, 0, rounds),
    )
    clients_per_round, accuracies, made = int(preset["clients_per_round"]), {}, {}
    with contextlib.ExitStack() as stack:
        for start, task in found.items():
            started = time.monotonic()
            architecture = read_preset(STARTS[start].preset)["architecture"]
            if architecture not in made:
                process = task.process(algorithms.build_fed_avg(task.model, options))
                engine = stack.enter_context(runtime.LocalEngine(process, _threads()))
                made[architecture] = (
                    engine,
                    evaluation.Evaluator(task.model, task.eval_batches_fn(task.test), _threads()),
                )
            engine, evaluator = made[architecture]
            weights = tff.learning.models.ModelWeights(*task.model.initial_weights)
            state = runtime.with_model(engine.initialize(), weights)
            sample = cohorts.uniform(task.train.client_ids, clients_per_round, seed)
            for round_num in range(1, rounds + 1):
                state = engine.run_round(state, tasks.client_arguments(sample(round_num), seed, round_num)).state
            metrics = evaluator.metrics(engine.model_weights(state), task.test.client_ids)
            accuracies[start] = float(metrics["accuracy"])
            told = f"{labels} labels a client, seed {seed}, {start}: {100 * accuracies[start]:.1f} %"
            print(f"{told}, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return accuracies


def _threads():
    return len(os.sched_getaffinity(0))


def _task(start, labels, seed, run_dir, preset):
    vocabulary = os.path.join(run_dir, "vocabulary")
    trained = read_preset(STARTS[start].preset)
    if STARTS[start].pretrained:
        model = {"pretrained": os.path.join(run_dir, STARTS[start].preset, "model")}
    else:
        config = json.loads(trained["model_config"])
        model = {"architecture": trained["architecture"], "config": config, "tokenizer": vocabulary}
    data = datasets.DataSpec(
        "file",
        files=(os.path.join(run_dir, "train.csv"),),
        test_files=(os.path.join(run_dir, "test.csv"),),
        format="csv",
        columns=("label", "title", "text"),
        text_column=("title", "text"),
        text_join="blank",
        partition=preset["partition"],
        dirichlet_alpha=float(preset["dirichlet_alpha"]),
        num_clients=int(preset["num_clients"]),
        split="example",
        max_train_examples_per_client=labels,
        cache_dir=os.path.join(run_dir, "cache"),
        seed=seed,
    )
    return tasks.create_task(
        "sequence_classification",
        data,
        tasks.ModelSpec(max_length=int(preset["max_length"]), **model),
        ClientConfig(batch_size=int(preset["batch_size"]), epochs=int(preset["local_epochs"])),
        seed=seed,
        progress=False,
    )


def read_preset(name: str) -> dict[str, str]:
    """The flags of a preset that have a value."""
    with open(os.path.join(ROOT, "programs", "flags", f"{name}.flags"), encoding="utf-8") as file:
        lines = (line.strip() for line in file)
        return dict(line[2:].split("=", 1) for line in lines if line.startswith("--") and "=" in line)


def tell(accuracies: dict[str, dict[str, list[float]]]) -> str:
    """A table of accuracies in percent: a row a start, a column a number of labels; medians with ranges."""
    columns = list(next(iter(accuracies.values())))
    rows = [
        [start, *(report.spread(found[labels], digits=1, scale=100) for labels in columns)]
        for start, found in accuracies.items()
    ]
    return report.table(["pretrained on", *(f"labels a client: {labels}" for labels in columns)], rows)


def _news_flags(run_dir):
    return [f"--data={os.path.join(run_dir, 'train.csv')}", f"--test_data={os.path.join(run_dir, 'test.csv')}"]


def _run(program, preset, *flags):
    started = time.monotonic()
    flagfile = os.path.join(ROOT, "programs", "flags", f"{preset}.flags")
    command = [sys.executable, "-m", f"programs.{program}", f"--flagfile={flagfile}", *flags]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with code {done.returncode}.")
    print(f"{preset}: {time.monotonic() - started:.0f} s\n{done.stdout}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
