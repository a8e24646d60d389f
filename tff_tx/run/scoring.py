"""The evaluation of a trained model on all clients of a split."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import tensorflow_federated as tff

from tff_tx import inference, models
from tff_tx.config import RunConfig, laws
from tff_tx.config.registries import ALGORITHMS
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting
from tff_tx.run import comparison, fine_tuning, personalizing, reporting
from tff_tx.run.assemble import own_models, personal
from tff_tx.run.assemble import tasks as task_parts
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
      run_dir: Of the run whose report gets the comparison with other models; None: none does.
      data: Paths of the files, where they are no split of a run.
    """

    split: str
    overall: Mapping[str, float]
    by_client: pd.DataFrame
    metrics: tuple[models.Metric, ...]
    notes: tuple[str, ...] = ()
    others: Mapping[str, pd.DataFrame] = dataclasses.field(default_factory=dict)
    classes: pd.DataFrame | None = None
    run_dir: str | None = None
    data: tuple[str, ...] = ()

    @property
    def comparison(self) -> comparison.Comparison | None:
        """With `others`; None if there are none."""
        return comparison.Comparison(self.by_client, self.others, self.metrics) if self.others else None

    @property
    def spread(self) -> pd.DataFrame:
        """How metrics are spread over clients, a row a metric, see `evaluation.spread`."""
        return spread(self.by_client, self.metrics)

    def write(self, directory: str) -> list[str]:
        """Writes SPLIT.json and plots, and a comparison into the report of the run; returns the paths.

        Of files that are no split they are named by the first one, with a number where others of its name have been.
        """
        name, data = self._name(directory), {"data": list(self.data)} if self.data else {}
        path = os.path.join(directory, f"{name}.json")
        parts = {"over_clients": self.spread, "clients": self.by_client}
        for other, table in self.others.items():
            parts |= {f"over_clients, {other}": spread(table, self.metrics), f"clients, {other}": table}
        parts |= {"models": self.comparison.table} if self.others else {}
        parts |= {} if self.classes is None else {"classes": self.classes}
        tables = {key: table.to_dict("index") for key, table in parts.items()}
        files.write_json(path, {**data, "overall": self.overall, **tables})
        plot = os.path.join(directory, f"{name}.png")
        written = [path, reporting.plot_spread(self.by_client, self.metrics, plot)]
        return written + (self._write_comparison(directory, name) if self.others else [])

    def _name(self, directory):
        if not self.data:
            return self.split
        first = os.path.basename(os.path.abspath(self.data[0]))
        for n in itertools.count(1):
            name = first if n == 1 else f"{first}-{n}"
            path = os.path.join(directory, f"{name}.json")
            if not os.path.exists(path) or files.read_json(path).get("data") == list(self.data):
                return name

    def _write_comparison(self, directory, name):
        picture = self.comparison.plot(os.path.join(directory, f"{name}_clients.png"))
        written, text = [picture] if picture else [], self.comparison.markdown()
        if self.run_dir is None:
            return written
        if picture:
            text += f"\n\n![models of clients]({os.path.relpath(picture, self.run_dir)})"
        return [*written, reporting.add_section(self.run_dir, f"Models of {name} clients", text)]

    def __str__(self) -> str:
        lines = [*self.notes, f"Over all {self.overall['num_examples']:,} examples of {len(self.by_client):,} clients:"]
        for name, value in self.overall.items():
            lines.append(f"  {name:<16}{value:>12.4f}" if isinstance(value, float) else f"  {name:<16}{value:>12,}")
        if self.classes is not None:
            lines += ["By class:", self.classes.to_string(float_format="%.4f")]
        lines += ["Over clients:", self.spread.to_string(float_format="%.4f")]
        if self.others:
            lines += [f"{self.comparison.metric.title} of clients, by model:"]
            lines += [self.comparison.table.to_string(float_format="%.4f"), *self.comparison.sentences]
        return "\n".join(lines)


def evaluate(
    config: RunConfig,
    split: str = "test",
    *,
    run: StoredRun | None = None,
    personalize_epochs: int = 0,
    choose_steps: bool = False,
    neighbors: int = 0,
    similar_examples: int = 0,
    alone_epochs: int = 0,
    words: bool = False,
    num_beams: int = 1,
    progress: bool = True,
) -> Evaluation:
    """Evaluates the model that is `model.pretrained` of a configuration on a split: "train", "validation" or "test".

    Clients with personal weights in `run`, of which the model is, are evaluated with these; with `personalize_epochs`
    after fine-tuning by the settings of `config.client`, with `choose_steps` as far as helps on other records of the
    client; with `neighbors` by kNN-Per; with `similar_examples` by FedDPA's shares by input; with `alone_epochs` beside
    what clients train alone from the run's beginning. See `personalizing`. With `words` texts are also generated, or
    questions answered, and scored by their words, unless clients have models of their own.

    Raises:
      UserError: If the data have no such split, or data and model do not fit.
    """
    with _loaded(config, split, run, bool(personalize_epochs) and not words, progress) as (config, task):
        clients, own_fn = getattr(task, split), None
        if run is not None:
            own_fn, clients = own_models.after_training(run, config, task, split)
            if config.client.learning_rate is None:
                config = config.replace({"client.learning_rate": run.config.client_learning_rate})
        begun = own_fn.notes(clients.client_ids) if hasattr(own_fn, "notes") else []
        options = {"personalize_epochs": personalize_epochs, "choose_steps": choose_steps}
        options |= {"neighbors": neighbors, "similar_examples": similar_examples}
        way, others = personalizing.chosen(options, own_fn is not None), {}
        if way is not None or alone_epochs:
            records, clients = fine_tuning.parts(task, split)
        if alone_epochs:
            others[comparison.ALONE] = _alone(config, run, split, alone_epochs, progress)
        if own_fn is not None or way is not None:
            others[comparison.GLOBAL] = _evaluate(config, task, clients, None, progress)[1]
        if way is not None:
            if own_fn is not None:
                others[way.before] = _evaluate(config, task, clients, own_fn, progress)[1]
            task, own_fn = way.build(personalizing.Asked(config, task, split, records, run, options, progress), own_fn)
        needs_outputs = task.model.objective.pooled_fn is not None
        outputs: dict[str, list] | None = {} if needs_outputs else None
        overall, by_client = _evaluate(config, task, clients, own_fn, progress, outputs)
        notes = [*task.notes, *(own_fn.choices() if hasattr(own_fn, "choices") else [])]
        if words and task.definition.score_metrics and own_fn is not None:
            notes.append("texts are not generated: clients have models of their own")
        elif words and task.definition.score_metrics:
            by_client = _add_words(_predictor(config, task, num_beams), split, overall, by_client)
        pooled, classes = ({}, None) if outputs is None else _pooled(task, [outputs[c] for c in clients.client_ids])
        # Exact figures of training clients have no place in what a private run releases.
        report = None if run is None or laws.is_private(run.config) else run.directory
        return Evaluation(
            split, {**overall, **pooled}, by_client, tuple(task.metrics), tuple(notes + begun), others, classes, report
        )


@contextlib.contextmanager
def _loaded(config, split, run, tunes, progress):
    """The configuration and the task; with inputs as the run was trained on, where models are trained here."""
    if run is not None and run.config.model.cache_features and run.config.model.trainable != "lora":
        tunes |= bool(run.facts.get(personal.PERSONAL)) and ALGORITHMS[run.config.algorithm.name].is_stateless
        if tunes:
            part = {path: run.config.get(path) for path in ("model.trainable", "model.cache_features")}
            config = config.replace(part)
    task = _load(config, split, progress)
    if not config.model.cache_features:
        yield config, task
        return
    with task_parts.on_features(run, task, ("train", split)) as task:
        yield config, task


def _load(config, split, progress):
    """The task, if it has the split and a model that has been trained."""
    task = task_parts.load_task(config, progress=progress)
    if getattr(task, split) is None:
        parts = f"{setting('data.test_fraction')} or {setting('data.validation_fraction')}"
        raise UserError(
            f"the data have no {split} split: choose another, or hold some out with {parts}, or files of their own."
        )
    if models.fresh(task.model.keras_model):
        raise UserError(f"there is nothing to evaluate but random numbers: {task.notes[-1]}; train the model first.")
    return task


def _add_words(predictor, split, overall, by_client):
    """Adds what words of texts score to the overall metrics, and returns those by client with it."""
    scores = predictor.score_split(split)
    overall.update(predictor.pooled(scores.drop(columns="client").mean()))
    return by_client.join(predictor.pooled(scores.groupby("client").mean()))


def _pooled(task, outputs):
    """The metrics that need the predictions for all examples at once, in the order of clients; and its classes."""
    found = tuple(np.concatenate(values) for values in zip(*itertools.chain.from_iterable(outputs)))
    by_class = len(task.label_names) > 0 and found[1].ndim == 1
    classes = models.by_class(*found, task.label_names) if by_class else None
    return task.model.objective.pooled_fn(*found), classes


def _evaluate(config, task, clients, own_fn, progress, outputs=None):
    evaluator = Evaluator(task.model, task.eval_batches_fn(clients), config.engine.num_threads, own_fn=own_fn)
    weights = tff.learning.models.ModelWeights(*task.model.initial_weights)
    return evaluator.evaluate(weights, clients.client_ids, progress, outputs=outputs)


def _alone(config, run, split, epochs, progress):
    """Metrics by client of models that clients train alone."""
    if run is None:
        raise UserError(
            f"{setting('evaluate.alone_epochs')} begins where a run began: set {setting('evaluate.run_dir')}."
        )
    # Personal weights are trained like all others.
    model = dataclasses.replace(run.config.model, personal=None)
    task = task_parts.load_task(dataclasses.replace(config, model=model), progress=progress)
    with task_parts.on_features(run, task, ("train", split)) as task:
        records, evaluated = fine_tuning.parts(task, split)
        return _evaluate(config, task, evaluated, own_models.build_tuning(config, task, records, epochs), progress)[1]


def _predictor(config, task, num_beams) -> Any:
    spec, data = task_parts.model_spec(config), task_parts.data_spec(config)
    options = {"tokenizer": task.tokenizer, "batch_size": config.run.eval_batch_size, "num_beams": num_beams}
    return inference.build_predictor(config.task.kind, task.model.keras_model, spec, data=data, **options)
