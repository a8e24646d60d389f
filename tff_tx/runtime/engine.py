"""What every engine can do."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, Callable

import tensorflow_federated as tff


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes that cross the network between the server and one client in one round, uncompressed.

    Attributes:
      download_bytes: What the server broadcasts.
      upload_bytes: What the client sends back: update, weight and metrics.
    """

    download_bytes: int
    upload_bytes: int


class Engine(abc.ABC):
    """Runs the rounds of one `LearningProcess`.

    Clients are named by plain data (the process reads their examples where it runs), so that an engine may run them
    anywhere. An engine is a context manager; leaving it ends whatever it started.
    """

    def __init__(self, process: tff.learning.templates.LearningProcess):
        self.process = process

    @abc.abstractmethod
    def initialize(self) -> Any:
        """The state before the first round, of the type `process.initialize` has."""

    @abc.abstractmethod
    def run_round(
        self, state: Any, clients: Sequence[Any], on_progress: Callable[[int], None] | None = None
    ) -> tff.learning.templates.LearningProcessOutput:
        """Runs `process.next`.

        Args:
          state: The server's state.
          clients: One argument a client of the round, of the member type of `process.next`'s second parameter.
          on_progress: Called with the number of clients done so far, as often as the engine knows it.

        Returns:
          The new state and the round's metrics.
        """

    @abc.abstractmethod
    def model_weights(self, state: Any) -> tff.learning.models.ModelWeights:
        """The model in a state, as NumPy arrays."""

    @abc.abstractmethod
    def traffic(self) -> Traffic:
        """What a round sends to and from each client."""

    def close(self) -> None:  # noqa: B027 -- nothing to end is a fine default
        """Ends what the engine started."""

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()
