"""Client sampling.

A sampler is a pure function of the round, the attempt at it and the seed: a resumed run, or one that samples from
several threads, samples the same clients.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Callable

import numpy as np
import tensorflow_federated as tff

from tff_tx.cohorts import log as cohort_log
from tff_tx.core.errors import UserError, setting

# (round_num, attempt=0) -> distinct client ids. A round with too few reports is retried with attempt 1, 2 and so on:
# independent draws of the same law.
Sampler = Callable[..., list[str]]


def uniform(client_ids: Sequence[str], clients_per_round: int, seed: int | str) -> Sampler:
    """Samples `clients_per_round` clients without replacement, in random order.

    This is `tff.simulation.build_uniform_sampling_fn`; a further attempt at a round draws with another seed. A secret
    key draws with all of its bits: that function has 31.
    """
    ids = list(client_ids)
    check_enough(clients_per_round, len(ids), "training clients")

    def sample(round_num: int, attempt: int = 0) -> list[str]:
        if isinstance(seed, str):
            drawn = generator(seed, round_num, attempt).choice(len(ids), clients_per_round, replace=False)
            return [ids[i] for i in drawn]
        drawing_seed = _hash(seed, round_num, attempt) % 2**31 if attempt else seed % 2**32
        draw = tff.simulation.build_uniform_sampling_fn(range(len(ids)), random_seed=drawing_seed)
        return [ids[i] for i in draw(round_num, clients_per_round)]

    return sample


def poisson(client_ids: Sequence[str], clients_per_round: int, seed: int | str) -> Sampler:
    """Samples every client independently with probability `clients_per_round` / number of clients.

    This is the sampling that the accountants of differential privacy amplify by (Mironov, Talwar and Zhang, "Renyi
    Differential Privacy of the Sampled Gaussian Mechanism", 2019). Sizes vary around `clients_per_round`, binomially,
    and a cohort may be empty. Clients come in the order of `client_ids`.
    """
    ids = list(client_ids)
    check_enough(clients_per_round, len(ids), "training clients")
    probability = clients_per_round / len(ids)

    def sample(round_num: int, attempt: int = 0) -> list[str]:
        sampled = generator(seed, round_num, attempt).random(len(ids)) < probability
        return [ids[i] for i in np.flatnonzero(sampled)]

    return sample


def by_size(client_ids: Sequence[str], clients_per_round: int, seed: int | str, sizes: Mapping[str, int]) -> Sampler:
    """Draws clients one after another, each time in proportion to size among those not drawn yet.

    A client of size s rings after an exponential time of rate s, and the first to ring are sampled (Efraimidis and
    Spirakis, "Weighted random sampling with a reservoir", 2006): the same law, without a loop. They come in the order
    of the draws, so the first k of a cohort are a sample of k clients. Clients without examples are never sampled.
    """
    ids = [c for c in client_ids if sizes[c] > 0]
    check_enough(clients_per_round, len(ids), "training clients that have examples")
    rates = np.array([sizes[c] for c in ids], np.float64)

    def sample(round_num: int, attempt: int = 0) -> list[str]:
        rings = generator(seed, round_num, attempt).standard_exponential(len(ids)) / rates
        first = np.argpartition(rings, clients_per_round - 1)[:clients_per_round]
        return [ids[i] for i in first[np.argsort(rings[first])]]

    return sample


def min_separation(client_ids: Sequence[str], clients_per_round: int, seed: int | str, separation: int) -> Sampler:
    """Samples a client at most once in any `separation` consecutive rounds.

    Clients are partitioned at random into `separation` groups of equal size, give or take one; the groups take turns,
    and `clients_per_round` of a group are drawn uniformly. This is the b-min-sep-participation that
    privacy accounting of tree and banded noise assumes (Choquette-Choo et al. 2023, https://arxiv.org/abs/2306.08153);
    in T rounds a client takes part at most ceil(T / separation) times.
    """
    ids = list(client_ids)
    if clients_per_round > len(ids) // separation:
        raise UserError(
            f"{setting('cohort.min_separation')}={separation} leaves {len(ids) // separation} of the {len(ids)} "
            f"training clients for each round, fewer than {setting('cohort.clients_per_round')}={clients_per_round}: "
            "lower one of them."
        )
    order = generator(seed, "groups", 0).permutation(len(ids))

    def sample(round_num: int, attempt: int = 0) -> list[str]:
        group = order[round_num % separation :: separation]
        drawn = generator(seed, round_num, attempt).choice(group, clients_per_round, replace=False)
        return [ids[i] for i in drawn]

    return sample


def fixed(client_ids: Sequence[str], path: str, rounds: int = 0) -> Sampler:
    """Replays a record: a `cohorts.jsonl`, or any JSON lines with `round_num` and `clients`.

    An incomplete last line, as a kill leaves it, is skipped. `rounds`, from 1, must be in the record. The sampler
    raises `UserError` for a round that the record lacks, and for any second attempt, as there is no other cohort.
    """
    name, known, cohorts = f"{setting('cohort.cohorts')}={path}", frozenset(client_ids), {}
    try:
        for where, record in cohort_log.records(path, name):
            _check_cohort(where, record, known)
            if record["round_num"] in cohorts:
                raise UserError(f"{where}: round {record['round_num']} is recorded for the second time; remove a line.")
            cohorts[record["round_num"]] = record["clients"]
    except OSError as error:
        raise UserError(
            f"{name} cannot be read ({error.strerror}): name the {cohort_log.LOG} of an earlier run, or a file like it."
        ) from error

    def sample(round_num: int, attempt: int = 0) -> list[str]:
        if round_num not in cohorts:
            raise UserError(
                f"{name} has no cohort for round {round_num}: lower {setting('run.rounds')}, or name the record of a "
                "longer run."
            )
        if attempt:
            raise UserError(
                f"{name} has one cohort for round {round_num}, and too few of it reported: lower "
                f"{setting('cohort.min_clients')} or {setting('devices.dropout_rate')}, or set "
                f"{setting('cohort.sampling')}=uniform."
            )
        return list(cohorts[round_num])

    for round_num in range(1, rounds + 1):
        sample(round_num)
    return sample


def generator(seed: int | str, round_num: int, attempt: int) -> np.random.Generator:
    """The generator of an attempt at a round."""
    # A hash, as SeedSequence takes (1, 2) and (1, 2, 0) for the same, and others seed with (seed, round_num) too.
    return np.random.default_rng(_hash(seed, round_num, attempt))


def _hash(seed, round_num, attempt):
    digest = hashlib.sha256(f"cohort/{seed}/{round_num}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:16], "big")


def check_enough(clients_per_round: int, available: int, what: str) -> None:
    """Raises a UserError if a cohort is larger than what there is."""
    if clients_per_round > available:
        raise UserError(
            f"{setting('cohort.clients_per_round')}={clients_per_round} is more than the {available} {what}: lower it, "
            f"or raise {setting('data.num_clients')}."
        )


def _check_cohort(where, record, known):
    clients = record.get("clients")
    if not isinstance(clients, list) or not all(isinstance(c, str) for c in clients):
        raise UserError(f'{where}: clients must be a list of client ids, like ["a", "b"]; correct the line.')
    if len(set(clients)) < len(clients):
        twice = next(c for i, c in enumerate(clients) if c in clients[:i])
        raise UserError(f"{where}: client {twice!r} is named twice; name it once.")
    for client in clients:
        if client not in known:
            raise UserError(
                f"{where}: client {client!r} is not among the {len(known)} training clients; use the data and the "
                "seed that the record was made with."
            )
