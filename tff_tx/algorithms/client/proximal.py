"""The proximal term of FedProx."""

from __future__ import annotations

import dataclasses

from tff_tx.algorithms.capabilities import CLIENT_OPTIMIZER, CLIENT_TRANSFORMS
from tff_tx.algorithms.client.transforms import ClientTransform, Context


@dataclasses.dataclass(frozen=True)
class Proximal(ClientTransform):
    """Adds mu/2 |w - w_t|^2 to the client's loss: its gradient, mu (w - w_t), is added to that of each batch.

    Li et al. 2020, https://arxiv.org/abs/1812.06127, equation 2. TFF 0.87 adds mu (w_t - w), which drives clients away
    from the server's model.

    Attributes:
      strength: mu; 0 is plain training.
    """

    strength: float

    requires = frozenset({CLIENT_TRANSFORMS, CLIENT_OPTIMIZER})

    @property
    def is_identity(self) -> bool:
        return self.strength == 0

    def direction(self, context: Context, trained: tuple, gradients: tuple) -> tuple:
        return tuple(g + self.strength * (w - w0) for g, w, w0 in zip(gradients, trained, context.server))
