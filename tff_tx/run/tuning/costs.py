"""What brackets of a study will cost, by what its rounds and evaluations have cost."""

from __future__ import annotations

import dataclasses

from tff_tx.config.budget import ROUNDS, SECONDS, Budget
from tff_tx.run.tuning.arms import Arms
from tff_tx.run.tuning.brackets import Bracket
from tff_tx.run.tuning.records import Records


@dataclasses.dataclass(frozen=True)
class Costs:
    """The costs of a study, in the unit of its budget. Where that is rounds, evaluations are free.

    Attributes:
      budget: Of the study.
      records: What it has found out so far.
      arms: Its arms.
      first_clients: That score each arm in the first rung; the fewer arms survive, the more.
    """

    budget: Budget
    records: Records
    arms: Arms
    first_clients: int

    def clients(self, bracket: Bracket, rung: int) -> int:
        """Clients of the first comparison after a rung."""
        return min(self.first_clients * bracket.reduction**rung, len(self.arms.clients))

    def left(self) -> float:
        """What is left of the budget once all clients have scored the arms that were trained to the end."""
        if not self.records.brackets:
            return self.budget.amount  # what is spent was the first bracket's
        left = self.budget.amount - self.records.spent[self.budget.cost]
        if self.budget.cost == ROUNDS:
            return left
        whole = [asked for _, asked, is_last in self._asked() if is_last]
        return left - sum(self._scoring(asked, len(self.arms.clients)) for asked in whole)

    def of(self, bracket: Bracket) -> float:
        """What a bracket costs, in the end of which all clients score what was trained to the end."""
        if self.budget.cost == ROUNDS:
            return bracket.rounds
        training = bracket.rounds * self._round() + self._starts(bracket)
        last, everyone = len(bracket.rungs) - 1, len(self.arms.clients)
        scoring = sum(bracket.survivors(k) * self._scoring(0, self.clients(bracket, k)) for k in range(last))
        return training + scoring * self._races() + bracket.survivors(last) * self._scoring(0, everyone)

    def _round(self):
        """What a round of training costs."""
        starts = sum(self.records.starts) if self.budget.cost == SECONDS else 0.0
        return (self.records.training[self.budget.cost] - starts) / self.records.training[ROUNDS]

    def _starts(self, bracket):
        """What it costs to trace or restore the arms of a bracket in each rung: time only."""
        if self.budget.cost != SECONDS:
            return 0.0
        times = sum(bracket.survivors(k) for k in range(len(bracket.rungs)))
        return times * sum(self.records.starts) / len(self.records.starts)

    def _scoring(self, first, end):
        """What clients from one to another of the fixed order cost that score an arm."""
        if self.budget.cost != SECONDS:
            return self.arms.cost_of_scores(first, end)[self.budget.cost]
        if end <= first:
            return 0.0
        # The fastest evaluation traces nothing, so that it shows the time of clients; what is more is that of tracing.
        if not (done := self.records.evaluations):
            return 0.0
        client = min(seconds / clients for clients, seconds in done)
        start = sum(seconds - clients * client for clients, seconds in done) / len(done)
        return start + (end - first) * client

    def _races(self):
        """How many times as many clients have been asked as in first comparisons, because arms were close."""
        before = [(first, asked) for first, asked, is_last in self._asked() if not is_last]
        return sum(asked for _, asked in before) / sum(first for first, _ in before) if before else 1.0

    def _asked(self):
        """Of all arms and rungs: clients of the first comparison, those asked, and whether it was the last rung."""
        number = 0
        for bracket, values in self.records.brackets:
            for arm in range(number, number + len(values)):
                for rounds, scores in self.records.curve(arm).items():
                    if rounds in bracket.rungs:  # rounds of the very first scores may be none of these
                        rung = bracket.rungs.index(rounds)
                        yield self.clients(bracket, rung), len(scores.values), rounds == bracket.rungs[-1]
            number += len(values)
