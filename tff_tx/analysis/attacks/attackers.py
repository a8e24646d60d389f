"""Choice of the attackers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def choose_attackers(client_ids: Sequence[str], share: float, seed: int) -> list[str]:
    """Draws the attackers of a run, the same for the same clients and seed.

    Args:
      client_ids: All training clients.
      share: Share of them that attack, from 0 to 1; rounded to a whole number of clients.
      seed: Seed of the choice.

    Returns:
      Their ids, in the order of `client_ids`.

    Raises:
      ValueError: If the share is out of its range.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share={share}: must be from 0 to 1.")
    number = int(np.floor(share * len(client_ids) + 0.5))
    chosen = np.random.default_rng([seed, 0xA77AC]).choice(len(client_ids), number, replace=False)
    return [client_ids[i] for i in sorted(chosen)]
