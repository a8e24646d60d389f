"""Samplers that learn from clients' losses whom to ask: Oort, power-of-choice and a bandit.

They are pure functions of round, attempt, seed and the losses of the rounds before. A share of every cohort goes to the
clients that were not selected for longest, so that each is selected again and again whatever its loss.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from tff_tx.cohorts.feedback import Feedback
from tff_tx.cohorts.sampling import Sampler, check_enough, generator

_PACE = 20
"""Rounds of Oort's pacer."""


@dataclasses.dataclass(frozen=True)
class Known:
    """What adaptive samplers go by.

    Attributes:
      feedback: Losses of the rounds before.
      sizes: Number of examples by client id.
      seconds: Simulated seconds of a client's round, by id; empty: all take as long.
      floor: Share of a cohort that goes to the clients that took part least recently.
    """

    feedback: Feedback
    sizes: Mapping[str, int]
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    floor: float = 0.1


@dataclasses.dataclass(frozen=True)
class _View:
    """The clients at the beginning of a round, arrays by client: float64 or int [clients].

    Attributes:
      losses: The last loss; not a number of a client that has none.
      last: The last round in which it took part, 0: none.
      sizes: Number of examples.
      seconds: Duration.
      rounds: Losses of each round before, by the client's place.
    """

    losses: np.ndarray
    last: np.ndarray
    sizes: np.ndarray
    seconds: np.ndarray
    rounds: list[dict[int, float]]


def _sampler(client_ids, clients_per_round, seed, known: Known, rank) -> Sampler:
    """A sampler that prefers clients by `rank(view, round_num, rng)`: places, best first, any number of them."""
    ids = [c for c in client_ids if known.sizes[c] > 0]
    check_enough(clients_per_round, len(ids), "training clients that have examples")
    places = {c: i for i, c in enumerate(ids)}
    sizes = np.array([known.sizes[c] for c in ids], np.float64)
    seconds = np.array([known.seconds.get(c, 1.0) for c in ids])
    fair = math.ceil(round(known.floor * clients_per_round, 6))

    def sample(round_num: int, attempt: int = 0) -> list[str]:
        rounds = [{places[c]: v for c, v in r.items() if c in places} for r in known.feedback.rounds(round_num)]
        losses, last = np.full(len(ids), np.nan), np.zeros(len(ids), np.int64)
        for number, found in enumerate(rounds, 1):
            for place, loss in found.items():
                losses[place], last[place] = loss, number
        rng = generator(seed, round_num, attempt)
        ties = rng.permutation(len(ids))
        oldest = ties[np.argsort(last[ties], kind="stable")][:fair]
        ranked = rank(_View(losses, last, sizes, seconds, rounds), round_num, rng)
        chosen = dict.fromkeys([*oldest.tolist(), *ranked, *ties.tolist()])
        return [ids[i] for i in list(chosen)[:clients_per_round]]

    return sample


def power_of_choice(client_ids: Sequence[str], clients_per_round: int, seed: int | str, known: Known) -> Sampler:
    """Draws twice as many candidates in proportion to size, and samples those with the largest last losses.

    Cho, Wang and Joshi 2020, "Client Selection in Federated Learning: Convergence Analysis and Power-of-Choice
    Selection Strategies", https://arxiv.org/abs/2010.01243, in its variant rpow-d: the loss is that of the last round
    in which a client took part, infinite before the first.
    """

    def rank(view, round_num, rng):
        rings = rng.standard_exponential(len(view.sizes)) / view.sizes
        candidates = np.argsort(rings)[: 2 * clients_per_round]
        losses = np.where(np.isnan(view.losses), np.inf, view.losses)[candidates]
        return candidates[np.argsort(-losses, kind="stable")].tolist()

    return _sampler(client_ids, clients_per_round, seed, known, rank)


def bandit(client_ids: Sequence[str], clients_per_round: int, seed: int | str, known: Known) -> Sampler:
    """Samples the clients with the largest discounted upper confidence bound on their loss, weighted by size.

    Cho, Gupta, Joshi and Yagan 2020, "Bandit-based Communication-Efficient Client Selection Strategies for Federated
    Learning", https://arxiv.org/abs/2012.08009 (UCB-CS): p_k (L_k / N_k + sqrt(2 s^2 log T / N_k)) with sums L_k of
    losses and N_k of participations that are discounted by 0.7 a round, and s the deviation of the last losses.
    """
    discount = 0.7

    def rank(view, round_num, rng):
        sums, counts, total = np.zeros(len(view.sizes)), np.zeros(len(view.sizes)), 0.0
        for losses in view.rounds:
            sums, counts, total = discount * sums, discount * counts, discount * total + 1.0
            for place, loss in losses.items():
                sums[place] += loss
                counts[place] += 1.0
        spread = np.nanstd(view.losses) if view.rounds else 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = sums / counts + np.sqrt(2 * spread**2 * math.log(max(total, 1.0)) / counts)
        bound = np.where(counts > 0, view.sizes / view.sizes.sum() * bound, np.inf)
        ties = rng.permutation(len(bound))
        return ties[np.argsort(-bound[ties], kind="stable")].tolist()

    return _sampler(client_ids, clients_per_round, seed, known, rank)


def oort(client_ids: Sequence[str], clients_per_round: int, seed: int | str, known: Known) -> Sampler:
    """Samples clients whose data are still hard for the model and whose devices are fast, and explores the others.

    Lai, Zhu, Madhyastha and Chowdhury 2021, "Oort: Efficient Federated Learning via Guided Participant Selection",
    https://arxiv.org/abs/2010.06081, Algorithm 1: utility n_k loss_k + sqrt(0.1 log R / last_k), clipped at its 95th
    percentile, times (T / t_k)^2 where a client's time t_k exceeds T. 1 - epsilon of a cohort is drawn in proportion to
    utility from those above 95 % of the last that would be exploited; the rest from clients never asked, fast ones
    first. Epsilon falls from 0.9 by 2 % a round to 0.2. T begins as the 30th percentile of durations, and is raised by
    5 points whenever 20 rounds add up to less utility than the 20 before. Where the paper takes the root mean square of
    examples' losses, this takes their mean, which clients report anyway.
    """

    def rank(view, round_num, rng):
        explored = np.flatnonzero(view.last > 0)
        fresh = np.flatnonzero(view.last == 0)
        epsilon = max(0.2, 0.9 * 0.98 ** (round_num - 1))
        exploit = min(len(explored), round((1 - epsilon) * clients_per_round)) if len(fresh) else len(explored)
        chosen = _exploited(view, explored, min(exploit, clients_per_round), round_num, rng)
        rings = rng.standard_exponential(len(fresh)) * view.seconds[fresh]
        return [*chosen, *fresh[np.argsort(rings)].tolist(), *explored.tolist()]

    return _sampler(client_ids, clients_per_round, seed, known, rank)


def _exploited(view, explored, number, round_num, rng):
    """Places of the explored clients that Oort exploits."""
    if not number:
        return []
    utility = view.sizes[explored] * view.losses[explored]
    utility = np.minimum(utility, np.quantile(utility, 0.95))
    utility = utility + np.sqrt(0.1 * math.log(round_num) / view.last[explored])
    preferred = np.quantile(view.seconds, _pace(view) / 100)
    seconds = view.seconds[explored]
    utility = np.where(seconds > preferred, utility * (preferred / np.maximum(seconds, 1e-30)) ** 2, utility)
    cutoff = 0.95 * np.sort(utility)[-number]
    rings = rng.standard_exponential(len(utility)) / np.maximum(utility, 1e-30)
    rings = np.where(utility >= cutoff, rings, np.inf)
    return explored[np.argsort(rings, kind="stable")[:number]].tolist()


def _pace(view):
    """Percentile of the preferred duration."""
    utility = [sum(view.sizes[place] * loss for place, loss in losses.items()) for losses in view.rounds]
    windows = [sum(utility[i : i + _PACE]) for i in range(0, len(utility) - _PACE + 1, _PACE)]
    return min(100, 30 + 5 * sum(later < earlier for earlier, later in zip(windows, windows[1:])))
