"""A study: brackets of successive halving until the budget is spent, and then the best arm as a finished run.

All that decides how a study goes on is in its records and in its arms' run directories: one that is killed and started
again trains nothing twice and ends with the same result.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from typing import Any

from tqdm.auto import tqdm

from tff_tx.config import RunConfig
from tff_tx.config.budget import CLIENT_SECONDS, ROUNDS, SECONDS, Budget
from tff_tx.config.run_config import describe
from tff_tx.config.space import Space
from tff_tx.config.tools import TuneConfig
from tff_tx.core.errors import UserError, setting
from tff_tx.privacy.studies import SELECTION, StudyPlan
from tff_tx.run import directory as run_directory
from tff_tx.run.trainer import Task
from tff_tx.run.tuning import private, report, side_by_side
from tff_tx.run.tuning.arms import Arms, scored_by
from tff_tx.run.tuning.brackets import Bracket, least_rounds, next_bracket
from tff_tx.run.tuning.costs import Costs
from tff_tx.run.tuning.proposals import Proposals
from tff_tx.run.tuning.records import Records, check_same
from tff_tx.run.tuning.scores import race

_DEFAULT_RUNS = 4


def budget_of(config: RunConfig, text: str | None) -> Budget:
    """The budget of a run that can be tuned, by default 4 whole runs.

    Raises:
      UserError: If runs cannot be compared with one another, or the budget is none, too small for a whole run, or
        counts what the run does not have.
    """
    _check_tunable(config)
    budget = Budget.of(text) if text is not None else Budget(float(_DEFAULT_RUNS * config.run.rounds))
    if budget.cost == ROUNDS and budget.amount < config.run.rounds:
        raise UserError(
            f"{setting('tune.budget')}={budget} is too small for one arm of {describe(config, 'run.rounds')}: raise "
            "it, or lower the rounds."
        )
    if budget.cost == CLIENT_SECONDS and not config.devices.takes_time:
        raise UserError(
            f"{setting('tune.budget')}={budget} needs clients that take time: set "
            f"{setting('devices.seconds_per_example')}, or give the budget in another unit."
        )
    private.check_private(config, budget)
    return budget


def _check_tunable(config):
    for path, because in (
        ("ensemble.enabled", "it trains several models, and arms are compared by one"),
        ("data.silos", "each arm would be a plan of its own, which participants and silos have not approved"),
        ("run.patience", "arms are stopped by comparison with one another"),
        ("run.keep_best", "arms are compared after the same rounds"),
        ("canaries.number", "they are for the audit of one run"),
    ):
        if config.is_set(path):
            raise UserError(f"{describe(config, path)} cannot be combined with tuning: {because}; remove it.")


def tune(
    task: Task, config: RunConfig, space: Space, own: TuneConfig, aggregator: Any, progress: bool
) -> report.Result:
    """Runs a study to its end, from where it is; the arguments as of `Trainer.tune`."""
    budget, directory = budget_of(config, own.budget), os.path.abspath(own.study_dir)
    space.check(config)
    scored_by(task.task, own.metric)
    if (own.least_rounds or 0) > config.run.rounds:
        raise UserError(
            f"{setting('tune.least_rounds')}={own.least_rounds} is more than {describe(config, 'run.rounds')}, so that "
            "no arms would be compared before their end: lower it."
        )
    with contextlib.ExitStack() as stack:
        stack.enter_context(run_directory.writing(directory, "tune.study_dir"))
        about = {f.name: getattr(own, f.name) for f in own.fields() if f.name not in ("space", "budget", "study_dir")}
        config, plan = private.plan_study(config, task.task, budget)
        if plan is not None:
            about["budget"] = str(budget)  # the noise is for all of it
        check_same(directory, config, space, about)
        records, pool = Records(directory), None
        # A factory does not travel to other processes.
        if config.engine.name == "ray" and aggregator is None:
            pool = stack.enter_context(side_by_side.pool(config, directory))
            config = side_by_side.alone(config)
        arms = Arms(task, config, directory, records, own.metric, aggregator, pool)
        selects = plan is not None and plan.method == SELECTION  # of runs that do not depend on one another
        proposals = Proposals(directory, space, config, "random" if selects else own.sampler)
        costs = Costs(budget, records, arms, own.first_clients)
        return _Study(directory, config, space, own, budget, costs, records, arms, proposals, progress, plan).run()


@dataclasses.dataclass
class _Study:
    directory: str
    config: RunConfig
    space: Space
    own: TuneConfig
    budget: Budget
    costs: Costs
    records: Records
    arms: Arms
    proposals: Proposals
    progress: bool
    plan: StudyPlan | None

    def run(self) -> report.Result:
        """All brackets, and the best arm."""
        with _progress_bar(self.budget, self.records.spent[self.budget.cost], self.progress) as self._bar:
            number, first, whole = 0, 0, []
            while True:
                if number == len(self.records.brackets) and not self._begin(number, first):
                    break
                bracket, values = self.records.brackets[number]
                whole += self._halve(bracket, dict(enumerate(values, first)))
                number, first = number + 1, first + bracket.arms
            self._show("the best arm")
        best, trained = self._best(whole)
        trainer = self.arms.trainer(best, self._values()[best])
        if not trained:
            raise UserError(
                "every arm has made a model that is not finite: lower the rates of the space, or search fewer settings."
            )
        trainer.fit()
        return report.finish(self, best, trainer)

    def _values(self):
        return [values for _, arms in self.records.brackets for values in arms]

    def _begin(self, number, first):
        """Begins another bracket, if the budget suffices for one."""
        if number and not self._has_spent(range(first - self.records.brackets[-1][0].arms, first)):
            return False
        selects = self.plan is not None and self.plan.method == SELECTION
        if not selects:
            bracket = self._bracket(number)
        else:  # whole runs, of which only the best is released
            runs = 0 if number else private.draw_runs(self.plan)
            bracket = Bracket(runs, (self.config.run.rounds,), self.own.reduction) if runs else None
        if bracket is None and number == 0:
            raise UserError(
                f"{setting('tune.budget')}={self.budget} is too small for one arm of "
                f"{describe(self.config, 'run.rounds')}, by what the first rounds have cost: raise it, or lower the "
                "rounds."
            )
        if bracket is None:
            return False
        # Private selection draws each run by itself, which its guarantee is for.
        others_than = None if selects else self._values()
        current = first == 0 and not selects
        values = self.proposals.propose(bracket.arms, first, with_current=current, others_than=others_than)
        if not values:
            return False  # all of the space have been tried
        self.records.begin(dataclasses.replace(bracket, arms=len(values)), values)
        return True

    def _has_spent(self, arms):
        """Whether arms have spent any of the budget: not if all have diverged in their first round, without end."""
        return self.records.cost_of_training(arms, self.budget.cost) > 0

    def _bracket(self, number):
        """The bracket of a number, if the budget suffices for one, by what rounds and evaluations have cost."""
        rounds, reduction = self.config.run.rounds, self.own.reduction
        least = self.own.least_rounds or least_rounds(self.config.model, rounds)
        if number == 0 and self.budget.cost != ROUNDS:  # that of the configuration as it is, to see what it costs
            first = next_bracket(0, rounds, reduction, math.inf, least)
            self.arms.train(0, {}, first.rungs[0])
            if self.budget.cost == SECONDS:
                self.arms.score(0, {}, first.rungs[0], 1)  # traces, which others need not do
            self.arms.score(0, {}, first.rungs[0], self.costs.clients(first, 0))
        return next_bracket(number, rounds, reduction, self.costs.left(), least, self.costs.of)

    def _halve(self, bracket: Bracket, values: dict) -> list[int]:
        """Successive halving; the arms that were trained to the end."""
        survivors = list(values)
        for k, rounds in enumerate(bracket.rungs):
            self.arms.begin_rung({arm: values[arm] for arm in survivors}, rounds)
            for place, arm in enumerate(survivors):
                self._show(f"round {rounds}: arm {place + 1} of {len(survivors)}")
                self.arms.train(arm, values[arm], rounds)
                self.arms.score(arm, values[arm], rounds, self.costs.clients(bracket, k))
            is_last = k == len(bracket.rungs) - 1
            staying = survivors if is_last else self._race(bracket, k, survivors, values)
            for arm in survivors:
                if is_last or arm not in staying:
                    self._end(arm, values[arm], is_last)
            self.arms.end_rung()
            survivors = staying
        return survivors

    def _race(self, bracket, rung, arms, values):
        def score(arm, clients):
            return self.arms.score(arm, values[arm], bracket.rungs[rung], clients)

        quota, first = bracket.survivors(rung + 1), self.costs.clients(bracket, rung)
        return race(arms, quota, score, first, len(self.arms.clients))

    def _end(self, arm, values, is_whole):
        means = {rounds: scores.mean for rounds, scores in self.records.curve(arm).items()}
        self.proposals.end(arm, values, means, is_whole)
        if not is_whole:
            self.arms.drop(arm)

    def _best(self, whole):
        """The best of the arms that were trained to the end, and whether it is a model."""
        values, rounds = self._values(), self.config.run.rounds

        def score(arm, clients):
            return self.arms.score(arm, values[arm], rounds, clients)

        best = race(whole, 1, score, len(self.arms.clients), len(self.arms.clients))[0]
        return best, score(best, 1).mean < float("inf")

    def _show(self, text):
        self._bar.set_description(text, refresh=False)
        self._bar.n = _shown(self.budget, self.records.spent[self.budget.cost])
        self._bar.refresh()


def _progress_bar(budget, spent, is_shown):
    """A bar over the budget, from what a study has spent already, in the unit that budgets are given in."""
    numbers = "{desc}{percentage:3.0f}%|{bar}| {n:,.6g}/{total:,.6g} {unit} [{elapsed}<{remaining}]"
    total, begun = _shown(budget, budget.amount), _shown(budget, spent)
    return tqdm(total=total, initial=begun, unit=budget.unit[1], bar_format=numbers, disable=not is_shown)


def _shown(budget, spent):
    """What is spent of a budget, at most all, in its unit."""
    return min(spent, budget.amount) / budget.unit[0]
