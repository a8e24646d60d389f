"""Models of clients' own at evaluation: with the weights that their work has left, or made of the global model."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any, Callable

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx import datasets, models, tasks
from tff_tx.config import RunConfig
from tff_tx.config.capability_rules import STORED
from tff_tx.config.registries import ALGORITHMS
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting
from tff_tx.run import clusters, fine_tuning, instance_weights, knn_per
from tff_tx.run.assemble import own_adapters, personal
from tff_tx.run.assemble.processes import build_options
from tff_tx.run.assemble.tasks import PARTICIPANT, load_task, splits, stored_config
from tff_tx.run.client_loss import ClientLoss
from tff_tx.run.directory import StoredRun
from tff_tx.run.pooled_features import PooledFeatures

ModelWeights = tff.learning.models.ModelWeights
CLUSTERS = "clusters"
"""The directory of the models, in a run that has several."""
TRAINED = "trained"
"""What `config.json` calls the names of all weights that a client trains."""


@dataclasses.dataclass(frozen=True)
class _OfSilo:
    """An `own_fn` for held-out rows of a silo, whose clients have no silo in their ids."""

    own_fn: Any
    silo: str
    is_pure = False

    def __call__(self, weights: list, client_id: str) -> list:
        return self.own_fn(weights, datasets.id_in_silo(self.silo, client_id))

    def notes(self, client_ids: Sequence[str]) -> list[str]:
        """Those of the `own_fn`."""
        return self.own_fn.notes([datasets.id_in_silo(self.silo, client_id) for client_id in client_ids])


def _of_participant(config, found, split, participant):
    """What clients have retained, by the ids of a split; None: of no participant."""
    if participant is None or split == "train" or not STORED.holds(config):
        return found
    own_fn, clients = found
    return _OfSilo(own_fn, participant), clients


def in_training(
    config: RunConfig, task: tasks.FederatedTask, split: str, participant: str | None = None
) -> tuple[Callable | None, Any]:
    """Of a run that is trained: the `own_fn` of an `Evaluator`, and the ClientData that a split is evaluated on.

    `own_fn` is None where clients have no models of their own. Where these are made for evaluation, clients that are
    held out are evaluated on the records that theirs are not made from. `participant`: of a federation, whose they are.
    """
    return _of_participant(config, _in_training(config, task, split), split, participant)


def _in_training(config, task, split):
    record = ALGORITHMS[config.algorithm.name]
    if record.own_model == "chosen":
        num_trainable = len(task.model.initial_weights[0])

        def models_fn(weights):
            parts = tuple(weights[:num_trainable]), tuple(weights[num_trainable:])
            return [[*w.trainable, *w.non_trainable] for w in record.models(ModelWeights(*parts))]

        return _choosing(task, split, models_fn)
    if config.model.personal is None and record.own_weights is None:
        return None, getattr(task, split)
    if record.adds_adapters:
        source, clients = _adapters_source(config, task, task, split, task.model.initial_weights[1])
        return own_adapters.AddedAdapters(source, _dual(config, task)), clients
    return _own_models(config, task, split, task.model.personal_names, task.model.trained_names)


def splits_read(config: RunConfig, task: tasks.FederatedTask, split: str) -> tuple[str, ...]:
    """Names of the splits whose records an evaluation by `in_training` reads: also of those it makes models from."""
    record = ALGORITHMS[config.algorithm.name]
    has_own = config.model.personal is not None or record.own_weights is not None
    is_made = record.own_model == "chosen" or (has_own and record.is_stateless)
    return ("train", split) if is_made and fine_tuning.parts(task, split)[0] is task.train else (split,)


def after_training(run: StoredRun, config: RunConfig, task: tasks.FederatedTask, split: str) -> tuple[Any, Any]:
    """As `in_training`, of a trained run, whose model was loaded for `task` by `config`."""
    return _of_participant(run.config, _after_training(run, config, task, split), split, run.facts.get(PARTICIPANT))


def _after_training(run, config, task, split):
    if run.config.algorithm.num_models > 1:
        found = [_loaded(task, os.path.join(run.directory, CLUSTERS, str(k))) for k in range(config.algorithm.clusters)]
        return _choosing(task, split, lambda weights: found)
    names = run.facts.get(personal.PERSONAL)
    if not names and ALGORITHMS[config.algorithm.name].own_weights is None:
        return None, getattr(task, split)
    personal.check_stored(run.directory)
    found = config.replace({"run.directory": run.directory, "client.learning_rate": run.config.client_learning_rate})
    if own_adapters.ADAPTERS in run.facts:
        return _own_adapters(found, task, split, run.facts[own_adapters.ADAPTERS])
    return _own_models(found, task, split, names, run.facts.get(TRAINED, ()))


def _own_adapters(config, task, split, places):
    """As `after_training`, of a run with adapters of clients' own, by where these are among its weights."""
    record, shared = ALGORITHMS[config.algorithm.name], own_adapters.load(config.run.directory)
    adapted = others = None
    if record.adds_adapters and record.is_stateless:
        model = dataclasses.replace(config.model, trainable="lora")
        adapted = load_task(dataclasses.replace(config, model=model), progress=False)
        others = own_adapters.unmerged(adapted.model, shared)
    source, clients = _adapters_source(config, task, adapted, split, others)
    share = config.algorithm.mixing if record.adds_adapters else 1.0
    return own_adapters.OwnAdapters.of(source, task.model, places, shared, share), clients


def _adapters_source(config, task, adapted, split, others):
    """Where clients' own adapters come from, and the ClientData that a split is evaluated on.

    Where they are made, `adapted` is the task of a model with adapters, of which `others` are not trained.
    """
    record = ALGORITHMS[config.algorithm.name]
    if not record.is_stateless:
        return personal.stored_weights(config.run.directory, (), record.own_weights), getattr(task, split)
    records, evaluated = fine_tuning.parts(task, split)
    batches_fn = fine_tuning.batches_fn(adapted, records, config.run.seed, config.algorithm.personal_epochs)
    dual, optimizer = _dual(config, adapted), build_options(config, adapted.model).client_optimizer
    return own_adapters.TunedAdapters(fine_tuning.FineTuning(dual, batches_fn, optimizer), tuple(others)), evaluated


def _dual(config, task):
    return models.DualAdapters(task.model, config.algorithm.mixing)


def _choosing(task, split, models_fn):
    records, evaluated = fine_tuning.parts(task, split)
    return clusters.Chosen(task.model, task.eval_batches_fn(records), models_fn), evaluated


def _loaded(task, directory):
    """All weights of a stored model of the task, in the order of the task's own."""
    stored = models.by_name(models.from_pretrained(task.definition.auto_class, directory))
    flat: list = [None] * sum(map(len, task.model.initial_weights))
    for name, position in zip(stored, task.model.positions(list(stored))):
        flat[position] = tf.convert_to_tensor(stored[name])
    return flat


def save_clusters(task: tasks.FederatedTask, weights: Sequence[Any], run_dir: str) -> None:
    """Writes the models of a run that has several, as `save_pretrained` does, into `clusters/` by number."""
    for k, one in enumerate(weights):
        task.model.assign(one)
        parent = os.path.join(run_dir, CLUSTERS)
        os.makedirs(parent, exist_ok=True)
        save = functools.partial(models.save_pretrained, task.model.keras_model)
        files.write_directory(parent, str(k), lambda d, save=save: save(d, task.tokenizer, task.processor))


def client_model(run: StoredRun, client_id: str, asked: str, similar_examples: int = 0) -> Any:
    """The Keras model of a client of a trained run: that which it is evaluated with.

    A client whose work has left nothing has the weights that clients begin with.

    Args:
      run: The run.
      client_id: The client, of any split.
      asked: Path of the setting that names it, for errors.
      similar_examples: S of `instance_weights`; with more than 0 it is an `InstancePredictor`.

    Raises:
      UserError: If the run has no personal weights, or no such client.
    """
    what = f"{setting(asked)}={client_id}"
    if run.facts.get(personal.PERSONAL) is None and not ALGORITHMS[run.config.algorithm.name].has_own_models:
        raise UserError(
            f"{what}: the clients of {run.directory} have no models of their own; train with "
            f"{setting('model.personal')} or an algorithm that gives them some, or remove it."
        )
    config = stored_config(run)
    task = load_task(config, progress=False)
    split = next((name for name, clients in splits(task).items() if client_id in clients.client_ids), None)
    if split is None:
        raise UserError(
            f"{what}: {run.directory} has no such client; name one of {', '.join(task.train.client_ids[:3])} ..."
        )
    if similar_examples:
        task, own_fn = build_instances(config, run, split, similar_examples, "predict.similar_examples")
    else:
        own_fn, _ = after_training(run, config, task, split)
    trainable, others = task.model.initial_weights
    weights = own_fn([tf.convert_to_tensor(w) for w in (*trainable, *others)], client_id)
    if similar_examples:
        return instance_weights.InstancePredictor(task.model, weights)
    parts = weights[: len(trainable)], weights[len(trainable) :]
    task.model.assign(ModelWeights(*parts))
    return task.model.keras_model


def _own_models(config, task, split, personal_names, trained_names):
    record = ALGORITHMS[config.algorithm.name]
    if not record.is_stateless:
        if task.model.lora is not None and record.own_weights is not None:
            positions = range(len(task.model.initial_weights[0]))
        else:
            positions = task.model.positions(personal_names if record.own_weights is None else trained_names)
        return personal.stored_weights(config.run.directory, positions, record.own_weights), getattr(task, split)
    records, evaluated = fine_tuning.parts(task, split)
    names = personal_names if record.own_model == "rebuilt" else trained_names
    return build_tuning(config, task, records, config.algorithm.personal_epochs, names), evaluated


def build_tuning(
    config: RunConfig,
    task: tasks.FederatedTask,
    records: Any,
    epochs: int,
    names: Sequence[str] | None = None,
    begin_fn: Callable[[list, str], list] | None = None,
    chosen_by: Any = None,
) -> fine_tuning.FineTuning:
    """Fine-tuning by the settings of `config.client`, of the weights with these names; None: of all trainable ones.

    With `chosen_by`, records, each client chooses its number of steps by its own of these.
    """
    batches_fn = fine_tuning.batches_fn(task, records, config.run.seed, epochs)
    positions = None if names is None else task.model.positions(names)
    losses = None if chosen_by is None else ClientLoss(task.model, task.eval_batches_fn(chosen_by))
    optimizer = build_options(config).client_optimizer
    return fine_tuning.FineTuning(task.model, batches_fn, optimizer, begin_fn, positions, losses)


def build_instances(
    config: RunConfig, run: StoredRun, split: str, examples: int, asked: str
) -> tuple[tasks.FederatedTask, instance_weights.InstanceWeights]:
    """FedDPA's weights by input, for a split: the task of its `InstanceModel`, and the `own_fn`.

    Args:
      config: Loads the run's model.
      run: The run.
      split: By its name.
      examples: S.
      asked: Path of the setting that says it, for errors.

    Raises:
      UserError: If clients have no adapters of their own beside the shared ones, or features are no vectors.
    """
    if not ALGORITHMS[run.config.algorithm.name].adds_adapters:
        raise UserError(
            f"{setting(asked)}={examples} needs a run with {setting('algorithm.name')}=fed_dpa_t or fed_dpa_f (found "
            f"{run.config.algorithm.name}): other clients have no second adapter to weight; remove it."
        )
    task = _load_with_features(config, progress=False)
    own_fn, _ = after_training(run, config, task, split)
    features = PooledFeatures(task.model, asked, examples)
    model = instance_weights.InstanceModel(features, own_fn.positions, own_fn.share, examples)
    records_fn = task.eval_batches_fn(fine_tuning.parts(task, split)[0])
    own_fn = dataclasses.replace(own_fn, share=1.0)
    found = instance_weights.InstanceWeights(model, own_fn, records_fn, config.run.seed)
    return dataclasses.replace(task, model=model), found


def _load_with_features(config, progress):
    # Features are what the head takes, and the same in training and evaluation only without dropout below it.
    model = dataclasses.replace(config.model, trainable="head", personal=None, cache_features=True)
    return load_task(dataclasses.replace(config, model=model), progress=progress)


def build_memory(
    config: RunConfig, split: str, neighbors: int, progress: bool
) -> tuple[tasks.FederatedTask, knn_per.KNNPer]:
    """kNN-Per of the model that a configuration loads, for a split: the task of its `MemoryModel`, and the `own_fn`.

    Raises:
      UserError: If examples do not have one class each.
    """
    task = _load_with_features(config, progress)
    label_spec = task.model.input_spec[1]
    if not task.label_names or label_spec.shape.rank != 1:
        raise UserError(
            f"{setting('evaluate.neighbors')}={neighbors}: neighbors vote for one class an example, and "
            f"{setting('task.kind')}={task.kind} has none; remove it."
        )
    records, clients = fine_tuning.parts(task, split)
    first, chosen_by = fine_tuning.choosing(task, split, records)
    sizes = (records.clients if isinstance(records, fine_tuning.Records) else records).sizes()
    found = knn_per.memory_model(task.model, neighbors, max(sizes[client] for client in clients.client_ids))
    own_fn = knn_per.KNNPer(found, *map(task.eval_batches_fn, (records, first, chosen_by)))
    return dataclasses.replace(task, model=found), own_fn
