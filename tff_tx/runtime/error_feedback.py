"""Error feedback: what compression leaves out of a client's update, the client adds to its next one.

What a client keeps from round to round has to reach its work and come back. A `MapReduceForm` has no way back: all that
leaves a client is a contribution, and contributions are added up. So the process stays one of plain updates, with any
aggregator, and this engine compresses between a client's work and the sum, in the client's own thread, with what the
client has kept: where the client's device would do it.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any, Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.runtime import form as form_lib
from tff_tx.runtime.engine import RoundOutput, TooFewClientsError
from tff_tx.runtime.graphs import step_function
from tff_tx.runtime.local import Job, LocalEngine


class ErrorFeedbackEngine(LocalEngine):
    """Compresses clients' updates with error feedback, over any process whose clients send one update of the model.

    Client i with update u_i, as it goes into the sum, and residual e_i sends the code of u_i + e_i, and keeps
    e_i' = u_i + e_i - decode(code) until its next round (Stich, Cordonnier and Jaggi 2018,
    https://arxiv.org/abs/1809.07599, Algorithm 1; Karimireddy et al. 2019, https://arxiv.org/abs/1901.09847,
    Algorithm 2). An update in a weighted mean is multiplied by the client's weight, and so is what is kept of it.

    A state is `OrderedDict(current, round_num)`: the process's state and how many rounds have been run; the residuals
    after each round are in the store. A round that had too few clients leaves none. The compressor draws with a
    client's own seed of the round.

    Args:
      process: As for `LocalEngine`, with clients named by `OrderedDict(client_id, seed)` (`tasks.client_arguments`).
      threads: As for `LocalEngine`.
      precision: As for `LocalEngine`.
      encode: As for `LocalEngine`.
      compressor: A `compression.Compressor`.
      residuals: A `compression.ResidualStore`.

    Raises:
      UserError: If clients send no update of the model's shape, or several, as in Mime Lite.
    """

    def __init__(
        self,
        process: tff.learning.templates.LearningProcess,
        threads: int = 2,
        precision: str = "float32",
        encode: Callable[[list], bytes] | None = None,
        *,
        compressor: Any,
        residuals: Any,
    ):
        super().__init__(process, threads, precision, encode)
        weights_type = self._state_type.global_model_weights.trainable
        self._updates_at = form_lib.only_update(
            self._contribution_type, weights_type, "error feedback needs", "use --noerror_feedback"
        )
        self._specs = tf.nest.flatten(tff.types.type_to_tf_tensor_specs(weights_type))
        self._residuals, self._resumed = residuals, False

        def compress(*leaves):
            *leaves, seed = leaves
            updates, kept = leaves[: len(self._specs)], leaves[len(self._specs) :]
            wanted = [u + e for u, e in zip(updates, kept)]
            code = compressor.encode(wanted, seed)
            decoded = compressor.decode(code, self._specs)
            return tf.nest.flatten(code), decoded, [w - d for w, d in zip(wanted, decoded)]

        self._compress = step_function(compress, *self._specs, *self._specs, tf.TensorSpec([2], tf.int64))

    def initialize(self) -> Any:
        return _state(super().initialize(), 0)

    def run_round(
        self,
        state: Any,
        clients: Sequence[Any],
        *,
        min_clients: int = 1,
        on_progress: Callable[[int], None] | None = None,
        on_contribution: Callable[[int, list], None] | None = None,
    ) -> RoundOutput:
        round_num = int(state["round_num"])
        if not self._resumed:
            self._residuals.rewind(round_num)
            self._resumed = True

        def job_fn(broadcast):
            return lambda client: Job(client, broadcast, compress=lambda c: self._compressed(c, client, round_num))

        try:
            output = self._run(state["current"], clients, job_fn, min_clients, on_progress, on_contribution)
        except TooFewClientsError:
            self._residuals.rewind(round_num)
            raise
        return dataclasses.replace(output, state=_state(output.state, round_num + 1))

    def combine(self, state: Any, contributions: Any) -> Any:
        return _state(super().combine(state["current"], contributions), int(state["round_num"]) + 1)

    def flatten_state(self, state: Any) -> list[np.ndarray]:
        return [np.asarray(state["round_num"], np.int64), *super().flatten_state(state["current"])]

    def unflatten_state(self, leaves: Sequence[Any]) -> Any:
        return _state(super().unflatten_state(leaves[1:]), int(leaves[0]))

    def model_weights(self, state: Any) -> tff.learning.models.ModelWeights:
        return super().model_weights(state["current"])

    def _compressed(self, contribution: list, client: Any, round_num: int) -> tuple[list, list]:
        client_id = _text(client["client_id"])
        kept = self._residuals.read(client_id, round_num)
        if kept is None:
            kept = [np.zeros(spec.shape, np.float32) for spec in self._specs]
        updates = contribution[self._updates_at.start : self._updates_at.stop]
        code, decoded, left = self._compress(*updates, *kept, client["seed"])
        self._residuals.write(client_id, round_num + 1, [leaf.numpy() for leaf in left])
        before, after = contribution[: self._updates_at.start], contribution[self._updates_at.stop :]
        return [*before, *decoded, *after], [*before, *code, *after]


def _state(current: Any, round_num: int) -> collections.OrderedDict:
    return collections.OrderedDict(current=current, round_num=round_num)


def _text(client_id: Any) -> str:
    return client_id.decode() if isinstance(client_id, bytes) else str(client_id)
