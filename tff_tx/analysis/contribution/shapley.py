"""Values of the players of a game: leave-one-out and the Shapley value, exactly and from samples.

The Shapley value of player i is the mean, over all orders in which the players may come, of what i adds to those before
it (Shapley 1953). The values of all players sum to what all of them gain together.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable
from typing import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Values:
    """What players are worth.

    Attributes:
      values: float64[n].
      standard_errors: float64[n], of sampling alone; 0 where nothing was sampled.
      orders: How many orders of the players were sampled.
    """

    values: np.ndarray
    standard_errors: np.ndarray
    orders: int = 0


class Game:
    """Players and the utility of each coalition of them, each evaluated once.

    Args:
      num_players: n.
      utility_fn: From a coalition, players 0 to n - 1 in ascending order, to its utility.
    """

    def __init__(self, num_players: int, utility_fn: Callable[[tuple[int, ...]], float]):
        self.num_players, self._utility_fn = num_players, utility_fn
        self._known: dict[tuple[int, ...], float] = {}

    @property
    def evaluations(self) -> int:
        """How many coalitions have been evaluated."""
        return len(self._known)

    def utility(self, coalition: Iterable[int]) -> float:
        """The utility of a coalition."""
        key = tuple(sorted(coalition))
        if key not in self._known:
            self._known[key] = float(self._utility_fn(key))
        return self._known[key]

    @property
    def everyone(self) -> tuple[int, ...]:
        """The coalition of all players."""
        return tuple(range(self.num_players))

    @property
    def gain(self) -> float:
        """What all players together add to nobody."""
        return self.utility(self.everyone) - self.utility(())


def leave_one_out(game: Game) -> Values:
    """What is lost without each player: v(N) - v(N - i). These values do not sum to the gain. n + 1 evaluations."""
    everyone = set(game.everyone)
    values = [game.utility(everyone) - game.utility(everyone - {i}) for i in game.everyone]
    return Values(np.array(values), np.zeros(game.num_players))


def exact_shapley(game: Game) -> Values:
    """The Shapley value, from all 2^n coalitions."""
    n = game.num_players
    values = np.zeros(n)
    for i in range(n):
        others = [j for j in range(n) if j != i]
        for size in range(n):
            weight = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
            for coalition in itertools.combinations(others, size):
                values[i] += weight * (game.utility((*coalition, i)) - game.utility(coalition))
    return Values(values, np.zeros(n))


def truncated_monte_carlo(
    game: Game, seed: int, truncation: float = 0.0, tolerance: float = 0.05, max_sweeps: int = 50
) -> Values:
    """The Shapley value from random orders (Ghorbani and Zou 2019, https://arxiv.org/abs/1904.02868, Algorithm 1).

    As soon as those who came are within `truncation` of the gain from the utility of all, the others are not evaluated:
    they share what is left equally (in the paper it is lost), so that values sum to the gain. Orders are drawn n at a
    time, a sweep, as in `gtg_shapley`.

    Args:
      game: The game.
      seed: Decides the orders.
      truncation: A share of the gain.
      tolerance: Sampling stops, after three sweeps or more, when no standard error is above this share of the largest
        value (by magnitude).
      max_sweeps: When it stops in any case.
    """
    rng = np.random.default_rng(seed)
    n = game.num_players
    return _sampled(game, lambda: [rng.permutation(n) for _ in range(n)], truncation, tolerance, max_sweeps)


def gtg_shapley(
    game: Game,
    seed: int,
    round_truncation: float = 0.0,
    truncation: float = 0.0,
    tolerance: float = 0.05,
    max_sweeps: int = 50,
) -> Values:
    """The Shapley value by guided truncation (GTG-Shapley, Liu et al. 2022, https://arxiv.org/abs/2109.02053).

    Algorithm 1: a round that changed the utility by `round_truncation` or less is not looked into (its change is shared
    equally; in the paper it is dropped); orders are truncated as in `truncated_monte_carlo`; and sampling is guided:
    every player comes first in one order of each sweep, in which the others follow in random order, as the first of an
    order adds most.

    In the mean over all orders a player is first in one of n, as here, so that guidance adds no bias. Standard errors
    are those of the mean over sweeps.

    Args:
      game: The game of one round.
      seed: Decides the orders.
      round_truncation: In units of utility.
      truncation: As of `truncated_monte_carlo`.
      tolerance: As of `truncated_monte_carlo`.
      max_sweeps: As of `truncated_monte_carlo`.
    """
    n = game.num_players
    if abs(game.gain) <= round_truncation:
        return Values(np.full(n, game.gain / n), np.zeros(n))
    rng = np.random.default_rng(seed)

    def sweep():
        return [[first, *rng.permutation([i for i in range(n) if i != first])] for first in range(n)]

    return _sampled(game, sweep, truncation, tolerance, max_sweeps)


def _sampled(game, sweep_fn, truncation, tolerance, max_sweeps):
    if game.num_players == 1:
        return Values(np.array([game.gain]), np.zeros(1))
    sweeps = []
    while True:
        orders = sweep_fn()
        sweeps.append(np.mean([_added(game, order, truncation) for order in orders], axis=0))
        if len(sweeps) < min(3, max_sweeps):
            continue
        values = np.mean(sweeps, axis=0)
        errors = np.full(len(values), np.nan)
        if len(sweeps) > 1:
            errors = np.std(sweeps, axis=0, ddof=1) / math.sqrt(len(sweeps))
        if len(sweeps) >= max_sweeps or np.max(errors) <= tolerance * np.max(np.abs(values)):
            return Values(values, errors, len(sweeps) * len(orders))


def _added(game, order, truncation):
    """What each player adds to those before it."""
    added, utility, everyone = np.zeros(len(order)), game.utility(()), game.utility(game.everyone)
    near = truncation * abs(game.gain)
    for position, player in enumerate(order):
        if position and abs(everyone - utility) <= near:
            added[list(order[position:])] = (everyone - utility) / (len(order) - position)
            break
        after = game.utility(order[: position + 1])
        added[player], utility = after - utility, after
    return added
