"""The run: its length, its directory and what it records."""

from __future__ import annotations

import dataclasses

from tff_tx.config.option import Section, option


@dataclasses.dataclass(frozen=True)
class RunSettings(Section, name="run"):
    """Run."""

    directory: str | None = option(
        None, "Run directory; default: runs/ and the data set's name.", flag="run_dir", may_change=True
    )
    seed: int = option(1, "Seed of everything random.", least=0, most=2**63 - 1)
    rounds: int = option(30, "Number of rounds.", least=1, may_change=True, stated=True)
    rounds_per_evaluation: int = option(10, "Rounds between evaluations; 0: never.", least=0, may_change=True)
    rounds_per_checkpoint: int = option(10, "Rounds between checkpoints.", least=1, may_change=True)
    eval_clients: int = option(
        50, "Held-out clients of the evaluations during training; all at the end.", least=1, may_change=True
    )
    eval_batch_size: int = option(32, "Examples per batch in evaluation.", least=1, may_change=True)
    patience: int | None = option(
        None,
        "Early stopping: evaluations without improvement of {run.monitor} before the run ends.",
        least=1,
        may_change=True,
    )
    keep_best: bool = option(
        False, "Saves the model of the evaluation with the best {run.monitor} instead of the last."
    )
    monitor: str = option("loss", "Evaluation metric of {run.patience} and {run.keep_best}.")
    keep_updates: bool = option(
        False, "Stores what each client of each round contributes in updates/, for programs.contribution."
    )
    profile: bool = option(False, "Writes a trace of the second round, which TensorBoard shows.", may_change=True)
