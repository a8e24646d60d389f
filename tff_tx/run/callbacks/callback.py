"""What happens beside the rounds of a run."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

from tff_tx.cohorts import Cohort
from tff_tx.runtime import Engine, RoundOutput


@dataclasses.dataclass
class RunState:
    """A run while it is under way.

    Attributes:
      engine: What runs the rounds.
      directory: The run directory.
      schedule: The `loop.Schedule`.
      first: Rounds that had been run before, from whose state this one goes on.
      stopped: Why the run ends early; None: it does not. Callbacks set it.
      weights: In `on_end`, the `ModelWeights` that the run ends with; a callback may put others there.
    """

    engine: Engine
    directory: str
    schedule: Any
    first: int = 0
    stopped: str | None = None
    weights: Any = None


@dataclasses.dataclass
class RoundResult:
    """A round that counts.

    Attributes:
      run: The run.
      round_num: The round, counted from 1.
      row: Its figures by column of `metrics.csv`; callbacks may add some.
      state: The state of the engine after the round.
      cohort: Its clients.
      output: What the engine gave.
      finished: Ids of the clients whose work it used, in order.
      evaluation: Metrics by name, if the model was evaluated after it.
    """

    run: RunState
    round_num: int
    row: collections.OrderedDict
    state: Any
    cohort: Cohort
    output: RoundOutput
    finished: list[str]
    evaluation: dict[str, float] | None = None

    def weights(self) -> Any:
        """The model after the round, `ModelWeights` of NumPy arrays."""
        return self.run.engine.model_weights(self.state)


class Callback:
    """Does nothing; override what is needed. Callbacks are called in their order."""

    def on_start(self, run: RunState) -> None:
        """Before the first round that is run; a run that goes on begins here again."""

    def on_evaluation(self, result: RoundResult) -> None:
        """After an evaluation, before `on_round_end`."""

    def on_round_end(self, result: RoundResult) -> None:
        """After a round; what is not written by the end of it may be run again."""

    def on_end(self, run: RunState) -> None:
        """After the last round, of a run that was not interrupted."""
