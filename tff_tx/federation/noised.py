"""A participant's share of discrete noise, and how often it has given one: what distributed privacy is accounted by."""

from __future__ import annotations

import collections
import os
from collections.abc import Sequence

import numpy as np

from tff_tx.core import files
from tff_tx.federation.layout import Layout
from tff_tx.federation.secure_sums import SecureSumError
from tff_tx.federation.secure_sums.noise import Share


class Noised:
    """Adds noise to a participant's sum, for as many sums as are accounted.

    A sum may be released as soon as its first message has left, whether or not this participant answers later ones.
    Therefore each attempt counts, on the disk before anything leaves.

    Args:
      share: Of the noise.
      path: Of the file with the numbers of sums by client.
      most: Sums that a client may be in.
    """

    def __init__(self, share: Share, path: str, most: int):
        self._share, self._path, self._most, self._counts = share, path, most, collections.Counter()
        if os.path.exists(path):
            self._counts.update(files.read_json(path))

    def __call__(self, layout: Layout, leaves: Sequence[np.ndarray], clients: Sequence[str]) -> list[np.ndarray]:
        """The leaves of the sum over these clients, with a share of noise, drawn anew.

        Raises:
          SecureSumError: If one of the clients has been in as many sums as are accounted.
        """
        if spent := [client for client in clients if self._counts[client] >= self._most]:
            raise SecureSumError(f"{spent[0]} may have been in {self._most} sums, as many as epsilon is accounted for.")
        counts = self._counts + collections.Counter(clients)
        files.write_json(self._path, counts)
        self._counts = counts
        return self._share.add(leaves, self._share.positions(layout.moduli))
