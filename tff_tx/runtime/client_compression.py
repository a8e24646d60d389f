"""Compression at the client, with or without error feedback: what a code leaves out goes into the client's next one.

What a client retains from round to round has to reach its work and come back. A `MapReduceForm` has no way back: all
that leaves a client is a contribution, and contributions are added up. So the process stays one of plain updates, with
any aggregator, and this hook compresses between a client's work and the sum, in the client's own thread: where the
client's device would do it.
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
      residuals: A `compression.ResidualStore`; None: no error feedback.

    Raises:
      UserError: When bound, if clients send no update of the model's shape, or several, as in Mime Lite.
    """

    def __init__(self, compressor: Any, residuals: Any = None):
        self._compressor, self._residuals = compressor, residuals
        self._round_num: int | None = None  # of the round that is running
        self._next: int | None = None  # that which the residuals are of
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
            self._round_num = int(state[self.state_name])
            if self._round_num != self._next:  # the run goes on from a checkpoint
                self._residuals.rewind(self._round_num)

    def start_client(self, job: Job) -> Job:
        return dataclasses.replace(job, at_client=(*job.at_client, self._compressed))

    def end_round(self, failures: Mapping[int, str]) -> Any:
        if self._residuals is not None:
            self._next, self._round_num = self._round_num + 1, None
        return self._next

    def fail_round(self) -> None:
        if self._round_num is not None:
            self._residuals.rewind(self._round_num)
        self._next = self._round_num = None

    def _compressed(self, contribution: list, client: Any) -> tuple[list, list]:
        client_id, round_num, residual = _text(client["client_id"]), self._round_num, None
        if self._residuals is not None:
            residual = self._residuals.read(client_id, round_num)
        updates = contribution[self._at.start : self._at.stop]
        code, decoded, left = self._compress(*updates, *(residual or self._zeros), client["seed"])
        if self._residuals is not None:
            self._residuals.write(client_id, round_num + 1, [leaf.numpy() for leaf in left])
        before, after = contribution[: self._at.start], contribution[self._at.stop :]
        return [*before, *decoded, *after], [*before, *code, *after]


def _text(client_id: Any) -> str:
    return client_id.decode() if isinstance(client_id, bytes) else str(client_id)
