"""What a study leaves: table, plots, flags of the best arm, and its run."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np
import pandas as pd

from tff_tx.config import FIELDS, show
from tff_tx.config.budget import COSTS, ROUNDS, Budget
from tff_tx.core import files, plots
from tff_tx.privacy.studies import SELECTION
from tff_tx.run import reporting
from tff_tx.run.trainer import Trainer, flags_of
from tff_tx.run.tuning.proposals import importances, value_of

TABLE, FLAGS, BEST, PRIVACY = "table.csv", "best.flags", "best", "privacy.md"
"""Of a study's directory: a row per arm, flags of the best arm, its run directory, and what is guaranteed."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What a study has found.

    Attributes:
      trainer: Of the best arm, trained.
      table: A row per arm, best first: values, rounds, clients, score with its standard error, and verdict.
      flags: The command line of the best arm: arguments of `python -m programs.train`.
      directory: Of the study.
      summary: In lines.
    """

    trainer: Trainer
    table: pd.DataFrame
    flags: list[str]
    directory: str
    summary: str

    def __str__(self) -> str:
        return self.summary


def finish(study: Any, best: int, trainer: Trainer) -> Result:
    """Writes the results of a `_Study`; returns its `Result`."""
    directory = study.directory
    table = _table(study, best)
    files.write_text(os.path.join(directory, TABLE), table.to_csv(index=False), "study_dir")
    flags = flags_of(trainer.config.replace({"run.directory": None}))
    files.write_text(os.path.join(directory, FLAGS), "\n".join(flags) + "\n", "study_dir")
    _link(study.arms.path(best), os.path.join(directory, BEST))
    if study.plan is not None:
        statement = study.plan.statement()
        files.write_text(os.path.join(directory, PRIVACY), statement + "\n", "study_dir")
        reporting.add_section(trainer.config.run.directory, "Privacy of the study", statement)
    _draw_incumbent(study, os.path.join(directory, "incumbent.png"))
    _draw_importance(study, os.path.join(directory, "importance.png"))
    return Result(trainer, table, flags, directory, _summary(study, table, best))


def _link(run_dir, link):
    """Makes a relative link to the best arm's directory, in place of that before; in a copied study this is no link."""
    files.remove(link)
    os.symlink(os.path.relpath(run_dir, os.path.dirname(link)), link)


def _table(study, best):
    """A row per arm that has begun, best first."""
    rows, top = [], study.records.curve(best)
    arms = [(arm, values) for arm, values in enumerate(study._values()) if study.records.curve(arm)]
    for arm, values in arms:
        curve = study.records.curve(arm)
        rounds = max(curve)
        scores = curve[rounds]
        row = {FIELDS[p].flag: _cell(value_of(study.config, values, p)) for p in study.space.domains}
        differs = None if arm == best or rounds not in top else top[rounds].beats(scores)
        verdict = "best" if arm == best else {None: "", True: "worse", False: "within the noise of the best"}[differs]
        figures = {study.arms.metric.name: study.arms.shown(scores.mean), "standard_error": scores.standard_error}
        rows.append({"arm": arm, **row, "rounds": rounds, "clients": len(scores.values), **figures, "verdict": verdict})
    table = pd.DataFrame(rows)
    order = table[study.arms.metric.name] * study.arms.shown(1.0)
    places = pd.DataFrame({"best": table["arm"] != best, "rounds": -table["rounds"], "score": order})
    return table.loc[places.sort_values(list(places)).index].reset_index(drop=True)


def _cell(value):
    """Numbers as they are, to sort and plot by; all else as it is written."""
    return value if isinstance(value, (int, float)) else show(value)


def _incumbents(study):
    """(rounds spent, scores) of the best whole arm so far, in the order in which brackets ended; the last one twice."""
    found, first, spent, rounds = [], 0, 0, study.config.run.rounds
    for bracket, _ in study.records.brackets:
        spent += bracket.rounds
        whole = [study.records.scores(arm, rounds) for arm in range(first, first + bracket.arms)]
        found += [(spent, scores) for scores in whole if scores is not None]
        first += bracket.arms
    best, total = [], spent
    for spent, scores in found:
        if not best or scores.mean < best[-1][1].mean:
            best.append((spent, scores))
    return best + [(total, best[-1][1])] if best and best[-1][0] < total else best


def _draw_incumbent(study, path):
    pyplot = plots.pyplot()
    figure, (axes, over_budget) = pyplot.subplots(1, 2, figsize=(11, 4), sharey=True)
    for arm in range(len(study._values())):
        curve = study.records.curve(arm)
        finite = {r: s for r, s in curve.items() if np.isfinite(s.mean)}
        values = [study.arms.shown(s.mean) for s in finite.values()]
        axes.plot(list(finite), values, ".-", color="0.8", linewidth=0.8, zorder=1)
    for _, scores in _incumbents(study)[-1:]:
        axes.axhline(study.arms.shown(scores.mean), color="C0", label="best")
        if np.isfinite(scores.standard_error):
            value = study.arms.shown(scores.mean)
            axes.axhspan(value - scores.standard_error, value + scores.standard_error, color="C0", alpha=0.2)
        axes.legend()
    points = [(spent, scores) for spent, scores in _incumbents(study) if np.isfinite(scores.mean)]
    if points:
        values, errors = ([f(s) for _, s in points] for f in (lambda s: study.arms.shown(s.mean), _finite_error))
        over_budget.errorbar([spent for spent, _ in points], values, errors, fmt="o-", drawstyle="steps-post")
    over_budget.set_xlabel("rounds of training spent, all arms")
    over_budget.set_title("best arm so far")
    for one in (axes, over_budget):
        one.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.set_xlabel("rounds of an arm")
    axes.set_ylabel(f"{study.arms.metric.name} on validation clients")
    figure.tight_layout()
    plots.save(figure, path)


def _finite_error(scores):
    return scores.standard_error if np.isfinite(scores.standard_error) else 0.0


def _draw_importance(study, path):
    """Of the widest rung: most arms after the same rounds."""
    rungs: dict[int, list] = {}
    for arm, values in enumerate(study._values()):
        for rounds, scores in study.records.curve(arm).items():
            if values and np.isfinite(scores.mean):
                rungs.setdefault(rounds, []).append((values, scores.mean))
    rounds, rows = max(rungs.items(), key=lambda item: len(item[1]), default=(0, []))
    found = importances(study.space, rows)
    if not found:
        return
    pyplot = plots.pyplot()
    figure, axes = pyplot.subplots(figsize=(7, 0.4 * len(found) + 1.5))
    names = sorted(found, key=found.get)
    axes.barh(names, [found[name] for name in names])
    axes.set_xlabel(f"share of the variance, rounds of training: {rounds} (fANOVA)")
    figure.tight_layout()
    plots.save(figure, path)


def _share_spent(study):
    """Share of the budget that the study has spent, or by how much it is over, in words."""
    share = study.records.spent[study.budget.cost] / study.budget.amount
    if share <= 1:
        return f"{share:.0%} of the budget of {study.budget}"
    if study.plan is not None and study.plan.method == SELECTION:
        because = "as the number of private runs is drawn"
    elif study.budget.cost == ROUNDS:
        because = "which was larger before"
    else:
        because = "as what came last cost more than what came before, or as it was larger before"
    return f"{share - 1:.1%} over the budget of {study.budget}, {because}"


def _number(study, arms):
    compared = any(len(bracket.rungs) > 1 for bracket, _ in study.records.brackets)
    return f"{arms} {'arms' if arms > 1 else 'arm'}" + ("" if compared or arms == 1 else ", all of them whole runs")


def _short(value):
    """A number as one reads it; the flags of the best arm have all of its digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _summary(study, table, best):
    row, name = table.iloc[0], study.arms.metric.name
    alike = int((table["verdict"] == "within the noise of the best").sum())
    spent = ", ".join(str(Budget(float(f"{study.records.spent[c]:.4g}"), c)) for c in COSTS if study.records.spent[c])
    chosen = ", ".join(f"{FIELDS[p].flag}={_short(row[FIELDS[p].flag])}" for p in study.space.domains)
    over = f"standard error {row['standard_error']:.2g} over {row['clients']} clients"
    error = over if row["clients"] > 1 else "of one client, so that nothing is known of its noise"
    written = f"Table, plots, {FLAGS} and the trained model in {BEST}/: {study.directory}"
    return "\n".join(
        [
            *([study.plan.describe()] if study.plan is not None else []),
            f"Best of {_number(study, len(table))}: arm {best}, {chosen}",
            f"validation: {name} {row[name]:.4g}, {error}; "
            f"within the noise of it: {alike} of {len(table) - 1} other arms",
            f"Spent: {spent}; {_share_spent(study)}. {written}",
        ]
    )
