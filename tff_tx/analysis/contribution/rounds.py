"""The values of a run's clients: the sum over its rounds of their values in each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Callable

import numpy as np
import pandas as pd

from tff_tx.analysis.contribution import shapley
from tff_tx.analysis.contribution.store import UpdateStore
from tff_tx.config.tools import CONTRIBUTION_METHODS

_EXACT = {"exact": shapley.exact_shapley, "leave_one_out": shapley.leave_one_out}
_SAMPLED = {"gtg_shapley": shapley.gtg_shapley, "truncated_monte_carlo": shapley.truncated_monte_carlo}


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
      **options: Of the method, in `shapley`.

    Returns:
      A row a client, indexed by its id, the most valuable first: `value`, `standard_error` (of sampling alone: the
      root of the sum of squares over rounds), `rounds` it was in. Its `attrs` are `gain`, over all rounds,
      `evaluations` of models, and `seconds`.
    """
    started, gain, evaluations, rows = time.monotonic(), 0.0, 0, []
    for round_num in store.rounds() if rounds is None else rounds:
        clients, state, contributions = store.read(round_num)
        game = shapley.Game(len(clients), _utility(engine, engine.unflatten_state(state), contributions, utility_fn))
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
