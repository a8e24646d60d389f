"""Ways to a client's own model at evaluation: each makes the `own_fn` of an `Evaluator` of the model as it is.

A way is a row of `WAYS`, under the name of the setting of `programs.evaluate` that asks for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Callable

from tff_tx.config import RunConfig
from tff_tx.core.errors import UserError, setting
from tff_tx.run import comparison, fine_tuning
from tff_tx.run.assemble import own_models
from tff_tx.run.directory import StoredRun
from tff_tx.tasks import FederatedTask


@dataclasses.dataclass(frozen=True)
class Asked:
    """What is evaluated, and how.

    Attributes:
      config: Of the model and its data.
      task: Of them.
      split: By its name.
      records: Of its clients, to train on.
      run: Of which the model is; None: of no run.
      options: Settings of the section `evaluate` by name, those of `WAYS` among them.
      progress: Whether to show any.
    """

    config: RunConfig
    task: FederatedTask
    split: str
    records: Any
    run: StoredRun | None
    options: Mapping[str, Any]
    progress: bool


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to a client's own model.

    Attributes:
      build: From an `Asked` and the `own_fn` of models that clients have already (None: none) to the task of the model
        that is evaluated, and its `own_fn`.
      global_only: Why it begins with the global model only; empty: it goes on from models that clients have.
      alone: Why it goes with no other way, if it goes on from these.
      before: What these are called beside those that it makes.
    """

    build: Callable[[Asked, Any], tuple[FederatedTask, Any]]
    global_only: str = ""
    alone: str = ""
    before: str = comparison.BEFORE


def _fine_tuned(asked, own_fn):
    epochs, records = asked.options["personalize_epochs"], asked.records
    names, chosen_by = None if asked.run is None else asked.run.facts.get(own_models.TRAINED), None
    if asked.options.get("choose_steps"):
        records, chosen_by = fine_tuning.choosing(asked.task, asked.split, records)
    return asked.task, own_models.build_tuning(asked.config, asked.task, records, epochs, names, own_fn, chosen_by)


def _with_neighbors(asked, own_fn):
    del own_fn
    return own_models.build_memory(asked.config, asked.split, asked.options["neighbors"], asked.progress)


def _by_similarity(asked, own_fn):
    del own_fn
    number, path = asked.options["similar_examples"], "evaluate.similar_examples"
    if asked.run is None:
        raise UserError(f"{setting(path)}={number} is of clients of a run: set {setting('evaluate.run_dir')}.")
    return own_models.build_instances(asked.config, asked.run, asked.split, number, path)


WAYS = {
    "personalize_epochs": Way(_fine_tuned),
    "neighbors": Way(_with_neighbors, "kNN-Per mixes neighbors among the features of one global model"),
    "similar_examples": Way(
        _by_similarity, alone="the weights of an input lie between two models", before=comparison.ONE_SHARE
    ),
}


def chosen(options: Mapping[str, Any], has_own: bool) -> Way | None:
    """The way that options ask for; None: none.

    Args:
      options: Settings of the section `evaluate` by name.
      has_own: Whether clients have models of their own already.

    Raises:
      UserError: If they are more than one, or do not fit to these models or to one another.
    """
    if options.get("choose_steps") and not options.get("personalize_epochs"):
        raise UserError(f"{setting('evaluate.choose_steps')} needs {setting('evaluate.personalize_epochs')}: set it.")
    names = [name for name in WAYS if options.get(name)]
    for name in names:
        others = [setting(f"evaluate.{other}") for other in names if other != name]
        others += ["a run whose clients have models of their own"] * (has_own and bool(WAYS[name].global_only))
        if (because := WAYS[name].global_only or WAYS[name].alone) and others:
            raise UserError(
                f"{setting(f'evaluate.{name}')}={options[name]} cannot be combined with {others[-1]}: {because}; "
                "remove it."
            )
    return WAYS[names[0]] if names else None
