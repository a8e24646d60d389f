"""Trains a Transformer federatedly: `python -m programs.train --flagfile=programs/flags/digits.flags`.

Without flags it trains a small byte-level language model on the sources of Python's standard
library, a module a client. Everything a run leaves is in --run_dir; the same command again resumes
it.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time

import tensorflow_federated as tff
from absl import flags

from programs import async_flags, cli, cohort_flags, data_flags, model_flags, training_flags
from tff_tx import (
    algorithms,
    asynchrony,
    evaluation,
    models,
    participation,
    reporting,
    run_directory,
    runtime,
    tasks,
    training,
)

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "Where the run goes; default: runs/ and the data set's name.")
flags.DEFINE_integer("seed", 1, "Decides everything random.", lower_bound=0)
flags.DEFINE_integer("rounds_per_evaluation", 10, "Rounds between evaluations; 0: never.", lower_bound=0)
flags.DEFINE_integer("rounds_per_checkpoint", 10, "Rounds between checkpoints.", lower_bound=1)
flags.DEFINE_integer(
    "eval_clients", 50, "Held-out clients of the evaluations during training; all at the end.", lower_bound=1
)
flags.DEFINE_integer("eval_batch_size", 32, "Examples a batch in evaluation.", lower_bound=1)

flags.DEFINE_boolean("profile", False, "Writes a trace of the second round, which TensorBoard shows.")

_MAY_CHANGE_ON_RESUME = ("run_dir", "threads", "cache_dir", "flagfile", "rounds_per_checkpoint", "profile")


def main(_) -> int:
    """Trains, evaluates and writes the run directory."""
    started = time.monotonic()
    training_flags.check()
    cohort_flags.check()
    async_flags.check()
    runtime.configure_tensorflow()
    run_dir = FLAGS.run_dir or os.path.join("runs", FLAGS.dataset)
    task, config = _task()
    sample = async_flags.sampler(task.train.client_ids, task.train.sizes(), FLAGS.seed)
    run_directory.make_directory(run_dir, "--run_dir")
    run_directory.check_space(run_dir, _bytes_needed(task))
    run_directory.write_config(run_dir, config, _MAY_CHANGE_ON_RESUME)
    _say(task, run_dir)
    process = task.process(algorithms.ALGORITHMS[FLAGS.algorithm](task.model, training_flags.options()))
    evaluators = _evaluators(task)
    with async_flags.engine(process) as engine:
        try:
            state = training.train(
                engine,
                run_dir,
                _schedule(),
                cohort_fn=_cohort_fn(task, sample, engine.traffic()),
                evaluate_fn=_evaluation(task, evaluators),
                profiled=FLAGS.profile,
            )
        except training.Interrupted as interruption:
            print(f"\n{interruption}; the same command resumes it.", file=sys.stderr)
            return 1
        weights = engine.model_weights(state)
    results = {
        split: evaluator.metrics(weights, getattr(task, split).client_ids) for split, evaluator in evaluators.items()
    }
    task.model.assign(weights)
    run_directory.write_model(run_dir, lambda d: models.save_pretrained(task.model.keras_model, d, task.tokenizer))
    run_directory.write_json(os.path.join(run_dir, "results.json"), results)
    reporting.write_report(run_dir, config, results)
    for split, figures in results.items():
        print(f"{split}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
    print(f"Done in {time.monotonic() - started:.0f} s. Report, metrics and model: {run_dir}")
    return 0


def _task():
    kind, model = model_flags.task_kind(), model_flags.model_spec()
    data = data_flags.data_spec(FLAGS.seed)
    local = training_flags.local_training()
    task = tasks.create_task(kind, data, model, local, eval_batch_size=FLAGS.eval_batch_size, seed=FLAGS.seed)
    trainable, non_trainable = task.model.initial_weights
    config = {
        "flags": _flag_values(),
        "seed": FLAGS.seed,
        "versions": run_directory.versions(),
        "task": {
            "kind": kind,
            "data": dataclasses.asdict(_absolute(data)),
            "model": dataclasses.asdict(model),
            "label_names": task.label_names,
        },
        "clients": {split: len(clients.client_ids) for split, clients in _splits(task).items()},
        "parameters": {
            "trainable": sum(w.size for w in trainable),
            "non_trainable": sum(w.size for w in non_trainable),
        },
    }
    return task, config


def _absolute(data):
    paths = {
        name: tuple(os.path.abspath(f) for f in getattr(data, name))
        for name in ("files", "validation_files", "test_files")
    }
    return dataclasses.replace(data, **paths)


def _flag_values():
    """The values of this project's flags."""
    ours = [m for m in FLAGS.flags_by_module_dict() if m.startswith("programs") or m == sys.argv[0]]
    by_module = FLAGS.flags_by_module_dict()
    return {f.name: f.value for m in ours for f in by_module[m]}


def _bytes_needed(task):
    """Two checkpoints, with as much again for optimizer and metrics, and two copies of the model."""
    trainable, non_trainable = (sum(w.nbytes for w in part) for part in task.model.initial_weights)
    return 6 * (trainable + non_trainable) + 3 * async_flags.kept_bytes(trainable) + 20_000_000


def _say(task, run_dir):
    trainable, _ = task.model.initial_weights
    sizes = {split: len(clients.client_ids) for split, clients in _splits(task).items()}
    told = ", ".join(f"{n} {split}" for split, n in sizes.items())
    print(
        f"{task.kind} on {FLAGS.dataset}: {told} clients; {sum(w.size for w in trainable):,} trainable "
        f"parameters; {FLAGS.rounds} rounds of {FLAGS.algorithm} into {run_dir}"
    )


def _splits(task):
    found = {"train": task.train, "validation": task.validation, "test": task.test}
    return {name: clients for name, clients in found.items() if clients is not None}


def _schedule():
    return training.Schedule(
        rounds=FLAGS.rounds,
        rounds_per_evaluation=FLAGS.rounds_per_evaluation,
        rounds_per_checkpoint=FLAGS.rounds_per_checkpoint,
        min_clients=FLAGS.min_clients,
        max_retries=0 if FLAGS.sampling == "fixed" or async_flags.enabled() else FLAGS.max_round_retries,
    )


def _cohort_fn(task, sample, traffic):
    num_examples = {c: task.local.num_examples(n) for c, n in task.train.sizes().items()}
    bytes_per_client = traffic.download_bytes + traffic.upload_bytes

    def arguments(client_ids, round_num):
        return tasks.client_arguments(client_ids, FLAGS.seed, round_num)

    if async_flags.enabled():
        timeline = async_flags.timeline(sample, num_examples, bytes_per_client, FLAGS.seed)
        return asynchrony.build_cohort_fn(timeline, arguments)
    return participation.build_cohort_fn(
        sample,
        arguments,
        devices=cohort_flags.devices(FLAGS.seed),
        goal=FLAGS.clients_per_round,
        limit=cohort_flags.asked(),
        num_examples=num_examples,
        bytes_per_client=bytes_per_client,
    )


def _evaluators(task):
    return {
        split: evaluation.Evaluator(task.model, task.eval_batches_fn(clients), training_flags.threads())
        for split, clients in _splits(task).items()
        if split != "train"
    }


def _evaluation(task, evaluators):
    """Evaluates on the same held-out clients each time; None where there are none."""
    if not evaluators:
        return None
    split = "validation" if "validation" in evaluators else "test"
    client_ids = getattr(task, split).client_ids
    sample = tff.simulation.build_uniform_sampling_fn(client_ids, random_seed=FLAGS.seed)
    some = sample(0, min(FLAGS.eval_clients, len(client_ids)))
    return lambda weights: evaluators[split].metrics(weights, some)


if __name__ == "__main__":
    cli.run(main)
