"""What clients retain between rounds stays with their participant; the coordinator knows which of its rounds counted.

A participant cannot tell by itself whether a round that it answered in counted: others may have failed, and the round
is then tried again with other clients, or the coordinator was killed and goes on from an earlier checkpoint. So each
request says after which round the participant goes on: later states are forgotten before the round begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tff_tx.cohorts import ClientStore
from tff_tx.core.errors import UserError
from tff_tx.runtime.client_states import PersonalWeights, RetainedState
from tff_tx.runtime.hooks import Hook


class CountedRounds(Hook):
    """The coordinator's end: of each participant the last round in which a client of it counted, 0 before the first.

    The state is int64 [participants], in the order of their names.

    Args:
      names: Of the participants.
      participant_fn: From a client of `tasks.client_arguments` to the name of its participant.
    """

    state_name = "counted_rounds"

    def __init__(self, names: Sequence[str], participant_fn: Callable[[Any], str]):
        self._places = {name: place for place, name in enumerate(sorted(names))}
        self._participant_fn, self._clients = participant_fn, ()
        self._counted = self.initialize([])

    def initialize(self, broadcast: list) -> np.ndarray:
        return np.zeros([len(self._places)], np.int64)

    def start_round(self, engine: Any, state: Any, broadcast: list, clients: Sequence[Any]) -> None:
        self._clients = clients
        self.go_on(state)

    def of(self, name: str) -> int:
        """The last round that counted with a client of the participant, before the one that runs."""
        return int(self._counted[self._places[name]])

    def end_round(self, failures: Mapping[int, str]) -> np.ndarray:
        counted = self._counted.copy()
        for position, client in enumerate(self._clients):
            if position not in failures:
                counted[self._places[self._participant_fn(client)]] = int(client["round_num"])
        return counted

    def go_on(self, state: Any) -> None:
        """What is asked of participants from now on is about a state of the engine."""
        self._counted = np.asarray(state[self.state_name])


class ParticipantStates(RetainedState):
    """A participant's end, whose engine gets clients as datasets: `start_part` says which client each is of.

    Args:
      store: In a directory of the participant.
    """

    def __init__(self, store: ClientStore):
        super().__init__(store)
        self._names: dict[int, str] = {}

    def start_part(self, round_num: int, counted: int, clients: Mapping[str, Any]) -> None:
        """Begins a round.

        Args:
          round_num: The round, from 1.
          counted: As of `forget_after`.
          clients: By name, the objects that are given to the engine in this round.

        Raises:
          As `forget_after`.
        """
        self.forget_after(counted)
        self._round_num = round_num - 1
        self._names = {id(client): name for name, client in clients.items()}

    def forget_after(self, counted: int) -> None:
        """Forgets what clients retained in rounds that have not counted.

        Args:
          counted: The last round that counted with this participant, 0 for none.

        Raises:
          UserError: If the states after `counted` are not there.
        """
        if counted and not self._store.exists():
            raise UserError(
                f"what its clients retained until round {counted} is gone from this participant's state directory."
            )
        self._store.rewind(counted)

    def name_of(self, client: Any) -> str:
        return self._names[id(client)]


class ParticipantWeights(ParticipantStates, PersonalWeights):
    """The same, of weights that are parts of the model."""
