"""What all parties draw alike from a shared seed: which rows are held out, and the batches of each epoch."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Batches of common rows.

    Attributes:
      seed: Shared by the parties.
      rows: Number of common rows.
      batch_size: Rows of a batch; the last one of an epoch may have fewer.
      test_share: Share of the rows that is held out.
      common: Number of training rows that all parties have, in federated transfer; None: all.
      further: Number of rows that this party alone has, behind the common ones, in federated transfer.
    """

    seed: int
    rows: int
    batch_size: int
    test_share: float
    common: int | None = None
    further: int = 0

    @property
    def held_out(self) -> int:
        """Number of rows that are held out, at least one."""
        return max(1, round(self.test_share * self.rows))

    def split(self, name: str) -> np.ndarray:
        """Positions of the rows of the split "train", "test", "all" or "further", int64, ascending.

        "all" are those in common. Training rows are also the further ones, which only the party with the labels trains
        on.
        """
        further = np.arange(self.rows, self.rows + self.further)
        if name in ("all", "further"):
            return np.arange(self.rows) if name == "all" else further
        order = np.random.default_rng([self.seed, 0]).permutation(self.rows)
        return np.sort(order[: self.held_out] if name == "test" else np.append(order[self.held_out :], further))

    def known(self, has_labels: bool) -> np.ndarray:
        """Positions of the rows of which a party finds out about its columns, ascending.

        In federated transfer those of a party without labels are the common ones and those that it predicts, its own.
        """
        if self.common is None or has_labels:
            return self.split("train")
        return np.sort(np.concatenate([self.common_rows(), self.split("test"), self.split("further")]))

    def batches(self, split: str, epoch: int) -> list[np.ndarray]:
        """Positions of the rows of each batch: shuffled in training, in order otherwise.

        Those of the split "common" are as many as those of "train", each with the next of the common training rows.
        """
        if split == "common":
            return [self.batch(split, epoch, number) for number in range(len(self.batches("train", epoch)))]
        rows = _order(self, split, epoch if split == "train" else 0)
        return [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]

    def batch(self, split: str, epoch: int, number: int) -> np.ndarray:
        """One of `batches`; of the split "common" for any number, as only one party knows how many it has."""
        if split != "common":
            rows, start = _order(self, split, epoch if split == "train" else 0), number * self.batch_size
            if not 0 <= start < len(rows):
                raise IndexError(f"the split {split} has no batch {number}")
            return rows[start : start + self.batch_size]
        available = self.rows - self.held_out
        common = available if self.common is None else min(self.common, available)
        size = min(self.batch_size, common)
        passes = -(-size * (number + 1) // common)
        return _common_order(self, epoch, (passes - 1).bit_length())[size * number : size * (number + 1)]

    def common_rows(self) -> np.ndarray:
        """Positions of the training rows that all parties have, in federated transfer."""
        in_common = self.split("train")[: self.rows - self.held_out]
        return np.random.default_rng([self.seed, 2]).permutation(in_common)[: self.common]

    def present(
        self, rows: int, parties: Sequence[str], always: str, missing: float, epoch: int, batch: int
    ) -> np.ndarray:
        """Entity dropout: bool [rows, parties], where each row goes without each party but one with a probability."""
        draw = np.random.default_rng(self.key("missing", epoch, batch).view(np.uint64))
        present = draw.random([rows, len(parties)]) >= missing
        present[:, [name == always for name in parties]] = True
        return present

    def key(self, purpose: str, epoch: int, batch: int) -> np.ndarray:
        """A seed of random numbers, int64 [2], different for each purpose, epoch and batch."""
        return secret_key(self.seed, purpose, epoch, batch)


@functools.lru_cache(maxsize=8)
def _order(schedule: Schedule, split: str, epoch: int) -> np.ndarray:
    """Positions of a split's rows in the order of an epoch, read-only as they are cached."""
    rows = schedule.split(split)
    if split == "train":
        rows = rows[np.random.default_rng([schedule.seed, 1, epoch]).permutation(len(rows))]
    rows.flags.writeable = False
    return rows


@functools.lru_cache(maxsize=8)
def _common_order(schedule: Schedule, epoch: int, doublings: int) -> np.ndarray:
    """The first 2^doublings passes over the common rows: an epoch draws each twice at most, however many it needs."""
    rows, draw = schedule.common_rows(), np.random.default_rng([schedule.seed, 3, epoch])
    passes = np.concatenate([draw.permutation(rows) for _ in range(2**doublings)])
    passes.flags.writeable = False
    return passes


def secret_key(secret: int, purpose: str, *where: int) -> np.ndarray:
    """A seed of random numbers that only who knows the secret can draw: int64 [2]."""
    words = [secret, zlib.crc32(purpose.encode()), *where]
    return np.random.SeedSequence(words).generate_state(2, np.uint64).view(np.int64)
