"""Local differential privacy of a client's update."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.algorithms.capabilities import CENTRAL_DP, CLIENT_TRANSFORMS, ONE_UPDATE
from tff_tx.algorithms.client.noise import GaussianNoise, add_noise, clip_factors, squared_norms, weighted_sum
from tff_tx.algorithms.client.transforms import ClientTransform
from tff_tx.core.errors import UserError, setting

_UPDATE_NOISE = -2


@dataclasses.dataclass(frozen=True)
class LocalDp(GaussianNoise, ClientTransform):
    """Clips and noises a client's update before it leaves the client, so that the server need not be trusted.

    u' = min(1, C / |u|) u + N(0, (sigma C)^2), Kasiviswanathan et al. 2011, "What can we learn privately?". The record
    is the update as a whole: other data of the client move what is noised by 2 `clip` at most, no data at all by
    `clip`. Clients must count equally and send nothing else that depends on their data.
    """

    requires = frozenset({CENTRAL_DP, CLIENT_TRANSFORMS, ONE_UPDATE})

    def check(self, model: tff.learning.models.FunctionalModel, options: Any) -> None:
        if options.weighted:
            raise UserError(
                f"{setting('local_privacy.clip_norm')} does not hide how many examples a client has: count clients "
                f"equally, with {setting('algorithm.weighted')}=False."
            )
        if options.sends_loss:
            raise UserError(
                f"{setting('local_privacy.clip_norm')} does not hide the loss that clients send for "
                f"{setting('aggregation.attention_key')}=loss: remove one of them."
            )

    def release(self, update: Sequence[tf.Tensor], weight: tf.Tensor, seed: tf.Tensor) -> tuple[tuple, tf.Tensor]:
        """The noised update, of weight 1 also where zeros took the place of one that was not finite."""
        return self.privatized(update, seed), tf.constant(1.0)

    def privatized(self, update: Sequence[tf.Tensor], seed: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The update clipped and noised; zeros take its place if it is not finite.

        Args:
          update: Of the trainable weights, float32.
          seed: int64 [2], of this client and round alone.
        """
        batch_of_one = [u[None] for u in update]
        factors = clip_factors(squared_norms(batch_of_one), self.clip)
        clipped = tuple(weighted_sum(u, factors, u[0]) for u in batch_of_one)
        return add_noise(clipped, self.stddev, seed, _UPDATE_NOISE)
