"""The task of a configuration: its data, its model, and what a client computes of them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Callable

from tff_tx import datasets, models, runtime, tasks
from tff_tx.config import FIELDS, RunConfig, resolve
from tff_tx.config.task import ModelConfig
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting
from tff_tx.run.directory import StoredRun

PARTICIPANT = "participant"
"""What `config.json` in a participant's own directory calls its name."""


def data_spec(config: RunConfig) -> datasets.DataSpec:
    """The data."""
    return datasets.DataSpec.of(config)


def model_spec(config: RunConfig) -> tasks.ModelSpec:
    """The model, with what of it is trained."""
    model, lora = config.model, None
    if model.trainable == "lora":
        options = {name: getattr(config.lora, name) for name in ("alpha", "targets", "dropout", "freeze_a")}
        residual = config.lora.aggregation in ("residual", "stack")
        lora = models.Lora(ranks=config.lora.rank, residual=residual, seed=config.run.seed, **options)
    known = {field.name for field in dataclasses.fields(tasks.ModelSpec)}
    own = {f.name: config.get(f.path) for part in (model, config.task) for f in part.fields() if f.name in known}
    if model.revision is not None:
        own["pretrained"] = f"{model.pretrained}@{model.revision}"
    return tasks.ModelSpec(**own, lora=lora, frozen_dropout=not model.cache_features)


def load_task(
    config: RunConfig, on_silos: Callable[..., Mapping[str, Any]] | None = None, progress: bool = True
) -> tasks.FederatedTask:
    """Loads data and model of a resolved configuration; `on_silos` is as of `tasks.create_task`, for data in silos.

    Raises:
      UserError: If something cannot be loaded, or data and model do not fit.
    """
    runtime.configure_tensorflow()
    if on_silos is None and config.engine.name == "federation":
        on_silos = functools.partial(_here, config.data.silos)
    parts = (data_spec(config), model_spec(config), config.client)
    more = {"eval_batch_size": config.run.eval_batch_size, "seed": config.run.seed}
    return tasks.create_task(config.task.kind, *parts, **more, progress=progress, on_silos=on_silos)


def _here(silos, function, *arguments):
    """In a participant's directory, where the only silo is its own."""
    return {silo: function(silo, *arguments) for silo in silos}


def with_training(task: tasks.FederatedTask, config: RunConfig) -> tasks.FederatedTask:
    """A loaded task with the local training of a configuration."""
    return dataclasses.replace(task, local=config.client, eval_batch_size=config.run.eval_batch_size)


def stored_config(run: StoredRun, data: RunConfig | None = None) -> RunConfig:
    """The configuration that loads a run's trained model, for evaluation; with `data`, on the data of that.

    Raises:
      UserError: If the run has no model yet, or its data are in silos.
    """
    paths = [f"task.{name}" for name in ("balance_classes", "class_weights", "focal_gamma")]
    config = run.config.replace({path: FIELDS[path].default for path in paths})
    # What the directory has says the rest.
    stored = ModelConfig(pretrained=run.model, gradient_checkpointing=config.model.gradient_checkpointing)
    config = dataclasses.replace(config, model=stored)
    names = tuple(run.facts.get("label_names", ()))
    if data is not None:
        if not (data.data.label_names or data.data.label_file):
            data = data.replace({"data.label_names": names})
        return dataclasses.replace(config, data=data.data)
    if config.data.silos and PARTICIPANT not in run.facts:
        raise UserError(
            f"{setting('run.directory')}={run.directory} was trained on data of the silos "
            f"{', '.join(config.data.silos)}, which are read there only: evaluate on files of this machine, with "
            f"{setting('data.dataset')}=file and {setting('data.files')}."
        )
    return config


_READING = (
    *(
        "format",
        "on_bad_rows",
        "encoding",
        "delimiter",
        "columns",
        "client_column",
        "client_per_column",
        "time_column",
        "audio_column",
        "text_column",
        "label_column",
        "label_columns",
        "label_separator",
    ),
    *("target_column", "question_column", "context_column", "answer_column", "answer_start_column"),
    *("numeric_columns", "missing_numbers", "categorical_columns", "categories"),
)
_DIVIDING = ("borders", "validation_files", "validation_fraction", "test_fraction", "split")


def evaluated_data(config: RunConfig, given: Collection[str], run: StoredRun | None) -> tuple[RunConfig | None, bool]:
    """The data to evaluate on, and whether all of them are, as the split "train".

    They are files that are given without a word on what of them to hold out, unless the run's task needs the end of
    each client's records held out, or they have a test split; what is not said of their columns is as in the run.

    Args:
      config: Has the data.
      given: Paths of the settings of it that were given.
      run: Whose model is evaluated; None: a model of no run.

    Returns:
      None for data if none are given.
    """
    files = config.data.files or config.data.test_files
    if not files or config.data.dataset != FIELDS["data.dataset"].default and config.data.dataset != "file":
        return (config if "data.dataset" in given else None), False
    changes = {"data.dataset": "file", "data.files": files}
    if run is not None and run.config.data.dataset == "file":
        paths = {f"data.{name}" for name in _READING} - set(given)
        # Other columns may be joined otherwise.
        paths |= {"data.text_join"} - set(given) if "data.text_column" not in given else set()
        changes |= {path: run.config.get(path) for path in paths}
        if "data.client_column" in paths and not _has_clients(config.replace(changes)):
            changes["data.client_column"] = None
    is_whole = not {*(f"data.{name}" for name in _DIVIDING), "evaluate.split_name"} & set(given)
    is_whole = is_whole and not (config.data.files and config.data.test_files)
    if is_whole and run is not None and run.config.data.split == "time":
        return config.replace({**changes, "data.split": "time"}), False
    if is_whole:
        changes |= {"data.test_files": (), "data.test_fraction": 0.0, "data.validation_fraction": 0.0}
        is_whole = not _has_test_split(config.replace(changes))
    return config.replace(changes), is_whole


def evaluated(config: RunConfig, given: frozenset[str], model: StoredRun | str) -> tuple[RunConfig, bool]:
    """The configuration that evaluates a run's model, or one in a directory, and whether on all records of files.

    Args:
      config: As of `evaluated_data`, and `given` too.
      given: Paths of settings.
      model: The run, or the directory.
    """
    run = None if isinstance(model, str) else model
    data, is_whole = evaluated_data(config, given, run)
    if run is None:
        return resolve((data or config).replace({"model.pretrained": model})), is_whole
    kept = given & {"data.cache_dir", "engine.threads", "run.seed"}
    return stored_config(run, data).replace({path: config.get(path) for path in kept}), is_whole


def _has_test_split(config):
    """Whether files bring a test split of their own; also of those that cannot be read, see `_has_clients`."""
    try:
        return "test" in datasets.open_source(data_spec(config)).pools
    except UserError:
        return False


def _has_clients(config):
    """Whether files say who owns their examples; also of those that cannot be read, which is said later."""
    try:
        return "client" in datasets.open_source(data_spec(config)).columns()
    except UserError:
        return True


def facts(task: tasks.FederatedTask, clients: Mapping[str, Any]) -> dict[str, Any]:
    """What `config.json` says of a task, and of the clients of its splits, besides the settings."""
    trainable, non_trainable = (sum(w.size for w in part) for part in task.model.initial_weights)
    tokenizer = {} if task.tokenizer is None else {"tokenizer": datasets.tokenizer_fingerprint(task.tokenizer)}
    data = {f"{split} data": found.fingerprint for split, found in clients.items()}
    return {
        "fingerprints": {**data, **tokenizer, "model": task.model.fingerprint},
        "label_names": list(task.label_names),
        "clients": {split: len(found.client_ids) for split, found in clients.items()},
        "parameters": {"trainable": trainable, "non_trainable": non_trainable},
        "notes": list(task.notes),
    }


def splits(task: tasks.FederatedTask) -> dict[str, Any]:
    """The splits that a task has, by name."""
    found = {"train": task.train, "validation": task.validation, "test": task.test}
    return {name: clients for name, clients in found.items() if clients is not None}


def feature_cache(config: RunConfig, task: tasks.FederatedTask) -> tasks.FeatureCache | None:
    """The activation cache of a run; None without one.

    Raises:
      UserError: If nothing of the model can be cached, or a cohort does not fit.
    """
    if not config.model.cache_features:
        return None
    directory, budget = os.path.join(config.run.directory, FEATURES), config.model.feature_cache_bytes
    found = tasks.FeatureCache(task, directory, budget, config.engine.num_threads)
    expected = config.cohort.clients_per_round * found.mean_bytes()
    if expected > budget:
        raise UserError(
            f"{setting('model.feature_cache_bytes')}={budget} is less than the {expected:,.0f} bytes that the "
            f"activations of {setting('cohort.clients_per_round')}={config.cohort.clients_per_round} clients take: "
            f"raise it, lower that, or train without {setting('model.cache_features')}."
        )
    return found


FEATURES = "features"
"""The directory of the activation cache in a run's."""
_EVALUATION_SHARE = 0.5
"""Of the cache's budget: more of it would leave too little for training clients."""


def fits(cache: tasks.FeatureCache | None, budget: int, clients: Mapping[str, Sequence[str]]) -> bool:
    """Whether there is a cache, and activations of clients, by split, leave training clients enough of its bytes."""
    if cache is None:
        return False
    sizes = itertools.accumulate(cache.bytes_of_client(c, s) for s, ids in clients.items() for c in ids)
    return all(total <= _EVALUATION_SHARE * budget for total in sizes)


def describe_padding(config: RunConfig, task: tasks.FederatedTask) -> list[str]:
    """What batches of similar length save, in a line, by the first round's batches of a few clients."""
    if not config.client.bucket_by_length or config.data.silos:
        return []
    clients = tasks.client_arguments(task.train.client_ids[:10], config.run.seed, 1)
    share = task.padding_share(clients)
    if share is None:
        return []
    plain = dataclasses.replace(task, local=dataclasses.replace(task.local, bucket_by_length=False))
    return [f"padding: {share:.1%} of tokens in clients' batches, {plain.padding_share(clients):.1%} without bucketing"]


@contextlib.contextmanager
def on_features(run: StoredRun, task: tasks.FederatedTask, names: Sequence[str]) -> Iterator[tasks.FederatedTask]:
    """The task with activations for inputs, as the run was trained, where models are trained in an evaluation.

    The activations that the run has are taken from a copy, or links to them, as files of a cache are replaced and never
    changed; the others are computed. Without a cache, or if those of these splits take too much of its budget, it is
    the task itself.

    Args:
      run: Whose settings say whether and how much.
      task: Whose model has the run's frozen weights, and was made with `frozen_dropout=False`.
      names: The splits that are read.
    """
    if not run.config.model.cache_features:
        yield task
        return
    budget, stored = run.config.model.feature_cache_bytes, os.path.join(run.directory, FEATURES)
    with tempfile.TemporaryDirectory() as directory:
        cache = tasks.FeatureCache(task, directory, budget, run.config.engine.num_threads)
        clients = {name: getattr(task, name).client_ids for name in dict.fromkeys(names)}
        if not fits(cache, budget, clients):
            yield task
            return
        if os.path.isdir(stored):
            files.link_directory(stored, directory)
        for name, client_ids in clients.items():
            cache.prepare(client_ids, name)
        yield cache.task
