"""What clients retain between rounds: it comes from a store before a client works, and goes back into it afterwards.

What a client retains from round to round has to reach its work and come back. A `MapReduceForm` has no way back: all
that leaves a client is a contribution, and contributions are added up. So the way is here, beside the form, in the
client's own thread: where the client's device would keep it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.runtime import form as form_lib
from tff_tx.runtime.hooks import Hook, Job


class ClientStates:
    """The arrays of each client after each round that counts. One round runs at a time.

    The engine's state has the number of rounds that have been run; the arrays are in the store. A round that does not
    count leaves none, and a run that goes on from a checkpoint finds those of that round.

    Args:
      store: A `cohorts.ClientStore`.
    """

    def __init__(self, store: Any):
        self._store = store
        self._round_num: int | None = None  # of the round that is running
        self._next: int | None = None  # that which the stored arrays are of

    def start_round(self, round_num: int) -> None:
        """Begins the round after so many."""
        self._round_num = round_num
        if round_num != self._next:  # the run goes on from a checkpoint
            self._store.rewind(round_num)

    def read(self, client: Any) -> list[np.ndarray] | None:
        """The arrays of a client of `tasks.client_arguments`; None: it has none yet."""
        return self._store.read(_id_of(client), self._round_num)

    def write(self, client: Any, arrays: Sequence[Any]) -> None:
        """Retains a client's arrays, NumPy's or tensors, after the running round."""
        self._store.write(_id_of(client), self._round_num + 1, [np.asarray(a) for a in arrays])

    def end_round(self) -> int:
        """The number of rounds that have been run with this one."""
        self._next, self._round_num = self._round_num + 1, None
        return self._next

    def fail_round(self) -> None:
        """Forgets what clients have retained in a round that does not count."""
        if self._round_num is not None:
            self._store.rewind(self._round_num)
        self._next = self._round_num = None


def _id_of(client: Any) -> str:
    client_id = client["client_id"]
    return client_id.decode() if isinstance(client_id, bytes) else str(client_id)


class PersonalWeights(Hook):
    """Clients train from personal weights of their own, which never leave them, beside the weights that all share.

    Over a process whose model has personal weights (`models.functional_model`): a client gets its own in place of the
    server's, which are those that a client begins with, and what it has made of them is taken out of its contribution.

    Args:
      store: A `cohorts.ClientStore`.
    """

    state_name = "personal"
    local_only = "a client's personal weights are on the client, and on a cluster they would travel between workers"

    def __init__(self, store: Any):
        self._states = ClientStates(store)

    def bind(self, engine: Any) -> None:
        self._made = _positions(engine.parts.contribution_type, form_lib.PERSONAL)
        others = _positions(engine.parts.broadcast_type, "non_trainable")
        self._given = others[len(others) - len(self._made) :]
        if not self._made:
            raise ValueError("the process's model has no personal weights.")
        types = tff.structure.flatten(engine.parts.contribution_type)
        self._zeros = [tf.zeros(types[i].shape, types[i].dtype) for i in self._made]

    def initialize(self, broadcast: list) -> Any:
        return 0

    def start_round(self, engine: Any, state: Any, broadcast: list, clients: Sequence[Any]) -> None:
        self._states.start_round(int(state[self.state_name]))

    def start_client(self, job: Job) -> Job:
        broadcast = list(job.broadcast)
        for i, own in zip(self._given, self._states.read(job.client) or ()):
            broadcast[i] = tf.convert_to_tensor(own)
        at_client, at_server = (self._retain, *job.at_client), (self._fill, *job.at_server)
        return dataclasses.replace(job, broadcast=broadcast, at_client=at_client, at_server=at_server)

    def end_round(self, failures: Mapping[int, str]) -> Any:
        return self._states.end_round()

    def fail_round(self) -> None:
        self._states.fail_round()

    def _retain(self, contribution: list, client: Any) -> tuple[list, list]:
        self._states.write(client, [contribution[i] for i in self._made])
        left = [None if i in self._made else leaf for i, leaf in enumerate(contribution)]
        return left, left

    def _fill(self, contribution: list) -> list:
        zeros = dict(zip(self._made, self._zeros))
        return [zeros.get(i, leaf) for i, leaf in enumerate(contribution)]


def _positions(value_type: Any, name: str) -> list[int]:
    """The leaves of a value that lie within a part of this name."""
    return [i for i, path in enumerate(form_lib.paths(value_type)) if name in path]
