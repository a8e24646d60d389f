"""Which leaves of a contribution are one vector of a secure sum: those of one modulus."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tff_tx.federation.secure_sums import Vector

if TYPE_CHECKING:
    from tff_tx.runtime.engine import Parts


@dataclasses.dataclass(frozen=True)
class Layout:
    """Leaves of whole numbers as vectors, and back.

    Attributes:
      moduli: Of each leaf.
      shapes: Of each leaf.
      dtypes: Of each leaf as a client has it.
    """

    moduli: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[np.dtype, ...]

    @classmethod
    def of(cls, parts: Parts) -> Layout:
        """That of a process's contributions.

        Raises:
          ValueError: If the process has no secure sums.
        """
        from tff_tx.runtime.form import leaf_types  # TensorFlow, which the protocol does without

        if not parts.moduli:
            raise ValueError("the process has no secure sums: build it of `aggregators.SecureSums`.")
        types = leaf_types(parts.contribution_type)
        return cls(parts.moduli, tuple(tuple(t.shape) for t in types), tuple(np.dtype(t.dtype) for t in types))

    def vectors(self) -> tuple[Vector, ...]:
        """The vectors to be summed."""
        sizes = collections.Counter()
        for modulus, shape in zip(self.moduli, self.shapes):
            sizes[modulus] += int(np.prod(shape, dtype=np.int64))
        return tuple(Vector(f"modulo {modulus}", size, modulus) for modulus, size in sizes.items())

    def join(self, leaves: Sequence[Any]) -> list[np.ndarray]:
        """The vectors, int64 [length] each, of leaves."""
        joined = collections.defaultdict(list)
        for modulus, leaf in zip(self.moduli, leaves):
            joined[modulus].append(np.asarray(leaf).reshape(-1).astype(np.int64))
        return [np.concatenate(parts) for parts in joined.values()]

    def split(self, vectors: Sequence[np.ndarray], dtypes: Sequence[np.dtype] | None = None) -> list[np.ndarray]:
        """The leaves, numbers in [0, M) as their types represent them; by default of int64, as sums are."""
        rest = dict(zip(dict.fromkeys(self.moduli), vectors))
        leaves = []
        for modulus, shape, dtype in zip(self.moduli, self.shapes, dtypes or [np.dtype(np.int64)] * len(self.moduli)):
            size = int(np.prod(shape, dtype=np.int64))
            leaves.append(rest[modulus][:size].astype(dtype).reshape(shape))
            rest[modulus] = rest[modulus][size:]
        return leaves
