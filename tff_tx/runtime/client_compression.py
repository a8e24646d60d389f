"""Compression at the client, with or without error feedback: what a code leaves out goes into the client's next one.

The process stays one of plain updates, with any aggregator, and this hook compresses between a client's work and the
sum, in the client's own thread: where the client's device would do it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.core.errors import setting
from tff_tx.runtime import form as form_lib
from tff_tx.runtime.client_states import StatefulHook
from tff_tx.runtime.graphs import step_function
from tff_tx.runtime.hooks import Job


class ClientCompression(StatefulHook):
    """Compresses clients' updates, over any process whose clients send one update of the model.

    With error feedback client i with update u_i, as it goes into the sum, and residual e_i sends the code of u_i + e_i,
    and retains e_i' = u_i + e_i - decode(code) until its next round (Stich, Cordonnier and Jaggi 2018,
    https://arxiv.org/abs/1809.07599, Algorithm 1; Karimireddy et al. 2019, https://arxiv.org/abs/1901.09847,
    Algorithm 2); without, e_i is 0 in all rounds. An update in a weighted mean is multiplied by the client's weight,
    and so is its residual. The compressor draws with a client's own seed of the round.

    Clients are named by `tasks.client_arguments`. The state, of error feedback alone,
    is the number of rounds that have been run; the residuals after each round are in the store.

    Args:
      compressor: A `compression.Compressor`.
      residuals: A `cohorts.ClientStore`; None: no error feedback.

    Raises:
      UserError: When bound, if clients send no update of the model's shape, or several, as in Mime Lite.
    """

    def __init__(self, compressor: Any, residuals: Any = None):
        super().__init__(residuals)
        self._compressor = compressor
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
        if self.state_name is not None:
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

    def start_client(self, job: Job) -> Job:
        return dataclasses.replace(job, at_client=(*job.at_client, self._compressed))

    def _compressed(self, contribution: list, job: Job) -> tuple[list, list, Mapping[str, list]]:
        updates = contribution[self._at.start : self._at.stop]
        residual = job.states.get(self.state_name, self._zeros)
        code, decoded, left = self._compress(*updates, *residual, job.client["seed"])
        before, after = contribution[: self._at.start], contribution[self._at.stop :]
        retained = {} if self.state_name is None else {self.state_name: left}
        return [*before, *decoded, *after], [*before, *code, *after], retained
