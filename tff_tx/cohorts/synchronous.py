"""Who takes part in a round: whom the sampler names, of those who is available, of those who reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable

from tff_tx.cohorts.devices import Devices
from tff_tx.cohorts.sampling import Cohort, Sampler


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
    """Joins a sampler and simulated devices.

    Args:
      sample: From (round, attempt) to the ids of clients that may be asked.
      arguments_fn: From (ids, round) to what the process is told of each.
      devices: The clients' devices; None: all report at once.
      goal: How many reports a round needs, see `Devices.simulate`.
      limit: How many of the available are asked; None: all.
      num_examples: By client id, how many examples it trains on a round.
      bytes_per_client: What a client receives and sends a round.

    Returns:
      From (round, attempt, simulated seconds at its start) to the cohort; depends on nothing else.
    """
    devices = devices or Devices()

    def cohort(round_num: int, attempt: int = 0, start: float = 0.0) -> Cohort:
        asked = devices.select(sample(round_num, attempt), start, limit)
        result = devices.simulate(asked, num_examples or {}, bytes_per_client, goal, round_num, start, attempt)
        return Cohort(
            asked=asked,
            reported=result.reported,
            arguments=arguments_fn(result.reported, round_num),
            dropped=result.dropped,
            stragglers=result.stragglers,
            seconds=result.seconds,
        )

    return cohort
