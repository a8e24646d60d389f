"""Which examples train, validate and test: pure functions to one split code per example.

A part is a fraction in (0, 1) or a whole number of at least 1; 0 means none. Every function leaves
at least one example, client, or example of each client, to train on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Callable

import numpy as np

from tff_tx.core.errors import UserError, setting

TRAIN, VALIDATION, TEST = 0, 1, 2
NAMES = ("train", "validation", "test")


def by_example(num_examples: int, validation: float, test: float, rng: np.random.Generator) -> np.ndarray:
    """Draws examples at random, whoever owns them; int8 [num_examples]."""
    return _draw(num_examples, "example", validation, test, rng)


def by_client(owners: np.ndarray, validation: float, test: float, rng: np.random.Generator) -> np.ndarray:
    """Holds out whole clients; int8 of the shape of `owners` (client indices from 0 without gaps)."""
    num_clients = int(owners.max()) + 1
    return _draw(num_clients, "client", validation, test, rng)[owners]


def _draw(count: int, unit: str, validation: float, test: float, rng) -> np.ndarray:
    num_validation, num_test = _amount(count, validation), _amount(count, test)
    if num_validation + num_test >= count:
        raise UserError(
            f"{setting('data.validation_fraction')}={validation:g} and {setting('data.test_fraction')}={test:g} take "
            f"{num_validation + num_test} of {count} {unit}s and leave none to train on; lower them."
        )
    codes = np.full(count, TRAIN, dtype=np.int8)
    order = rng.permutation(count)
    codes[order[:num_test]] = TEST
    codes[order[num_test : num_test + num_validation]] = VALIDATION
    return codes


def _amount(count: int, part: float) -> int:
    if part >= 1:
        return int(part)
    return max(1, round(part * count)) if part else 0


def within_client(owners: np.ndarray, validation: float, test: float, rng: np.random.Generator) -> np.ndarray:
    """Takes the same part of every client's examples, at random; int8 of the shape of `owners`.

    A client always keeps one example to train on; what it has beyond that goes to test first. A client too small for a
    part is missing in that split; that all are is an error.
    """
    num_validation, num_test = _amounts_of_clients("within_client", np.bincount(owners), validation, test)
    return _first_in_order(owners, rng.permutation(len(owners)), num_validation, num_test)


def in_time(owners: np.ndarray, validation: float, test: float, rng: np.random.Generator | None = None) -> np.ndarray:
    """Takes the last part of every client's examples, as stored, for testing, and the part before it for validation.

    For examples that are in the order of time: nothing is trained on that comes after what is tested. int8 of the
    shape of `owners`. Sizes are those of `within_client`, and so is what is raised.
    """
    num_validation, num_test = _amounts_of_clients("time", np.bincount(owners), validation, test)
    return _first_in_order(owners, -np.arange(len(owners)), num_validation, num_test)


def by_borders(owners: np.ndarray, borders: Sequence[int]) -> np.ndarray:
    """The first records of every client train, the next validate and the next test, so many of each; int8 as `owners`.

    Those after them are in no split, -1.
    """
    sizes = np.bincount(owners)
    order = np.argsort(owners, kind="stable")
    rank = np.empty(len(owners), dtype=np.int64)
    rank[order] = np.arange(len(owners)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    ends = np.cumsum(borders)
    if sizes.max() <= ends[1]:
        raise UserError(
            f"{setting('data.borders')}={','.join(map(str, borders))} leave nothing to test on, as the largest client "
            f"has {sizes.max()} records; lower them."
        )
    codes = np.searchsorted(ends, rank, side="right")
    return np.where(codes < len(NAMES), codes, -1).astype(np.int8)


def _amounts_of_clients(split: str, sizes: np.ndarray, validation: float, test: float) -> tuple:
    """(validation, test) examples of each client."""
    spare = sizes - 1
    num_test = np.minimum(_amounts(sizes, test), spare)
    num_validation = np.minimum(_amounts(sizes, validation), spare - num_test)
    for name, part, taken in (("test", test, num_test), ("validation", validation, num_validation)):
        if part and not taken.any():
            raise UserError(
                f"{setting('data.split')}={split} with {setting(f'data.{name}_fraction')}={part:g} takes no example "
                f"of any client, as the largest has {sizes.max()}; raise the fraction or use "
                f"{setting('data.split')}=client."
            )
    return num_validation, num_test


def _first_in_order(owners, order_within, num_validation, num_test):
    """Each client's first examples, by `order_within`, for testing, the next for validation."""
    sizes = np.bincount(owners)
    order = np.lexsort((order_within, owners))
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    rank = np.empty(len(owners), dtype=np.int64)
    rank[order] = np.arange(len(owners)) - np.repeat(starts, sizes)
    codes = np.full(len(owners), TRAIN, dtype=np.int8)
    codes[rank < (num_test + num_validation)[owners]] = VALIDATION
    codes[rank < num_test[owners]] = TEST
    return codes


def _amounts(sizes: np.ndarray, part: float) -> np.ndarray:
    if part >= 1:
        return np.full(len(sizes), int(part))
    return np.rint(part * sizes).astype(np.int64)


@dataclasses.dataclass(frozen=True)
class Split:
    """A way of holding out.

    Attributes:
      draw: (owners int64 [rows], validation, test, generator) -> int8 [rows].
      before_dealing: Whether rows are drawn before they have owners; `owners` then numbers the rows.
      keeps_order: Whether what a client has in a split are successive records.
      within_clients: Whether records of training clients are held out.
    """

    draw: Callable[[np.ndarray, float, float, np.random.Generator], np.ndarray]
    before_dealing: bool = False
    keeps_order: bool = False
    within_clients: bool = False

    @property
    def is_in_time(self) -> bool:
        """Whether it holds out the records of each client that come last."""
        return self.keeps_order and self.within_clients


CLIENT = Split(by_client, keeps_order=True)
WITHIN_CLIENT = Split(within_client, within_clients=True)
TIME = Split(in_time, keeps_order=True, within_clients=True)
EXAMPLE = Split(lambda rows, validation, test, rng: by_example(len(rows), validation, test, rng), before_dealing=True)

AUTO = CLIENT
"""If the data have clients and keep them; else `EXAMPLE`."""
