"""Values of clients, the players of a game: leave-one-out and the Shapley value, exactly and from samples.

The Shapley value of player i is the mean, over all orders in which the players may come, of what i adds to those before
it (Shapley 1953). The values of all players sum to what all of them gain together.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Iterable, Sequence
from typing import Any, Callable

import numpy as np
import pandas as pd

from tff_tx.analysis.contribution.store import UpdateStore
from tff_tx.config.tools import CONTRIBUTION_METHODS


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

    As soon as those who came are nearer than `truncation` of the gain to the utility of all, the others are not
    evaluated: they share what is left equally (in the paper it is lost), so that values sum to the gain. Orders are
    drawn n at a time, a sweep, as in `gtg_shapley`.

    Args:
      game: The game.
      seed: Decides the orders.
      truncation: A share of the gain; 0: orders are evaluated to their end.
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
        if position and abs(everyone - utility) < near:
            added[list(order[position:])] = (everyone - utility) / (len(order) - position)
            break
        after = game.utility(order[: position + 1])
        added[player], utility = after - utility, after
    return added


_EXACT = {"exact": exact_shapley, "leave_one_out": leave_one_out}
_SAMPLED = {"gtg_shapley": gtg_shapley, "truncated_monte_carlo": truncated_monte_carlo}


def value_clients(
    engine: Any,
    store: UpdateStore,
    utility_fn: Callable[[Any], float],
    method: str = "gtg_shapley",
    *,
    rounds: Sequence[int] | None = None,
    seed: int = 0,
    on_round: Callable[[int], None] | None = None,
    **options: float,
) -> pd.DataFrame:
    """Values the clients of a run, without training anything again.

    The game of a round is played by its clients. The utility of a coalition is that of the model which the round would
    have led to, from the state it started with, had only they contributed: the run's own aggregation and server
    optimizer make it from the stored contributions. As in GTG-Shapley (Liu et al. 2022) a client's value is the sum
    over the rounds it was in; so the values of all clients sum to what all rounds gained.

    Args:
      engine: A `runtime.LocalEngine` of the run's process; it needs no hooks, whichever the run had.
      store: The run's updates.
      utility_fn: From `ModelWeights` to the model's utility, more being better.
      method: One of `tff_tx.config.tools.CONTRIBUTION_METHODS`.
      rounds: Which rounds; None: all there are.
      seed: Decides what is sampled.
      on_round: Called with each round's number when it is done.
      **options: Of the method.

    Returns:
      A row a client, indexed by its id, the most valuable first: `value`, `standard_error` (of sampling alone: the
      root of the sum of squares over rounds), `rounds` it was in. Its `attrs` are `gain`, over all rounds,
      `evaluations` of models, and `seconds`.
    """
    started, gain, evaluations, rows = time.monotonic(), 0.0, 0, []
    for round_num in store.rounds() if rounds is None else rounds:
        clients, state, contributions = store.read(round_num)
        game = Game(len(clients), _utility(engine, engine.unflatten_state(state), contributions, utility_fn))
        found = _values(game, method, seed + round_num, options)
        gain, evaluations = gain + game.gain, evaluations + game.evaluations
        rows += zip(clients, found.values, found.standard_errors**2)
        if on_round is not None:
            on_round(round_num)
    table = pd.DataFrame(rows, columns=["client", "value", "variance"]).groupby("client")
    result = pd.DataFrame(
        {
            "value": table["value"].sum(),
            "standard_error": np.sqrt(table["variance"].agg(lambda v: v.sum(skipna=False))),
            "rounds": table.size(),
        }
    ).sort_values("value", ascending=False, kind="stable")
    result.attrs = {"gain": gain, "evaluations": evaluations, "seconds": time.monotonic() - started}
    return result


def _utility(engine, state, contributions, utility_fn):
    def utility(coalition):
        after = engine.combine(state, [contributions[i] for i in coalition]) if coalition else state
        return utility_fn(engine.model_weights(after))

    return utility


def _values(game, method, seed, options):
    if method in _EXACT:
        return _EXACT[method](game)
    if method in _SAMPLED:
        return _SAMPLED[method](game, seed, **options)
    raise ValueError(f"method {method!r} must be one of {', '.join(CONTRIBUTION_METHODS)}.")
