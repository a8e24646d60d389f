"""FedAvg, FedGKD and FedDF on unequal digits: `python -m benchmarks.distillation`.

Digits over clients that have few of the ten each (Dirichlet 0.1), a Vision Transformer: the accuracy on held-out
digits by round. All contenders have the same clients, cohorts and initial weights; a fifth of the pictures is the
server's, without labels, and FedDF alone uses it. With two groups half of the clients have a smaller model.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import tempfile
import time

from benchmarks import report
from tff_tx import algorithms, cohorts, datasets, runtime, tasks
from tff_tx.algorithms.distillation import FedDFEngine, Group, assign_groups
from tff_tx.config.algorithm import ClientConfig, EnsembleConfig
from tff_tx.run import evaluation

_LARGE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "patch_size": 2,
    "initializer_range": 0.1,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
_SMALL = {**_LARGE, "hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 32}


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to train.

    Attributes:
      models: By the name of a group, fields of its model's configuration.
      gamma: FedGKD's weight.
      distills: Whether the server distills.
    """

    models: dict[str, dict]
    gamma: float = 0.0
    distills: bool = False


CONTENDERS = {
    "FedAvg": Contender({"large": _LARGE}),
    "FedGKD": Contender({"large": _LARGE}, gamma=0.2),
    "FedDF": Contender({"large": _LARGE}, distills=True),
    "two groups, each FedAvg": Contender({"large": _LARGE, "small": _SMALL}),
    "two groups, FedDF": Contender({"large": _LARGE, "small": _SMALL}, distills=True),
}


def main() -> None:
    """Runs, prints and writes."""
    parser = report.parser(__doc__, "benchmarks/results/distillation.json")
    parser.add_argument("--contender", action="append", choices=list(CONTENDERS), help="several: only these")
    parser.add_argument("--repetitions", type=int, default=1, help="of everything, with other seeds")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--rounds_per_evaluation", type=int, default=10)
    parser.add_argument("--clients", type=int, default=20, help="in all")
    parser.add_argument("--clients_per_round", type=int, default=8)
    parser.add_argument("--local_epochs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=50, help="of distillation on the server a round")
    parser.add_argument("--alpha", type=float, default=0.1, help="Dirichlet's")
    flags = parser.parse_args()
    runtime.configure_tensorflow()
    chosen = flags.contender or list(CONTENDERS)
    result = {"machine": report.machine(), "flags": vars(flags), "runs": {name: [] for name in chosen}}
    with tempfile.TemporaryDirectory() as cache_dir:
        for seed in range(1, flags.repetitions + 1):
            for name in chosen:
                started = time.monotonic()
                result["runs"][name].append(run(CONTENDERS[name], cache_dir, seed, flags))
                print(f"seed {seed}, {name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    print(f"\n{tell(result['runs'])}\n")
    print(f"Written to {report.write('distillation', result, flags.output)}")


def run(contender: Contender, cache_dir: str, seed: int, flags) -> list[dict]:
    """The accuracies of a run, by group, with the rounds they took."""
    found = {name: _task(config, cache_dir, seed, flags) for name, config in contender.models.items()}
    first = next(iter(found.values()))
    evaluators = {n: evaluation.Evaluator(t.model, t.eval_batches_fn(t.test), threads=2) for n, t in found.items()}
    sample = cohorts.uniform(first.train.client_ids, flags.clients_per_round, seed)
    curve = []
    with _engine(contender, found, seed, flags) as engine:
        state = engine.initialize()
        for round_num in range(1, flags.rounds + 1):
            state = engine.run_round(state, tasks.client_arguments(sample(round_num), seed, round_num)).state
            if round_num % flags.rounds_per_evaluation == 0 or round_num == flags.rounds:
                weights = engine.model_weights(state)
                metrics = {n: e.metrics(weights[n], first.test.client_ids) for n, e in evaluators.items()}
                curve.append({"round": round_num, "accuracy": {n: m["accuracy"] for n, m in metrics.items()}})
    return curve


def tell(runs: dict[str, list[list[dict]]]) -> str:
    """A table of accuracies in percent: a row a contender and group, medians with ranges."""
    rounds = [point["round"] for point in next(iter(runs.values()))[0]]
    rows = []
    for name, curves in runs.items():
        for group in curves[0][0]["accuracy"]:
            cells = [
                report.spread([curve[i]["accuracy"][group] for curve in curves], digits=1, scale=100)
                for i in range(len(rounds))
            ]
            rows.append([name, group, *cells])
    return report.table(["contender", "model", *(f"% right after {r} rounds" for r in rounds)], rows)


def _task(config, cache_dir, seed, flags):
    return tasks.create_task(
        "image_classification",
        datasets.DataSpec(
            "digits",
            num_clients=flags.clients,
            partition="dirichlet",
            dirichlet_alpha=flags.alpha,
            validation_fraction=0.2,
            test_fraction=0.2,
            cache_dir=cache_dir,
            seed=seed,
        ),
        tasks.ModelSpec(architecture="vit", config=config),
        ClientConfig(batch_size=16, epochs=flags.local_epochs),
        seed=seed,
        progress=False,
    )


def _engine(contender, found, seed, flags):
    """Also FedAvg is run as groups, which without steps of distillation is the same to the bit."""
    options = algorithms.Options(
        client_optimizer_fn=functools.partial(algorithms.build_optimizer, "adam"),
        server_optimizer=algorithms.build_optimizer("sgd", 1.0),
        client_learning_rate=2e-3,
        transforms=(algorithms.distill(contender.gamma),),
    )
    groups = {
        name: Group(task.model, runtime.LocalEngine(task.process(algorithms.build_fed_avg(task.model, options))))
        for name, task in found.items()
    }
    first = next(iter(found.values()))
    group_of = assign_groups(first.train.client_ids, list(found), seed)
    return FedDFEngine(
        groups,
        lambda client: group_of[client["client_id"].decode()],
        lambda round_num: first.public_batches(first.validation, seed, round_num, batch_size=64),
        EnsembleConfig(enabled=True, steps=flags.steps if contender.distills else 0),
    )


if __name__ == "__main__":
    main()
