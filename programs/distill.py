"""Trains with ensemble distillation on the server: FedDF.

`python -m programs.distill --dataset=digits --validation_fraction=0.2` has the validation split as the server's public
data, whose labels it does not use. With several --group the clients have models of different architectures and sizes,
which learn from one another through their predictions. Everything a run leaves is in --run_dir, with several groups
each model in groups/NAME; the same command again resumes it.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time

import psutil
from absl import flags

from programs import cli, cohort_flags, data_flags, ensemble_flags, model_flags, training_flags
from tff_tx import algorithms, models, runtime, tasks
from tff_tx.algorithms.distillation import FedDFEngine, Group, deal
from tff_tx.cohorts import synchronous as participation
from tff_tx.core import files
from tff_tx.core.errors import UserError
from tff_tx.run import directory as run_directory
from tff_tx.run import evaluation, reporting, training

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "Where the run goes; default: runs/distill_ and the data set's name.")
flags.DEFINE_integer("seed", 1, "Decides everything random.", lower_bound=0)
flags.DEFINE_integer("rounds_per_evaluation", 10, "Rounds between evaluations; 0: never.", lower_bound=0)
flags.DEFINE_integer("eval_batch_size", 32, "Examples a batch in evaluation.", lower_bound=1)

_MAY_CHANGE_ON_RESUME = ("run_dir", "threads", "cache_dir", "flagfile", "rounds_per_checkpoint")


def main(_) -> int:
    """Checks the flags, trains, evaluates and writes the run directory."""
    started = time.monotonic()
    training_flags.check()
    cohort_flags.check()
    ensemble_flags.check()
    runtime.configure_tensorflow()
    run_dir = FLAGS.run_dir or os.path.join("runs", f"distill_{FLAGS.dataset}")
    found = _tasks()
    first = next(iter(found.values()))
    if first.validation is None:
        raise UserError("the data have no validation split, which the server distills on: raise --validation_fraction.")
    _check_memory(first)
    config = {name: _config(task, spec) for (name, task), (_, spec) in zip(found.items(), ensemble_flags.group_specs())}
    sample = cohort_flags.sampler(first.train.client_ids, first.train.sizes(), FLAGS.seed)
    files.make_directory(run_dir, "--run_dir")
    files.check_space(run_dir, _bytes_needed(found))
    whole = {**next(iter(config.values())), "groups": {name: c["task"]["model"] for name, c in config.items()}}
    whole["parameters"] = {
        part: sum(c["parameters"][part] for c in config.values()) for part in ("trainable", "non_trainable")
    }
    run_directory.write_config(run_dir, whole, _MAY_CHANGE_ON_RESUME)
    _say(found, run_dir)
    evaluators = {
        name: evaluation.Evaluator(task.model, task.eval_batches_fn(task.test), training_flags.threads())
        for name, task in found.items()
        if task.test is not None
    }
    with _engine(found) as engine:
        try:
            state = training.train(
                engine,
                run_dir,
                _schedule(),
                cohort_fn=_cohort_fn(first, sample, engine.traffic()),
                evaluate_fn=(lambda weights: _flat(_evaluate(found, evaluators, weights))) if evaluators else None,
            )
        except training.Interrupted as interruption:
            print(f"\n{interruption}; the same command resumes it.", file=sys.stderr)
            return 1
        weights = engine.model_weights(state)
    results = _evaluate(found, evaluators, weights)
    for name, task in found.items():
        task.model.assign(weights[name])
        directory = _model_run_dir(run_dir, name, len(found))
        if directory != run_dir:
            files.make_directory(directory, "--run_dir")
            files.write_json(os.path.join(directory, run_directory.CONFIG), config[name])
        run_directory.write_model(
            directory, lambda d, t=task: models.save_pretrained(t.model.keras_model, d, t.tokenizer)
        )
    told = {"test" if len(found) == 1 else f"test, {name}": figures for name, figures in results.items()}
    files.write_json(os.path.join(run_dir, "results.json"), told)
    reporting.write_report(run_dir, whole, told)
    for title, figures in told.items():
        print(f"{title}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
    print(f"Done in {time.monotonic() - started:.0f} s. Report, metrics and models: {run_dir}")
    return 0


def _tasks() -> dict[str, tasks.FederatedTask]:
    """By group, the same data with its model."""
    kind, data, local = model_flags.task_kind(), data_flags.data_spec(FLAGS.seed), training_flags.local_training()
    return {
        name: tasks.create_task(kind, data, spec, local, eval_batch_size=FLAGS.eval_batch_size, seed=FLAGS.seed)
        for name, spec in ensemble_flags.group_specs()
    }


def _config(task, spec):
    trainable, non_trainable = task.model.initial_weights
    return {
        "flags": cli.flag_values(),
        "seed": FLAGS.seed,
        "versions": run_directory.versions(),
        "task": {
            "kind": task.kind,
            "data": dataclasses.asdict(data_flags.with_absolute_paths(data_flags.data_spec(FLAGS.seed))),
            "model": dataclasses.asdict(spec),
            "label_names": task.label_names,
        },
        "clients": {"train": len(task.train.client_ids)},
        "parameters": {
            "trainable": sum(w.size for w in trainable),
            "non_trainable": sum(w.size for w in non_trainable),
        },
    }


def _engine(found):
    first = next(iter(found.values()))
    group_of = deal(first.train.client_ids, list(found), FLAGS.seed)

    def group(name, task):
        process = algorithms.ALGORITHMS[FLAGS.algorithm](task.model, training_flags.options(FLAGS.seed))
        return Group(task.model, training_flags.engine(task.process(process)))

    return FedDFEngine(
        {name: group(name, task) for name, task in found.items()},
        lambda client: group_of[client["client_id"].decode()],
        lambda round_num: first.public_batches(first.validation, FLAGS.seed, round_num, FLAGS.ensemble_batch_size),
        ensemble_flags.distillation(),
    )


def _cohort_fn(task, sample, traffic):
    return participation.build_cohort_fn(
        sample,
        lambda client_ids, round_num: tasks.client_arguments(client_ids, FLAGS.seed, round_num),
        devices=cohort_flags.devices(FLAGS.seed),
        goal=FLAGS.clients_per_round,
        limit=cohort_flags.asked(),
        num_examples={c: task.local.num_examples(n) for c, n in task.train.sizes().items()},
        bytes_per_client=traffic.download_bytes + traffic.upload_bytes,
    )


def _schedule():
    return training.Schedule(
        rounds=FLAGS.rounds,
        rounds_per_evaluation=FLAGS.rounds_per_evaluation,
        rounds_per_checkpoint=FLAGS.rounds_per_checkpoint,
        min_clients=FLAGS.min_clients,
        max_retries=0 if FLAGS.sampling == "fixed" else FLAGS.max_round_retries,
    )


def _evaluate(found, evaluators, weights):
    """By group, the metrics on the test data."""
    return {name: e.metrics(weights[name], found[name].test.client_ids) for name, e in evaluators.items()}


def _flat(by_group):
    if len(by_group) == 1:
        return next(iter(by_group.values()))
    return {f"{name}/{metric}": value for name, figures in by_group.items() for metric, value in figures.items()}


def _model_run_dir(run_dir, name, num_groups):
    return run_dir if num_groups == 1 else os.path.join(run_dir, "groups", name)


def _bytes_needed(found):
    """Two checkpoints, with as much again for optimizer and metrics, and two copies of the models."""
    weights = (w for task in found.values() for part in task.model.initial_weights for w in part)
    return 6 * sum(w.nbytes for w in weights) + 20_000_000


def _check_memory(task):
    """Refuses logits on public data, and sums of them, that do not fit the memory.

    Raises:
      UserError: If they do not.
    """
    config = task.model.keras_model.config
    classes = len(task.label_names) or config.vocab_size
    items = 1 if task.model.objective.label_spec.shape.rank == 1 else FLAGS.max_length
    batches = min(FLAGS.ensemble_steps, -(-sum(task.validation.sizes().values()) // FLAGS.ensemble_batch_size))
    needed = 3 * 4 * batches * FLAGS.ensemble_batch_size * items * classes
    free = psutil.virtual_memory().available
    if needed > free:
        raise UserError(
            f"--ensemble_steps={FLAGS.ensemble_steps} of --ensemble_batch_size={FLAGS.ensemble_batch_size} need "
            f"{needed / 1e9:.1f} GB for logits of {classes:,} classes, and {free / 1e9:.1f} GB are free: lower one of "
            "them, or --max_length."
        )


def _say(found, run_dir):
    first = next(iter(found.values()))
    told = ", ".join(f"{name} {sum(w.size for w in t.model.initial_weights[0]):,}" for name, t in found.items())
    print(
        f"{first.kind} on {FLAGS.dataset}: {len(first.train.client_ids)} train clients; trainable parameters: {told}; "
        f"{sum(first.validation.sizes().values()):,} public examples; {FLAGS.rounds} rounds of {FLAGS.algorithm} with "
        f"distillation into {run_dir}"
    )


if __name__ == "__main__":
    cli.run(main)
