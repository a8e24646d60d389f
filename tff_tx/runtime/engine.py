"""What every engine can do."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Callable

import tensorflow as tf
import tensorflow_federated as tff


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes that cross the network between the server and one client in one round, uncompressed.

    Attributes:
      download_bytes: What the server broadcasts; where it broadcasts changes of a model, the model. What stays as it is
        in every round, such as frozen weights, does not count: a client needs it once.
      upload_bytes: What the client sends back: update, weight and metrics.
    """

    download_bytes: int
    upload_bytes: int


@dataclasses.dataclass(frozen=True)
class RoundOutput:
    """What a round gives.

    Attributes:
      state: The server's new state.
      metrics: The round's metrics, as the process has them.
      failures: Why clients were left out: the reason by the client's position in the cohort.
      seconds: Where the time went, by "prepare" (what is broadcast), "clients" (from the first client's start to the
        last one's end), "data" (of that, what threads waited for data, summed over clients), "aggregation" (adding up)
        and "server" (the update); on a cluster also what the workers' processors did while clients ran, summed over
        them: "busy" computing, only "reading" data, or "idle". As far as the engine knows.
      upload_bytes: What a client really sent, in the mean over those that finished; None: not measured.
      download_bytes: What was really sent to a client that had all that was sent before; None: not measured.
    """

    state: Any
    metrics: Any
    failures: Mapping[int, str] = dataclasses.field(default_factory=dict)
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    upload_bytes: float | None = None
    download_bytes: int | None = None


class TooFewClientsError(RuntimeError):
    """Fewer clients than asked for finished a round; the state is as it was.

    Attributes:
      failures: As in `RoundOutput`.
    """

    def __init__(self, finished: int, wanted: int, failures: Mapping[int, str]):
        reasons = "; ".join(list(dict.fromkeys(failures.values()))[:3])
        super().__init__(f"{finished} of at least {wanted} clients finished" + (f" ({reasons})" if reasons else ""))
        self.failures = failures


class Engine(abc.ABC):
    """Runs the rounds of one `LearningProcess`.

    Clients are named by plain data (the process reads their examples where it runs), so that an engine may run them
    anywhere. An engine is a context manager; leaving it ends whatever it started.
    """

    def __init__(self, process: tff.learning.templates.LearningProcess):
        self.process = process
        signature = process.next.type_signature
        self._state_type, self._client_type = (t.member for _, t in tff.structure.iter_elements(signature.parameter))
        self._metrics_type = signature.result.metrics.member

    @abc.abstractmethod
    def initialize(self) -> Any:
        """The state before the first round, of the type `process.initialize` has."""

    @abc.abstractmethod
    def run_round(
        self,
        state: Any,
        clients: Sequence[Any],
        *,
        min_clients: int = 1,
        on_progress: Callable[[int], None] | None = None,
    ) -> RoundOutput:
        """Runs `process.next`.

        Args:
          state: The server's state.
          clients: One argument a client of the round, of the member type of `process.next`'s second parameter.
          min_clients: Clients that have to finish for the round to count.
          on_progress: Called with the number of clients done so far, as often as the engine knows it.

        Raises:
          TooFewClientsError: If fewer than `min_clients` finish.
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


def with_model(state: Any, weights: tff.learning.models.ModelWeights) -> Any:
    """A state with another model.

    Args:
      state: A `LearningAlgorithmState`.
      weights: The model, of the same architecture.
    """
    leaves = tf.nest.flatten((list(weights.trainable), list(weights.non_trainable)))
    return tff.learning.templates.LearningAlgorithmState(
        global_model_weights=tf.nest.pack_sequence_as(state.global_model_weights, leaves),
        distributor=state.distributor,
        client_work=state.client_work,
        aggregator=state.aggregator,
        finalizer=state.finalizer,
    )
