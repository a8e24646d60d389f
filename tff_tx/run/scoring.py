"""The evaluation of a trained model on all clients of a split."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import pandas as pd
import tensorflow_federated as tff

from tff_tx import inference, models
from tff_tx.config import RunConfig
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting
from tff_tx.run import fine_tuning, reporting
from tff_tx.run.assemble import personal
from tff_tx.run.assemble import tasks as task_parts
from tff_tx.run.assemble.processes import build_options
from tff_tx.run.directory import StoredRun
from tff_tx.run.evaluation import Evaluator, spread


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Metrics of a model on a split.

    Attributes:
      split: Its name.
      overall: Metrics over the pooled data of all clients, by name.
      by_client: A row a client, a column a metric.
      metrics: What is known of the metrics.
      notes: Of the task.
      others: `by_client` of other models of the same clients, by a name such as "before fine-tuning".
      classes: Of tasks of classes, a row a class, see `models.by_class`.
    """

    split: str
    overall: Mapping[str, float]
    by_client: pd.DataFrame
    metrics: tuple[models.Metric, ...]
    notes: tuple[str, ...] = ()
    others: Mapping[str, pd.DataFrame] = dataclasses.field(default_factory=dict)
    classes: pd.DataFrame | None = None

    @property
    def spread(self) -> pd.DataFrame:
        """How metrics are spread over clients, a row a metric, see `evaluation.spread`."""
        return spread(self.by_client, self.metrics)

    def write(self, directory: str) -> tuple[str, str]:
        """Writes SPLIT.json and a plot, SPLIT.png; returns their paths."""
        path = os.path.join(directory, f"{self.split}.json")
        parts = {"over_clients": self.spread, "clients": self.by_client}
        for name, table in self.others.items():
            parts |= {f"over_clients, {name}": spread(table, self.metrics), f"clients, {name}": table}
        parts |= {} if self.classes is None else {"classes": self.classes}
        files.write_json(path, {"overall": self.overall, **{k: v.to_dict("index") for k, v in parts.items()}})
        plot = os.path.join(directory, f"{self.split}.png")
        return path, reporting.plot_spread(self.by_client, self.metrics, plot)

    def __str__(self) -> str:
        lines = [*self.notes, f"Over all {self.overall['num_examples']:,} examples of {len(self.by_client):,} clients:"]
        for name, value in self.overall.items():
            lines.append(f"  {name:<16}{value:>12.4f}" if isinstance(value, float) else f"  {name:<16}{value:>12,}")
        if self.classes is not None:
            lines += ["By class:", self.classes.to_string(float_format="%.4f")]
        lines += ["Over clients:", self.spread.to_string(float_format="%.4f")]
        for name, table in self.others.items():
            metric, hurt = fine_tuning.share_hurt(table, self.by_client, self.metrics)
            lines += [f"Over clients, {name}:", spread(table, self.metrics).to_string(float_format="%.4f")]
            worse = "higher" if metric == "loss" else "lower"
            lines.append(f"{hurt:.0%} of clients have a {worse} {metric} than {name}.")
        return "\n".join(lines)


def evaluate(
    config: RunConfig,
    split: str = "test",
    *,
    run: StoredRun | None = None,
    personalize_epochs: int = 0,
    alone_epochs: int = 0,
    words: bool = False,
    num_beams: int = 1,
    progress: bool = True,
) -> Evaluation:
    """Evaluates the model that is `model.pretrained` of a configuration on a split: "train", "validation" or "test".

    Clients with personal weights in `run`, of which the model is, are evaluated with these; with `personalize_epochs`
    after fine-tuning by the settings of `config.client`; with `alone_epochs` beside what clients train alone from the
    run's beginning. See `fine_tuning`. With `words` texts are also generated, or questions answered, and scored by
    their words, unless clients have models of their own.

    Raises:
      UserError: If the data have no such split, or data and model do not fit.
    """
    task = task_parts.load_task(config, progress=progress)
    clients = getattr(task, split)
    if clients is None:
        parts = f"{setting('data.test_fraction')} or {setting('data.validation_fraction')}"
        raise UserError(
            f"the data have no {split} split: choose another, or hold some out with {parts}, or files of their own."
        )
    if models.fresh(task.model.keras_model):
        raise UserError(f"there is nothing to evaluate but random numbers: {task.notes[-1]}; train the model first.")
    own_fn = None if run is None else personal.stored_weights(run, task.model)
    begun = [] if own_fn is None else own_fn.notes(clients.client_ids)
    if run is not None and config.client.learning_rate is None:
        config = config.replace({"client.learning_rate": run.config.client_learning_rate})
    trained, others = (clients, clients), {}
    if personalize_epochs or alone_epochs:
        trained = fine_tuning.parts(task, split)
    if personalize_epochs:
        others["before fine-tuning"] = _evaluate(config, task, trained[1], own_fn, progress)[1]
        own_fn = _trainer(config, task, trained[0], personalize_epochs, own_fn)
    if alone_epochs:
        others["trained alone"] = _alone(config, run, split, alone_epochs, progress)
    overall, by_client = _evaluate(config, task, trained[1], own_fn, progress)
    notes = list(task.notes)
    if words and task.definition.score_metrics and own_fn is not None:
        notes.append("texts are not generated: clients have models of their own")
    elif words and task.definition.score_metrics:
        predictor = _predictor(config, task, num_beams)
        scores = predictor.score_split(split)
        by_client = by_client.join(predictor.pooled(scores.groupby("client").mean()))
        overall.update(predictor.pooled(scores.drop(columns="client").mean()))
    pooled, classes = _pooled(config, task, trained[1], own_fn)
    return Evaluation(
        split, {**overall, **pooled}, by_client, tuple(task.metrics), tuple(notes + begun), others, classes
    )


def _evaluator(config, task, clients, own_fn):
    return Evaluator(task.model, task.eval_batches_fn(clients), config.engine.num_threads, own_fn=own_fn)


def _weights(task):
    return tff.learning.models.ModelWeights(*task.model.initial_weights)


def _pooled(config, task, clients, own_fn):
    """The metrics that need the predictions for all examples at once, if the objective has any; and its classes."""
    if task.model.objective.pooled_fn is None:
        return {}, None
    found = _evaluator(config, task, clients, own_fn).outputs(_weights(task), clients.client_ids)
    by_class = len(task.label_names) > 0 and found[1].ndim == 1
    classes = models.by_class(*found, task.label_names) if by_class else None
    return task.model.objective.pooled_fn(*found), classes


def _evaluate(config, task, clients, own_fn, progress):
    evaluator = _evaluator(config, task, clients, own_fn)
    return evaluator.evaluate(_weights(task), clients.client_ids, show_progress=progress)


def _trainer(config, task, records, epochs, begin_fn=None):
    batches_fn = fine_tuning.batches_fn(task, records, config.run.seed, epochs)
    return fine_tuning.FineTuning(task.model, batches_fn, build_options(config).client_optimizer, begin_fn)


def _alone(config, run, split, epochs, progress):
    """Metrics by client of models that clients train alone."""
    if run is None:
        raise UserError(
            f"{setting('evaluate.alone_epochs')} begins where a run began: set {setting('evaluate.run_dir')}."
        )
    # Personal weights are trained like all others.
    model = dataclasses.replace(run.config.model, personal=None, cache_features=False)
    task = task_parts.load_task(dataclasses.replace(config, model=model), progress=progress)
    records, evaluated = fine_tuning.parts(task, split)
    return _evaluate(config, task, evaluated, _trainer(config, task, records, epochs), progress)[1]


def _predictor(config, task, num_beams) -> Any:
    spec, data = task_parts.model_spec(config), task_parts.data_spec(config)
    options = {"tokenizer": task.tokenizer, "batch_size": config.run.eval_batch_size, "num_beams": num_beams}
    return inference.build_predictor(config.task.kind, task.model.keras_model, spec, data=data, **options)
