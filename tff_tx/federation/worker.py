"""What a participant computes: the sum of its own clients' contributions."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.federation import contents
from tff_tx.federation.layout import Layout
from tff_tx.federation.operations import require_known
from tff_tx.federation.retained import ParticipantStates
from tff_tx.runtime import LocalEngine, form_digest
from tff_tx.runtime import form as form_lib
from tff_tx.runtime.client_states import retained_leaves
from tff_tx.runtime.graphs import ImportedGraph


class Worker:
    """Trains clients of one participant.

    Args:
      process: Of clients given as datasets, as the participant has made it itself.
      batches: From a client, of `tasks.client_arguments`, to its batches; `FederatedTask.train_batches`.
      threads: Clients at work at the same time.
      precision: See `internals.calls.StepOptions`.
      operations: Ops that are allowed besides those of `operations.KNOWN`.
      states: Where clients of a process with a state retain it; None: it has none.

    Raises:
      UserError: If the process has other ops.
    """

    def __init__(
        self,
        process: tff.learning.templates.LearningProcess,
        batches: tff.Computation,
        threads: int = 2,
        precision: str = "float32",
        operations: Collection[str] = (),
        states: ParticipantStates | None = None,
    ):
        form = form_lib.RoundForm.of(process)
        require_known(form_digest.operations(form), operations)
        self._states = states
        self._engine = LocalEngine(process, threads, precision, hooks=[] if states is None else [states], form=form)
        # As a graph: to make a dataset takes longer than to train a small client.
        self._read = ImportedGraph(tff.framework.serialize_computation(batches), "reading").whole()
        self._client_type = batches.type_signature.parameter
        parts = self._engine.parts
        self._broadcast = parts.prepare(*parts.initialize())
        self._changing = [i for i in range(len(self._broadcast)) if i not in parts.constants]
        self._retained = retained_leaves(parts.contribution_type)
        self._model_places = form.model_places()
        self.digest = digest_of(form, [self._broadcast[i] for i in sorted(parts.constants)])

    def train(
        self, clients: Sequence[Any], arrays: Sequence[np.ndarray], counted: int = 0
    ) -> tuple[list[np.ndarray], dict[int, str], float]:
        """Adds up clients' contributions, in their order.

        Args:
          clients: Of `tasks.client_arguments`.
          arrays: The leaves of what is broadcast, but those that no round changes.
          counted: As of `ParticipantStates.forget_after`.

        Returns:
          The sum, without what clients retain, why clients were left out, by position, and the seconds that steps
          waited for data.

        Raises:
          EnvelopeError: If the arrays are not of the process's types.
          UserError: If what clients have retained is gone.
        """
        broadcast = self._received(arrays)
        datasets = [self._read(*form_lib.flatten(client, self._client_type))[0] for client in clients]
        if self._states is not None:
            names = [client["client_id"].decode() for client in clients]
            self._states.start_part(int(clients[0]["round_num"]), counted, dict(zip(names, datasets)))
        total, gathered = self._engine.partial_sum(broadcast, datasets)
        sent = [leaf.numpy() for i, leaf in enumerate(total) if i not in self._retained]
        return sent, gathered.failures, gathered.seconds["data"]

    def _received(self, arrays):
        specs = [tf.TensorSpec(self._broadcast[i].shape, self._broadcast[i].dtype) for i in self._changing]
        contents.require_like(arrays, specs, "the coordinator")
        broadcast = list(self._broadcast)
        for i, array in zip(self._changing, arrays):
            broadcast[i] = tf.convert_to_tensor(array)
        return broadcast

    def model(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray] | None:
        """The weights of the model that arrays as of `train` bring, the trainable ones first; None: they bring none."""
        if self._model_places is None:
            return None
        broadcast = self._received(arrays)
        return [broadcast[i].numpy() for i in self._model_places]

    def forget_after(self, counted: int) -> None:
        """As of `ParticipantStates`, if clients retain anything."""
        if self._states is not None:
            self._states.forget_after(counted)

    @property
    def layout(self) -> Layout:
        """Of contributions, of a process with secure sums."""
        return Layout.of(self._engine.parts)

    def close(self) -> None:
        """Ends its threads."""
        self._engine.close()


def digest_of(form: form_lib.RoundForm, constants: Sequence[Any]) -> str:
    """Digest of what clients compute, and of the weights that no round changes: those do not travel."""
    found = hashlib.sha256(form_digest.digest(form))
    for leaf in constants:
        array = np.asarray(leaf)
        found.update(repr((array.dtype.name, array.shape)).encode() + array.tobytes())
    return found.hexdigest()
