"""Brackets of Hyperband (Li et al. 2018, https://arxiv.org/abs/1603.06560), within a budget."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from tff_tx.config.task import ModelConfig

_MOST_RUNGS = 4
_LEAST_ROUNDS = 9


def least_rounds(model: ModelConfig, rounds: int) -> int:
    """Rounds before arms are first compared, by default: in fewer a model learns nothing that tells arms apart.

    That is a quarter of the rounds, or 9 if that is more, but no more than a third: high rates lead at first, whatever
    the number of rounds. It is 1 for the head or upper layers of a pretrained model, whose features have what is to be
    learned.
    """
    if model.pretrained is not None and model.trainable.startswith(("head", "layers:")):
        return 1
    return max(1, min(max(_LEAST_ROUNDS, math.ceil(rounds / 4)), rounds // 3))


@dataclasses.dataclass(frozen=True)
class Bracket:
    """A run of successive halving.

    Attributes:
      arms: Number of configurations that begin.
      rungs: Rounds after which arms are compared, increasing; the last is the whole run.
      reduction: One of so many arms survives a rung.
    """

    arms: int
    rungs: tuple[int, ...]
    reduction: int

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Bracket:
        """A bracket as it is written in records.

        Raises:
          KeyError, TypeError, ValueError: If it is none.
        """
        arms, rungs, reduction = record["arms"], tuple(record["rungs"]), record["reduction"]
        if any(type(n) is not int for n in (arms, *rungs, reduction)):
            raise ValueError("a bracket has whole numbers")
        if arms < 1 or reduction < 2 or not rungs or [*rungs] != sorted({0, *rungs})[1:]:
            raise ValueError(f"no bracket: {arms} arms, rungs {rungs}, reduction {reduction}")
        return cls(arms, rungs, reduction)

    def survivors(self, rung: int) -> int:
        """Arms that are trained to the rung of this number, from 0."""
        return max(1, self.arms // self.reduction**rung)

    @property
    def rounds(self) -> int:
        """Rounds of training in all."""
        steps = zip(self.rungs, (0, *self.rungs))
        return sum(self.survivors(k) * (end - start) for k, (end, start) in enumerate(steps))


def next_bracket(
    number: int,
    rounds: int,
    reduction: int,
    left: float,
    least: int,
    cost_fn: Callable[[Bracket], float] = operator.attrgetter("rounds"),
) -> Bracket | None:
    """The bracket of a number, from 0, that fits into what is left of a budget; None: none does.

    Args:
      number: Brackets come in Hyperband's order, from the one with most arms and shortest rungs on, again and again.
      rounds: Rounds of a whole run.
      reduction: One of so many arms survives a rung.
      left: What is left of the budget.
      least: Rounds before arms are first compared, at least.
      cost_fn: What a bracket costs, by default its rounds.
    """
    shapes = _shapes(rounds, reduction, least)
    bracket, following = (shapes[n % len(shapes)] for n in (number, number + 1))
    pair = Bracket(2, (rounds,), reduction)
    if left >= cost_fn(bracket) + min(cost_fn(following), cost_fn(pair)):
        return bracket
    # The last one: of this shape, or else of the first of which two arms fit, or else a whole run.
    for shape in (bracket, *shapes):
        if (fitting := _fitting(shape, left, cost_fn)) is not None:
            return fitting
    run = Bracket(1, (rounds,), reduction)
    return run if left >= cost_fn(run) else None


def _fitting(shape, left, cost_fn):
    """The shape with as many arms as fit; None: fewer than two."""
    found, arms = None, 2
    while cost_fn(larger := dataclasses.replace(shape, arms=arms)) <= left:
        found, arms = larger, arms + 1
    return found


def _shapes(rounds, reduction, least):
    """Hyperband's brackets for a whole budget, without the one of whole runs: comparisons begin when they tell."""
    most = min(_MOST_RUNGS - 1, int(math.log(max(1.0, rounds / least), reduction) + 1e-9))
    found = []
    for steps in range(most, 0, -1) or [0]:
        arms = math.ceil((most + 1) / (steps + 1) * reduction**steps)
        rungs = tuple(rounds // reduction**k for k in range(steps, -1, -1))
        found.append(Bracket(arms, rungs, reduction))
    return found
