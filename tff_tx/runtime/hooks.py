"""Hooks: what intervenes between a client's contribution and the sum.

A process is cut into graphs that know nothing of clients that report late, of what a device retains between rounds, or
of who else wants to see a contribution. Such things are hooks of an engine, so that they combine with one another:

    LocalEngine(process, hooks=[Staleness(), ClientCompression(compressor, residuals), UpdateStore(run_dir)])

A contribution passes first what hooks do at the client, then what they do at the server, in the order of the hooks:
compression precedes the scaling of stale updates whatever the order. Observers see what is added up.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable

import numpy as np

if TYPE_CHECKING:
    from tff_tx.runtime.engine import Engine


@dataclasses.dataclass(frozen=True)
class Job:
    """A client's part in a round. Without its broadcast it is small and pickles.

    Attributes:
      client: Of the member type of `process.next`'s second parameter.
      broadcast: The leaves that it trains from; on its way to a worker, the number of those among the round's.
      at_client: Functions from a contribution's leaves and the job to (the leaves that the server decodes, those that
        are sent, and what the client retains, by hook); None takes the place of a leaf that stays with the client.
      at_server: Functions from a contribution's leaves to those that are added up instead.
      states: What the client retained in earlier rounds, NumPy arrays, by the `state_name` of the hook.
      takes: The leaves of the broadcast that a client's state takes the place of, by the same names.
    """

    client: Any
    broadcast: Any
    at_client: tuple[Callable[[list, Job], tuple[list, list, Mapping[str, list]]], ...] = ()
    at_server: tuple[Callable[[list], list], ...] = ()
    states: Mapping[str, list] = dataclasses.field(default_factory=dict)
    takes: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)

    def inputs(self, broadcast: list) -> list:
        """The leaves that the client trains from: the broadcast, with its own states in their places."""
        own = {i: leaf for name, places in self.takes.items() for i, leaf in zip(places, self.states.get(name, ()))}
        return [own.get(i, leaf) for i, leaf in enumerate(broadcast)]

    def finish(self, contribution: list) -> tuple[list, list, dict[str, list]]:
        """The leaves that are added up, those that are sent, and what the client retains, of what its work has given.

        What is retained are NumPy arrays, by the `state_name` of the hook that stores them.
        """
        counted, sent, retained = contribution, contribution, {}
        for work in self.at_client:
            counted, sent, states = work(counted, self)
            retained.update({name: [np.asarray(leaf) for leaf in state] for name, state in states.items()})
        for scale in self.at_server:
            counted = scale(counted)
        return counted, [leaf for leaf in sent if leaf is not None], retained


class Hook:
    """One hook; by default it does nothing. A hook belongs to one engine, which runs one round at a time.

    Attributes:
      state_name: Under which name the hook's own state is in the engine's; None: it has none.
      observes: Whether `on_counted` is to be called.
      local_only: Why the hook does not run on a cluster; "" if it does.
    """

    state_name: str | None = None
    observes = False
    local_only = ""

    def bind(self, engine: Engine) -> None:
        """Looks at the engine's process, once.

        Raises:
          UserError: If the hook is not defined for such a process.
        """

    def initialize(self, broadcast: list) -> Any:
        """Its own state before the first round, from what the initial state broadcasts."""

    def start_round(self, engine: Engine, state: Any, broadcast: list, clients: Sequence[Any]) -> None:
        """Begins a round, or another attempt at it, from the engine's state, with the hooks' own.

        `broadcast` are the leaves that the process broadcasts, `clients` as given to `run_round`.
        """

    def start_client(self, job: Job) -> Job:
        """Changes what a client is given, or what becomes of its contribution. May be called twice for a client."""
        return job

    def read_state(self, client: Any) -> list | None:
        """What a client retained after its last round that counts, NumPy arrays; None: nothing.

        It is called as the client starts, perhaps in another thread, and not in the order of the cohort.
        """

    def retain(self, client: Any, state: list) -> None:
        """Stores what a client retains after the running round."""

    def on_counted(self, position: int, contribution: list) -> None:
        """Sees what is added up, once for each client: in the order of the cohort, on a cluster as leaves come in."""

    def end_sum(self, total: list, failures: Mapping[int, str]) -> list:
        """Changes the sum of contributions before the server sees it; `failures` as far as they are known."""
        return total

    def end_round(self, failures: Mapping[int, str]) -> Any:
        """Its own state after a round that counts; `failures` are those of `RoundOutput`."""

    def fail_round(self) -> None:
        """Undoes a round that does not count."""

    def metrics(self) -> Mapping[str, Any]:
        """What it adds to the metrics of the round."""
        return {}

    def commit(self, round_num: int, client_ids: Sequence[str]) -> None:
        """Is told, after the round, its number (from 1) and the participants' ids, in the order of the cohort."""

    def checksums(self, round_num: int) -> Mapping[str, int]:
        """Checksums of what it has on the disk after a round, by its name in the run's directory."""
        return {}
