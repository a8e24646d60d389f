"""Compression at the client, with or without error feedback: what a code leaves out goes into the client's next one.

The process stays one of plain updates, with any aggregator, and this hook compresses between a client's work and the
sum, in the client's own thread: where the client's device would do it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.core.errors import setting
from tff_tx.runtime import form as form_lib
from tff_tx.runtime.client_states import ClientStates
from tff_tx.runtime.graphs import step_function
from tff_tx.runtime.hooks import Hook, Job


class ClientCompression(Hook):
    """Compresses clients' updates, over any process whose clients send one update of the model.

    With error feedback client i with update u_i, as it goes into the sum, and residual e_i sends the code of u_i + e_i,
    and retains e_i' = u_i + e_i - decode(code) until its next round (Stich, Cordonnier and Jaggi 2018,
    https://arxiv.org/abs/1809.07599, Algorithm 1; Karimireddy et al. 2019, https://arxiv.org/abs/1901.09847,
    Algorithm 2); without, e_i is 0 in all rounds. An update in a weighted mean is multiplied by the client's weight,
    and so is its residual. The compressor draws with a client's own seed of the round.

    Clients are named by `tasks.client_arguments`. The state, of error feedback alone,
    is the number of rounds that have been run; the residuals after each round are in the store. A round that does not
    count leaves none.

    Args:
      compressor: A `compression.Compressor`.
      residuals: A `cohorts.ClientStore`; None: no error feedback.

    Raises:
      UserError: When bound, if clients send no update of the model's shape, or several, as in Mime Lite.
    """

    def __init__(self, compressor: Any, residuals: Any = None):
        self._compressor = compressor
        self._residuals = None if residuals is None else ClientStates(residuals)
        if residuals is None:
            self.local_only = "compress by an aggregator instead (compression.CompressedSumFactory)"
        else:
            self.state_name = "round_num"
            self.local_only = (
                "with error feedback a client's residual is on the client, and on a cluster it would travel, as large "
                "as the update before compression, to a different worker in each round"
            )

    def bind(self, engine: Any) -> None:
        weights_type = engine.weights_type.trainable
        why, remedy = ("compression at the client needs", "compress by an aggregator")
        if self._residuals is not None:
            why, remedy = "error feedback needs", f"set {setting('compression.error_feedback')} to false"
        self._at = form_lib.only_update(engine.parts.contribution_type, weights_type, why, remedy)
        specs = tf.nest.flatten(tff.types.type_to_tf_tensor_specs(weights_type))
        self._zeros = [np.zeros(spec.shape, np.float32) for spec in specs]

        def compress(*leaves):
            *leaves, seed = leaves
            wanted = [u + e for u, e in zip(leaves[: len(specs)], leaves[len(specs) :])]
            code = self._compressor.encode(wanted, seed)
            decoded = self._compressor.decode(code, specs)
            return tf.nest.flatten(code), decoded, [w - d for w, d in zip(wanted, decoded)]

        self._compress = step_function(compress, *specs, *specs, tf.TensorSpec([2], tf.int64))

    def initialize(self, broadcast: list) -> Any:
        return 0

    def start_round(self, engine: Any, state: Any, broadcast: list, clients: Sequence[Any]) -> None:
        if self._residuals is not None:
            self._residuals.start_round(int(state[self.state_name]))

    def start_client(self, job: Job) -> Job:
        return dataclasses.replace(job, at_client=(*job.at_client, self._compressed))

    def end_round(self, failures: Mapping[int, str]) -> Any:
        return None if self._residuals is None else self._residuals.end_round()

    def fail_round(self) -> None:
        if self._residuals is not None:
            self._residuals.fail_round()

    def _compressed(self, contribution: list, client: Any) -> tuple[list, list]:
        residual = None if self._residuals is None else self._residuals.read(client)
        updates = contribution[self._at.start : self._at.stop]
        code, decoded, left = self._compress(*updates, *(residual or self._zeros), client["seed"])
        if self._residuals is not None:
            self._residuals.write(client, left)
        before, after = contribution[: self._at.start], contribution[self._at.stop :]
        return [*before, *decoded, *after], [*before, *code, *after]
