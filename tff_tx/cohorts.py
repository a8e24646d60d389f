"""Who is asked in a round, and the record of who was.

A sampler is a pure function of the round, the attempt at it and the seed: a run that is resumed, or asks from several
threads, asks the same clients.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable

import numpy as np
import tensorflow_federated as tff

from tff_tx.errors import UserError

LOG = "cohorts.jsonl"

# (round_num, attempt=0) -> distinct client ids. A round too few clients reported in is tried again with attempt 1, 2
# and so on: independent draws of the same law.
Sampler = Callable[..., list[str]]


@dataclasses.dataclass(frozen=True)
class Cohort:
    """The clients of one attempt at a round.

    Attributes:
      asked: Ids of the clients that were asked.
      reported: Of those, who reports in time: the clients to train.
      arguments: What the process is told of each of `reported`, in their order.
      dropped: Who vanishes.
      stragglers: Who would be late.
      seconds: Simulated duration.
    """

    asked: Sequence[str]
    reported: Sequence[str]
    arguments: Sequence[Any]
    dropped: Sequence[str] = ()
    stragglers: Sequence[str] = ()
    seconds: float = 0.0


def uniform(client_ids: Sequence[str], clients_per_round: int, seed: int) -> Sampler:
    """Asks `clients_per_round` clients, every set of so many as likely as any other, in random order.

    This is `tff.simulation.build_uniform_sampling_fn`; a further attempt at a round draws with another seed.
    """
    ids = list(client_ids)
    _check_enough(clients_per_round, len(ids), "training clients")

    def sample(round_num: int, attempt: int = 0) -> list[str]:
        drawing_seed = _hash(seed, round_num, attempt) % 2**31 if attempt else seed
        draw = tff.simulation.build_uniform_sampling_fn(range(len(ids)), random_seed=drawing_seed)
        return [ids[i] for i in draw(round_num, clients_per_round)]

    return sample


def poisson(client_ids: Sequence[str], clients_per_round: int, seed: int) -> Sampler:
    """Asks every client independently with probability `clients_per_round` / number of clients.

    This is the sampling that the accountants of differential privacy amplify by (Mironov, Talwar and Zhang, "Renyi
    Differential Privacy of the Sampled Gaussian Mechanism", 2019). Sizes vary around `clients_per_round`, binomially,
    and a cohort may be empty. Clients come in the order of `client_ids`.
    """
    ids = list(client_ids)
    _check_enough(clients_per_round, len(ids), "training clients")
    probability = clients_per_round / len(ids)

    def sample(round_num: int, attempt: int = 0) -> list[str]:
        asked = _generator(seed, round_num, attempt).random(len(ids)) < probability
        return [ids[i] for i in np.flatnonzero(asked)]

    return sample


def by_size(client_ids: Sequence[str], clients_per_round: int, seed: int, sizes: Mapping[str, int]) -> Sampler:
    """Draws clients one after another, each time in proportion to size among those not drawn yet.

    A client of size s rings after an exponential time of rate s, and the first to ring are asked (Efraimidis and
    Spirakis, "Weighted random sampling with a reservoir", 2006): the same law, without a loop. They come in the order
    of the draws, so the first k of a cohort are what a sampler of k clients could have asked. Clients without examples
    are never asked.

    Args:
      client_ids: Whom to draw from.
      clients_per_round: The size of a cohort.
      seed: Decides the draws.
      sizes: Number of examples by client id, for all of `client_ids`.

    Raises:
      UserError: If fewer than `clients_per_round` clients have examples.
    """
    ids = [c for c in client_ids if sizes[c] > 0]
    _check_enough(clients_per_round, len(ids), "training clients that have examples")
    rates = np.array([sizes[c] for c in ids], np.float64)

    def sample(round_num: int, attempt: int = 0) -> list[str]:
        rings = _generator(seed, round_num, attempt).standard_exponential(len(ids)) / rates
        first = np.argpartition(rings, clients_per_round - 1)[:clients_per_round]
        return [ids[i] for i in first[np.argsort(rings[first])]]

    return sample


def min_separation(client_ids: Sequence[str], clients_per_round: int, seed: int, separation: int) -> Sampler:
    """Asks a client at most once in any `separation` consecutive rounds.

    Clients are dealt at random to as many groups of equal size, give or take one; the groups take turns, and of the
    group whose turn it is `clients_per_round` are drawn uniformly. This is the b-min-sep-participation that
    privacy accounting of tree and banded noise assumes (Choquette-Choo et al. 2023, https://arxiv.org/abs/2306.08153);
    in T rounds a client takes part at most ceil(T / separation) times.

    Args:
      client_ids: Whom to draw from.
      clients_per_round: The size of a cohort.
      seed: Decides groups and draws.
      separation: b, at least 1.

    Raises:
      UserError: If a group has fewer than `clients_per_round` clients.
    """
    ids = list(client_ids)
    if clients_per_round > len(ids) // separation:
        raise UserError(
            f"--min_separation={separation} leaves {len(ids) // separation} of the {len(ids)} training clients for "
            f"each round, fewer than --clients_per_round={clients_per_round}: lower one of them."
        )
    order = _generator(seed, "groups", 0).permutation(len(ids))

    def sample(round_num: int, attempt: int = 0) -> list[str]:
        group = order[round_num % separation :: separation]
        drawn = _generator(seed, round_num, attempt).choice(group, clients_per_round, replace=False)
        return [ids[i] for i in drawn]

    return sample


def fixed(client_ids: Sequence[str], path: str, rounds: int = 0) -> Sampler:
    """Asks whom a record names: a `cohorts.jsonl`, or any JSON lines with `round_num` and `clients`.

    Args:
      client_ids: Whom the record may name.
      path: The record, the value of --cohorts. A last line that a kill tore off is passed over.
      rounds: How many rounds, from 1, must be in the record.

    Returns:
      The sampler; it raises `UserError` for a round that the record lacks, and for any second attempt, as there is
      nobody else to ask.

    Raises:
      UserError: If the record cannot be read, is malformed, names an unknown client, or lacks one of `rounds`.
    """
    flag, known, cohorts = f"--cohorts={path}", frozenset(client_ids), {}
    try:
        for where, record in _records(path, flag):
            _check_cohort(where, record, known)
            if record["round_num"] in cohorts:
                raise UserError(f"{where}: round {record['round_num']} is recorded for the second time; drop a line.")
            cohorts[record["round_num"]] = record["clients"]
    except OSError as error:
        raise UserError(
            f"{flag} cannot be read ({error.strerror}): name the {LOG} of an earlier run, or a file like it."
        ) from error

    def sample(round_num: int, attempt: int = 0) -> list[str]:
        if round_num not in cohorts:
            raise UserError(
                f"{flag} has no cohort for round {round_num}: lower --rounds, or name the record of a run as long."
            )
        if attempt:
            raise UserError(
                f"{flag} has one cohort for round {round_num}, and too few of it reported: lower --min_clients or "
                "--dropout_rate, or draw cohorts with --sampling=uniform."
            )
        return list(cohorts[round_num])

    for round_num in range(1, rounds + 1):
        sample(round_num)
    return sample


SAMPLERS = {
    "uniform": uniform,
    "poisson": poisson,
    "by_size": by_size,
    "min_separation": min_separation,
    "fixed": fixed,
}


def build_sampler(
    name: str,
    client_ids: Sequence[str],
    clients_per_round: int,
    seed: int,
    sizes: Mapping[str, int] | None = None,
    path: str | None = None,
    rounds: int = 0,
    separation: int = 1,
) -> Sampler:
    """Builds a sampler of `SAMPLERS`.

    Args:
      name: Its name.
      client_ids: Whom it may ask.
      clients_per_round: The size of a cohort, for `poisson` the mean size; unused by `fixed`.
      seed: Decides the draws.
      sizes: Number of examples by client id, for `by_size`.
      path: The record, for `fixed`.
      rounds: How many rounds must be in the record, for `fixed`.
      separation: Rounds from one participation of a client to the next, for `min_separation`.

    Returns:
      From (round_num, attempt=0) to distinct client ids.

    Raises:
      UserError: If there are too few clients, or the record of `fixed` will not do.
    """
    if name == "fixed":
        return fixed(client_ids, path, rounds)
    if name == "by_size":
        return by_size(client_ids, clients_per_round, seed, sizes)
    if name == "min_separation":
        return min_separation(client_ids, clients_per_round, seed, separation)
    return SAMPLERS[name](client_ids, clients_per_round, seed)


class DownloadLedger:
    """What clients download where the server sends out what changes, round by round.

    A client that was last asked in round s needs, in round t, the changes of rounds s + 1 to t, or the model, whichever
    is less; one that is asked for the first time needs the model.
    """

    def __init__(self):
        self._sums: dict[int, int] = {0: 0}
        self._asked: dict[str, int] = {}
        self._last = 0

    def mean_bytes(self, clients: Sequence[str], delta_bytes: int, model_bytes: int) -> float:
        """Bytes a client downloads in the next round, in the mean over those that are asked.

        Args:
          clients: Who is asked.
          delta_bytes: What the round's change takes.
          model_bytes: What the model takes.
        """
        total = self._sums[self._last] + delta_bytes
        needed = [
            min(model_bytes, total - self._sums[self._asked[c]]) if c in self._asked else model_bytes for c in clients
        ]
        return sum(needed) / max(1, len(needed))

    def add(self, round_num: int, clients: Sequence[str], delta_bytes: int) -> None:
        """Records a round, later than those before it."""
        self._sums[round_num] = self._sums[self._last] + delta_bytes
        self._last = round_num
        self._asked.update(dict.fromkeys(clients, round_num))


class CohortLog:
    """The record of the cohorts of a run, a JSON object a line in `cohorts.jsonl`; `fixed` replays it.

    A line is on the disk before `append` returns. What a kill leaves of a line is dropped when the log is opened
    again, and so are rounds after the one that the run resumes from, which will be run anew.

    Attributes:
      ledger: The `DownloadLedger` of the rounds in the log.
    """

    def __init__(self, run_dir: str, resumed_round: int = 0):
        """Opens the log.

        Args:
          run_dir: The directory of the run.
          resumed_round: The last round whose line stays; 0 for a new run.

        Raises:
          UserError: If a line before the last is damaged.
        """
        path = os.path.join(run_dir, LOG)
        kept = []
        if os.path.exists(path):
            kept = [record for _, record in _records(path, path) if record["round_num"] <= resumed_round]
        temporary = f"{path}.tmp"
        with open(temporary, "wb") as file:
            file.write(b"".join(map(_line, kept)))
            _flush(file)
        os.replace(temporary, path)
        self._seconds = sum((record.get("seconds", 0.0) for record in kept), 0.0)
        self.ledger = DownloadLedger()
        for record in kept:
            self.ledger.add(record["round_num"], record["clients"], record.get("delta_bytes", 0))
        self._file = open(path, "ab")  # noqa: SIM115

    @property
    def seconds(self) -> float:
        """Simulated seconds of all rounds in the log: when the next one starts."""
        return self._seconds

    def append(
        self,
        round_num: int,
        attempt: int,
        clients: Sequence[str],
        reported: Sequence[str],
        dropped: Sequence[str] = (),
        stragglers: Sequence[str] = (),
        failed: Mapping[str, str] | None = None,
        seconds: float = 0.0,
        delta_bytes: int | None = None,
    ) -> None:
        """Records a round.

        Args:
          round_num: The round, counted from 1.
          attempt: The attempt at it that counted.
          clients: Who was asked.
          reported: Whose work the round used.
          dropped: Who vanished.
          stragglers: Who was too late.
          failed: Whose work failed, and why.
          seconds: Simulated duration of the round, with the attempts before this one.
          delta_bytes: Of the change that was sent out, where that is what is sent.
        """
        record = {
            "round_num": round_num,
            "attempt": attempt,
            "clients": list(clients),
            "reported": list(reported),
            "dropped": list(dropped),
            "stragglers": list(stragglers),
            "failed": dict(failed or {}),
            "seconds": float(seconds),
        }
        if delta_bytes is not None:
            record["delta_bytes"] = delta_bytes
        self.ledger.add(round_num, record["clients"], delta_bytes or 0)
        self._file.write(_line(record))
        _flush(self._file)
        self._seconds += record["seconds"]

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


def _generator(seed, round_num, attempt):
    # A hash, as SeedSequence takes (1, 2) and (1, 2, 0) for the same, and others seed with (seed, round_num) too.
    return np.random.default_rng(_hash(seed, round_num, attempt))


def _hash(seed, round_num, attempt):
    digest = hashlib.sha256(f"cohort/{seed}/{round_num}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:16], "big")


def _check_enough(clients_per_round, available, what):
    if clients_per_round > available:
        raise UserError(
            f"--clients_per_round={clients_per_round} is more than the {available} {what}: lower it, or deal the data "
            "to more with --num_clients."
        )


def _records(path: str, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and value of every line that is whole.

    Raises:
      OSError: If the file cannot be read.
      UserError: If a line is no record; the message begins with `name` and the line's number.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{name}, line {number}"
            try:
                record = json.loads(line.decode())
            except ValueError:
                # No beginning of a JSON object is one: without an end of line, this was torn off.
                if not line.endswith(b"\n"):
                    return
                raise UserError(f"{where}: no valid JSON; correct the line or drop it.") from None
            if not isinstance(record, dict) or type(record.get("round_num")) is not int:
                raise UserError(f"{where}: no object with a whole number as round_num; correct the line or drop it.")
            yield where, record


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
                f"{where}: client {client!r} is not among the {len(known)} training clients; use the data flags and "
                "the seed that the record was made with."
            )


def _line(record):
    return json.dumps(record).encode() + b"\n"


def _flush(file):
    file.flush()
    os.fsync(file.fileno())
