"""Synchronous FedAvg against FedBuff in simulated time: `python -m benchmarks.fed_buff`.

The same clients at work at the same time, on devices whose speeds are log-normal: how long until the model is as good?
Digits over 100 clients with unequal shares of each digit (Dirichlet 0.5), a Vision Transformer. Simulated time depends
on the seed alone, not on the machine; every contender stops at the highest of the accuracies, or after so many reports.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time

from benchmarks import report
from tff_tx import algorithms, cohorts, datasets, runtime, tasks
from tff_tx.cohorts import buffered as asynchrony
from tff_tx.cohorts import devices as participation
from tff_tx.cohorts.devices import Devices
from tff_tx.config.algorithm import ClientConfig
from tff_tx.run import evaluation

_MODEL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "patch_size": 2,
    "initializer_range": 0.1,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
_CONCURRENCY = 20
_SECONDS_PER_EXAMPLE = 1.0
_MAX_STALENESS = 20
_REPORTS_PER_EVALUATION = 60


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to make rounds of clients.

    Attributes:
      name: In the table.
      reports: That an update is made of.
      over_selection: How many times as many are asked; `reports` times this is `_CONCURRENCY`, unless it is FedBuff.
      staleness_exponent: Of FedBuff; None: the server waits.
    """

    name: str
    reports: int
    over_selection: float = 1.0
    staleness_exponent: float | None = None


CONTENDERS = (
    Contender("synchronous", _CONCURRENCY),
    Contender("synchronous, the first 15 of 20", 15, over_selection=4 / 3),
    Contender("FedBuff, K = 10", 10, staleness_exponent=0.5),
    Contender("FedBuff, K = 5", 5, staleness_exponent=0.5),
    Contender("FedBuff, K = 5, stale counts as much", 5, staleness_exponent=0.0),
)


def main() -> None:
    """Runs, prints and writes."""
    parser = report.parser(__doc__, "benchmarks/results/fed_buff.json")
    parser.add_argument("--repetitions", type=int, default=1, help="of everything, with other seeds")
    parser.add_argument("--reports", type=int, default=1500, help="after which a contender gives up")
    parser.add_argument("--spread", type=float, default=1.0, help="standard deviation of the logarithm of speeds")
    parser.add_argument("--server_learning_rate", type=float, default=1.0, help="of all contenders")
    parser.add_argument("--accuracy", action="append", type=float, help="to reach; several: 0.5, 0.7 and 0.8")
    flags = parser.parse_args()
    flags.accuracy = sorted(flags.accuracy or [0.5, 0.7, 0.8])
    runtime.configure_tensorflow()
    result = {"machine": report.machine(), "flags": vars(flags), "runs": {c.name: [] for c in CONTENDERS}}
    with tempfile.TemporaryDirectory() as cache_dir:
        for seed in range(1, flags.repetitions + 1):
            task = _task(cache_dir, seed)
            for contender in CONTENDERS:
                curve = run(contender, task, seed, flags)
                result["runs"][contender.name].append(curve)
    print(f"\n{tell(result['runs'], flags.accuracy)}\n")
    print(f"Written to {report.write('fed_buff', result, flags.output)}")


def run(contender: Contender, task: tasks.FederatedTask, seed: int, flags) -> list[dict]:
    """The accuracies of a run, with the simulated seconds, updates and reports they took."""
    started, seconds, reports, curve = time.monotonic(), 0.0, 0, []
    evaluator = evaluation.Evaluator(task.model, task.eval_batches_fn(task.test), threads=2)
    with _engine(contender, task, flags.server_learning_rate) as engine:
        state = engine.initialize()
        cohort_fn = _cohort_fn(contender, task, seed, flags.spread)
        update = 0
        while reports < flags.reports and not (curve and curve[-1]["accuracy"] >= flags.accuracy[-1]):
            update += 1
            cohort = cohort_fn(update, 0, seconds)
            state = engine.run_round(state, cohort.arguments).state
            seconds, before, reports = seconds + cohort.seconds, reports, reports + len(cohort.reported)
            if reports // _REPORTS_PER_EVALUATION > before // _REPORTS_PER_EVALUATION:
                figures = evaluator.metrics(engine.model_weights(state), task.test.client_ids)
                point = {"seconds": seconds, "updates": update, "reports": reports, "accuracy": figures["accuracy"]}
                curve.append(point)
    best = max((p["accuracy"] for p in curve), default=0.0)
    took = time.monotonic() - started
    print(
        f"seed {seed}, {contender.name}: {best:.3f} after {reports} reports, {seconds:,.0f} simulated s, {took:.0f} s",
        file=sys.stderr,
    )
    return curve


def first_to(curve: list[dict], accuracy: float, field: str = "seconds") -> float | None:
    """When a curve first has an accuracy; None: never."""
    return next((point[field] for point in curve if point["accuracy"] >= accuracy), None)


def tell(runs: dict[str, list[list[dict]]], accuracies: list[float]) -> str:
    """A table for the times to each accuracy: a row a contender, medians with ranges."""
    first = next(iter(runs))
    header, columns = ["contender"], []
    for accuracy in accuracies:
        header += [f"simulated s to {accuracy:.0%}", "synchronous takes x times", "reports"]
        times = {name: [first_to(curve, accuracy) for curve in curves] for name, curves in runs.items()}
        columns += [
            {name: _told(times[name], digits=0) for name in runs},
            {name: report.spread(report.paired_ratios(times[first], times[name])) for name in runs},
            {name: _told([first_to(c, accuracy, "reports") for c in runs[name]], digits=0) for name in runs},
        ]
    return report.table(header, [[name, *(column[name] for column in columns)] for name in runs])


def _told(values, digits):
    missing = sum(v is None for v in values)
    return report.spread(values, digits) + (f", {missing} never" if missing else "")


def _task(cache_dir, seed):
    return tasks.create_task(
        "image_classification",
        datasets.DataSpec(
            "digits",
            num_clients=100,
            partition="dirichlet",
            dirichlet_alpha=0.5,
            test_fraction=0.2,
            cache_dir=cache_dir,
            seed=seed,
        ),
        tasks.ModelSpec(architecture="vit", config=_MODEL),
        ClientConfig(batch_size=8, epochs=3),
        seed=seed,
        progress=False,
    )


def _engine(contender, task, server_learning_rate):
    options = algorithms.Options(
        client_optimizer_fn=lambda rate: algorithms.build_optimizer("adam", rate),
        server_optimizer=algorithms.build_optimizer("sgd", server_learning_rate),
        client_learning_rate=3e-3,
        weighted=False,
    )
    process = task.process(algorithms.build_fed_avg(task.model, options))
    if contender.staleness_exponent is None:
        return runtime.LocalEngine(process)
    return runtime.LocalEngine(process, hooks=[runtime.Staleness(_MAX_STALENESS, contender.staleness_exponent)])


def _cohort_fn(contender, task, seed, spread):
    ids = task.train.client_ids
    num_examples = {c: task.local.num_examples(n) for c, n in task.train.sizes().items()}
    devices = Devices(
        seconds_per_example=_SECONDS_PER_EXAMPLE,
        speed_spread=spread,
        over_selection=contender.over_selection,
        seed=seed,
    )

    def arguments(client_ids, round_num):
        return tasks.client_arguments(client_ids, seed, round_num)

    if contender.staleness_exponent is None:
        sample = cohorts.uniform(ids, _CONCURRENCY, seed)
        return participation.build_cohort_fn(
            sample, arguments, devices=devices, goal=contender.reports, num_examples=num_examples
        )
    schedule = asynchrony.AsyncSchedule(
        cohorts.uniform(ids, _CONCURRENCY + contender.reports - 1, seed),
        devices,
        concurrency=_CONCURRENCY,
        buffer_size=contender.reports,
        max_staleness=_MAX_STALENESS,
        num_examples=num_examples,
    )
    return asynchrony.build_cohort_fn(schedule, arguments)


if __name__ == "__main__":
    main()
