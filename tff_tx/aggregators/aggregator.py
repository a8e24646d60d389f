"""An aggregator's record: how it is built from settings, and what it needs."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable

from tff_tx.config import AggregationConfig, CohortConfig


@dataclasses.dataclass(frozen=True)
class Aggregator:
    """An aggregator of clients' updates, as `tff_tx.config.registries.AGGREGATORS` lists it by name.

    Attributes:
      build: From the settings to the `tff.aggregators` factory; a weighted one is given clients' weights, an unweighted
        one counts clients equally.
      needs_all_updates: Whether the server holds every client's update of a round, see `GatheringFactory`.
      breakdown: Breakdown point: less than this share of attackers is withstood; None: it is no robust aggregator.
      least_clients: From the number of assumed attackers f in a cohort to the number of clients that its guarantee
        needs; None: any number.

    Raises:
      ValueError: If it has `least_clients` without a `breakdown`.
    """

    build: Callable[[AggregationConfig, CohortConfig], Any]
    needs_all_updates: bool = False
    breakdown: float | None = None
    least_clients: Callable[[int], int] | None = None

    def __post_init__(self):
        if self.least_clients is not None and self.breakdown is None:
            raise ValueError("least_clients needs a breakdown: the share of attackers that those clients withstand.")
