"""What clients retain between rounds: it comes from a store before a client works, and goes back into it afterwards.

What a client retains from round to round has to reach its work and come back. A `MapReduceForm` has no way back: all
that leaves a client is a contribution, and contributions are added up. So the way is here, beside the form: an engine
reads a client's state where the store is, gives it to whoever trains the client, and gets it back with a sum that has
nothing of it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.runtime import form as form_lib
from tff_tx.runtime.hooks import Hook, Job


class StatefulHook(Hook):
    """A hook with arrays of each client after each round that counts. One round runs at a time.

    The engine's state has the number of rounds that have been run; the arrays are in the store. A round that does not
    count leaves none, and a run that goes on from a checkpoint finds those of that round. Clients are named by
    `tasks.client_arguments`.

    Args:
      store: A `cohorts.ClientStore`; None: clients retain nothing.
    """

    def __init__(self, store: Any):
        self._store = store
        self._round_num: int | None = None  # of the round that is running
        self._next: int | None = None  # that which the stored arrays are of

    def initialize(self, broadcast: list) -> Any:
        return 0

    def start_round(self, engine: Any, state: Any, broadcast: list, clients: Sequence[Any]) -> None:
        if self._store is None:
            return
        self._round_num = int(state[self.state_name])
        if self._round_num != self._next:  # the run goes on from a checkpoint
            self._store.rewind(self._round_num)

    def read_state(self, client: Any) -> list | None:
        return None if self._store is None else self._store.read(self.name_of(client), self._round_num)

    def retain(self, client: Any, state: list) -> None:
        self._store.write(self.name_of(client), self._round_num + 1, state)

    def end_round(self, failures: Mapping[int, str]) -> Any:
        if self._store is None:
            return None
        self._next, self._round_num = self._round_num + 1, None
        return self._next

    def fail_round(self) -> None:
        if self._round_num is not None:
            self._store.rewind(self._round_num)
        self._next = self._round_num = None

    def checksums(self, round_num: int) -> Mapping[str, int]:
        return {} if self._store is None else {self._store.name: self._store.checksum(round_num)}

    def name_of(self, client: Any) -> str:
        """Under which name the store has a client of the engine."""
        client_id = client["client_id"]
        return client_id.decode() if isinstance(client_id, bytes) else str(client_id)


class RetainedState(StatefulHook):
    """Clients have a state of their own, which their work takes and returns, and which never leaves them.

    Over a process of `algorithms.client.build_client_work` with a `client_state`: what a client retained takes the
    place of the blank state in what the server broadcasts, and the new state is taken out of its contribution.

    Args:
      store: A `cohorts.ClientStore`.
    """

    state_name = form_lib.CLIENT_STATE

    def bind(self, engine: Any) -> None:
        self._made = _positions(engine.parts.contribution_type, self.state_name)
        if not self._made:
            raise ValueError(f"clients of the process retain nothing by the name {self.state_name}.")
        self._takes = self._places(engine.parts.broadcast_type)
        types = form_lib.leaf_types(engine.parts.contribution_type)
        self._specs = {i: tf.TensorSpec(types[i].shape, types[i].dtype) for i in self._made}

    def start_client(self, job: Job) -> Job:
        part = functools.partial(_parted, name=self.state_name, made=self._made)
        return dataclasses.replace(
            job,
            at_client=(part, *job.at_client),
            at_server=(functools.partial(_filled, specs=self._specs), *job.at_server),
            takes={**job.takes, self.state_name: self._takes},
        )

    def _places(self, broadcast_type: tff.Type) -> tuple[int, ...]:
        """The leaves of the broadcast that a client's state takes the place of."""
        return _positions(broadcast_type, self.state_name)


class PersonalWeights(RetainedState):
    """Clients train from personal weights of their own, which never leave them, beside the weights that all share.

    Over a process whose model has personal weights (`models.functional_model`): a client gets its own in place of the
    server's, which are those that a client begins with.
    """

    state_name = form_lib.PERSONAL

    def _places(self, broadcast_type: tff.Type) -> tuple[int, ...]:
        others = _positions(broadcast_type, "non_trainable")
        return others[len(others) - len(self._made) :]


def _parted(contribution: list, job: Job, name: str, made: tuple[int, ...]) -> tuple[list, list, dict[str, list]]:
    left = [None if i in made else leaf for i, leaf in enumerate(contribution)]
    return left, left, {name: [contribution[i] for i in made]}


def _filled(contribution: list, specs: Mapping[int, tf.TensorSpec]) -> list:
    return [tf.zeros(specs[i].shape, specs[i].dtype) if i in specs else c for i, c in enumerate(contribution)]


def retained_leaves(contribution_type: Any) -> frozenset[int]:
    """The leaves of a contribution that stay with the client: in a sum they are zeros."""
    names = (form_lib.CLIENT_STATE, form_lib.PERSONAL)
    return frozenset(i for name in names for i in _positions(contribution_type, name))


def _positions(value_type: Any, name: str) -> tuple[int, ...]:
    """The leaves of a value that lie within a part of this name."""
    return tuple(i for i, path in enumerate(form_lib.paths(value_type)) if name in path)
