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

from programs import (
    aggregation_flags,
    async_flags,
    attack_flags,
    canary_flags,
    cli,
    cluster_flags,
    cohort_flags,
    compression_flags,
    data_flags,
    distillation_flags,
    dp_flags,
    feature_flags,
    local_dp_flags,
    model_flags,
    private_run,
    trainable_flags,
    training_flags,
)
from tff_tx import models, runtime, tasks
from tff_tx.analysis import contribution
from tff_tx.cohorts import buffered as asynchrony
from tff_tx.cohorts import synchronous as participation
from tff_tx.core import files
from tff_tx.core.errors import UserError
from tff_tx.run import directory as run_directory
from tff_tx.run import reporting, training

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "Where the run goes; default: runs/ and the data set's name.")
flags.DEFINE_integer("seed", 1, "Decides everything random.", lower_bound=0)
flags.DEFINE_integer("rounds_per_evaluation", 10, "Rounds between evaluations; 0: never.", lower_bound=0)
flags.DEFINE_integer(
    "eval_clients", 50, "Held-out clients of the evaluations during training; all at the end.", lower_bound=1
)
flags.DEFINE_integer("eval_batch_size", 32, "Examples a batch in evaluation.", lower_bound=1)

flags.DEFINE_boolean("profile", False, "Writes a trace of the second round, which TensorBoard shows.")
flags.DEFINE_boolean(
    "keep_updates",
    False,
    "Stores what each client of each round contributes in updates/, for programs.contribution. Says how much that is, "
    "and refuses where the disk has no room.",
)

_MEASURED = 10
"""Of how many clients padding is told."""

_MAY_CHANGE_ON_RESUME = (
    *("run_dir", "threads", "cache_dir", "flagfile", "rounds_per_checkpoint", "profile"),
    *cluster_flags.MAY_CHANGE_ON_RESUME,
    *feature_flags.MAY_CHANGE_ON_RESUME,
)


def main(_) -> int:
    """Checks the flags and trains, on a cluster if they say so."""
    training_flags.check()
    trainable_flags.check()
    feature_flags.check()
    cohort_flags.check()
    async_flags.check()
    aggregation_flags.check()
    compression_flags.check()
    attack_flags.check()
    dp_flags.check()
    canary_flags.check(model_flags.task_kind())
    _check_standardize()
    _check_keep_updates()
    cluster_flags.check()
    runtime.configure_tensorflow()
    with cluster_flags.cluster() as cluster:
        return _train(cluster)


def _train(cluster) -> int:
    """Trains, evaluates and writes the run directory."""
    started = time.monotonic()
    run_dir = FLAGS.run_dir or os.path.join("runs", FLAGS.dataset)
    task, config = _task(cluster)
    aggregation_flags.check_memory(sum(w.size for w in task.model.initial_weights[0]))
    task, canaries = canary_flags.insert(task, FLAGS.seed)
    attack = attack_flags.attack(task)
    cache = feature_flags.cache(task, run_dir)
    trained = task if cache is None else cache.task
    sample = async_flags.sampler(task.train.client_ids, task.train.sizes(), FLAGS.seed)
    private = private_run.plan(len(task.train.client_ids), config["parameters"]["trainable"])
    if private:
        config["privacy"] = private.config()
    accounts = local_dp_flags.accounts(task.train.sizes().values(), task.local)
    config["privacy_inside_of_clients"] = accounts.config()
    options = training_flags.options(
        FLAGS.seed, **aggregation_flags.options(FLAGS.seed), **attack_flags.options(attack)
    )
    if private:
        options = private.options(options, FLAGS.seed)
    process = trainable_flags.build_process(trained.model, options)
    files.make_directory(run_dir, "--run_dir")
    kept = _kept_bytes(process) if FLAGS.keep_updates else 0
    features = feature_flags.bytes_kept(cache)
    files.check_space(run_dir, _bytes_needed(task) + kept + features)
    run_directory.write_config(run_dir, config, _MAY_CHANGE_ON_RESUME)
    canary_flags.record(run_dir, canaries, task, FLAGS.seed)
    process = attack_flags.process(trained, process, attack, run_dir, FLAGS.seed)
    _say(task, run_dir)
    _say_padding(task)
    if private:
        print(private.told())
    if kept:
        print(f"--keep_updates stores up to {kept / 1e6:,.0f} MB in {os.path.join(run_dir, contribution.UPDATES)}")
    if cache is not None:
        print(f"--cache_features keeps up to {features / 1e6:,.0f} MB in {os.path.join(run_dir, 'features')}")
    evaluators = _evaluators(task, attack)
    with async_flags.engine(process, run_dir, cluster, task.costs()) as engine:
        try:
            state = training.train(
                engine,
                run_dir,
                _schedule(private),
                cohort_fn=_cohort_fn(task, sample, engine.traffic()),
                evaluate_fn=_evaluation(task, evaluators, cache),
                figures_fn=lambda round_num: {
                    **accounts.figures(round_num),
                    **(private.figures(round_num) if private else {}),
                },
                profiled=FLAGS.profile,
                keep=contribution.UpdateStore(run_dir) if FLAGS.keep_updates else None,
                prepare_fn=None if cache is None else lambda ids, tell: cache.prepare(ids, on_progress=tell),
            )
        except training.Interrupted as interruption:
            print(f"\n{interruption}; the same command resumes it.", file=sys.stderr)
            return 1
        weights = engine.model_weights(state)
    results = {
        split: evaluator.metrics(weights, getattr(task, split).client_ids, show_progress=True)
        for split, evaluator in evaluators.items()
    }
    _write_adapter(task, run_dir, weights)
    task.model.assign(weights)
    run_directory.write_model(run_dir, lambda d: models.save_pretrained(task.model.keras_model, d, task.tokenizer))
    files.write_json(os.path.join(run_dir, "results.json"), results)
    reporting.write_report(run_dir, config, results, task.metrics, private.statement() if private else None)
    for title, text in accounts.statements(FLAGS.rounds).items():
        reporting.write_section(run_dir, title, text)
    for split, figures in results.items():
        print(f"{split}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
    print(f"Done in {time.monotonic() - started:.0f} s. Report, metrics and model: {run_dir}")
    return 0


def _task(cluster):
    kind, model = model_flags.task_kind(), trainable_flags.model_spec(model_flags.model_spec())
    data = dataclasses.replace(data_flags.data_spec(FLAGS.seed), silos=tuple(FLAGS.silos))
    local = training_flags.local_training()
    task = tasks.create_task(
        kind,
        data,
        model,
        local,
        eval_batch_size=FLAGS.eval_batch_size,
        seed=FLAGS.seed,
        on_silos=cluster_flags.on_silos(cluster),
    )
    trainable, non_trainable = task.model.initial_weights
    config = {
        "flags": cli.flag_values(),
        "seed": FLAGS.seed,
        "versions": run_directory.versions(),
        "task": {
            "kind": kind,
            "data": dataclasses.asdict(data_flags.with_absolute_paths(data)),
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


def _write_adapter(task, run_dir, weights):
    """Writes the adapters apart, where PEFT has a format for them; in model/ they are merged."""
    if task.model.lora is None:
        return
    try:
        models.check_adapter_format(task.model)
    except UserError as error:
        print(f"The adapters are in the model only: {error}", file=sys.stderr)
        return
    files.write_directory(run_dir, "adapter", lambda d: models.save_adapter(task.model, weights, d, FLAGS.pretrained))


def _bytes_needed(task):
    """Two checkpoints, with as much again for optimizer and metrics, and two copies of the model."""
    trainable, non_trainable = (sum(w.nbytes for w in part) for part in task.model.initial_weights)
    residuals = compression_flags.residual_bytes(
        trainable, len(task.train.client_ids), _cohort_size(), FLAGS.rounds_per_checkpoint
    )
    kept = sum(room.kept_bytes(trainable) for room in (async_flags, distillation_flags, dp_flags))
    return 6 * (trainable + non_trainable) + 3 * kept + residuals + 20_000_000


def _cohort_size():
    """Of the largest cohort there may be; of those of random size hardly any is larger."""
    return cohort_flags.asked() or 2 * FLAGS.clients_per_round


def _kept_bytes(process):
    updates = 2 if FLAGS.algorithm == "mime_lite" else 1
    return contribution.bytes_of_run(process, FLAGS.rounds, _cohort_size(), updates)


def _check_keep_updates():
    if FLAGS.keep_updates and dp_flags.enabled():
        raise UserError(
            f"--keep_updates stores what every client sends, which --dp_mechanism={FLAGS.dp_mechanism} is there to "
            "hide: drop one of them."
        )
    if FLAGS.keep_updates and (FLAGS.engine != "local" or async_flags.enabled()):
        named = f"--buffer_size={FLAGS.buffer_size}" if async_flags.enabled() else f"--engine={FLAGS.engine}"
        raise UserError(f"--keep_updates needs synchronous rounds on --engine=local, and {named} is given: drop one.")


def _check_standardize():
    private = dp_flags.enabled() or FLAGS.local_dp_clip is not None or FLAGS.example_clip is not None
    if private and FLAGS.standardize and "silos" not in tasks.task_kind(model_flags.task_kind()).capabilities:
        raise UserError(
            "--standardize adds up exact sums over the clients' columns, which no noise hides: scale the columns by "
            "what is publicly known of them and set --nostandardize."
        )


def _say(task, run_dir):
    trainable, _ = task.model.initial_weights
    sizes = {split: len(clients.client_ids) for split, clients in _splits(task).items()}
    told = ", ".join(f"{n} {split}" for split, n in sizes.items())
    print(
        f"{task.kind} on {FLAGS.dataset}: {told} clients; {sum(w.size for w in trainable):,} trainable "
        f"parameters; {FLAGS.rounds} rounds of {FLAGS.algorithm} into {run_dir}"
    )


def _say_padding(task):
    """Says what --bucket_by_length saves, by the first round's batches of a few clients whose data are here."""
    if not FLAGS.bucket_by_length or FLAGS.silos:
        return
    clients = tasks.client_arguments(task.train.client_ids[:_MEASURED], FLAGS.seed, 1)
    share = task.padding_share(clients)
    if share is None:
        return
    plain = dataclasses.replace(task, local=dataclasses.replace(task.local, bucket_by_length=False))
    print(f"padding: {share:.1%} of tokens in clients' batches, {plain.padding_share(clients):.1%} without bucketing")


def _splits(task):
    found = {"train": task.train, "validation": task.validation, "test": task.test}
    return {name: clients for name, clients in found.items() if clients is not None}


def _schedule(private):
    once = private or FLAGS.sampling == "fixed" or async_flags.enabled()
    return training.Schedule(
        rounds=private.rounds if private else FLAGS.rounds,
        rounds_per_evaluation=FLAGS.rounds_per_evaluation,
        rounds_per_checkpoint=FLAGS.rounds_per_checkpoint,
        min_clients=0 if private else FLAGS.min_clients,
        max_retries=0 if once else FLAGS.max_round_retries,
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


def _evaluators(task, attack):
    return {
        split: attack_flags.evaluator(task, clients, attack, training_flags.threads())
        for split, clients in _splits(task).items()
        if split != "train"
    }


def _evaluation(task, evaluators, cache):
    """Evaluates on the same held-out clients each time, where they are kept by their features; None: there are none."""
    if not evaluators:
        return None
    split = "validation" if "validation" in evaluators else "test"
    client_ids = getattr(task, split).client_ids
    sample = tff.simulation.build_uniform_sampling_fn(client_ids, random_seed=FLAGS.seed)
    some = sample(0, min(FLAGS.eval_clients, len(client_ids)))
    by_features = feature_flags.evaluation(cache, split, some)
    return by_features or (lambda weights: evaluators[split].metrics(weights, some))


if __name__ == "__main__":
    cli.run(main)
