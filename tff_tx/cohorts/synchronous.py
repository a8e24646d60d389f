"""Synchronous rounds: sampling, availability and dropouts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from tff_tx.cohorts.devices import Cohort, Devices
from tff_tx.cohorts.sampling import Sampler


def build_cohort_fn(
    sample: Sampler,
    arguments_fn: Callable[[Sequence[str], int], Sequence[Any]],
    *,
    devices: Devices | None = None,
    goal: int = 1,
    limit: int | None = None,
    num_examples: Mapping[str, int] | None = None,
    bytes_per_client: int = 0,
) -> Callable[[int, int, float], Cohort]:
    """Combines a sampler and simulated devices.

    Args:
      sample: From (round, attempt) to the ids of clients that may be selected.
      arguments_fn: From (ids, round) to the process's argument for each.
      devices: The clients' devices; None: all report at once.
      goal: Number of reports that a round needs, see `Devices.simulate`.
      limit: Maximum number of available clients that are selected; None: all.
      num_examples: Examples that a client trains on per round, by its id.
      bytes_per_client: Bytes that a client receives and sends per round.

    Returns:
      From (round, attempt, simulated seconds at its start) to the cohort; depends on nothing else.
    """
    devices = devices or Devices()

    def cohort(round_num: int, attempt: int = 0, start: float = 0.0) -> Cohort:
        selected = devices.select(sample(round_num, attempt), start, limit)
        result = devices.simulate(selected, num_examples or {}, bytes_per_client, goal, round_num, start, attempt)
        return dataclasses.replace(result, arguments=arguments_fn(result.reported, round_num))

    return cohort
