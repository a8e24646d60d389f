"""The flags that put canaries among the clients, for `programs.audit`."""

from __future__ import annotations

import dataclasses

from absl import flags

from tff_tx import tasks
from tff_tx.analysis import auditing
from tff_tx.config.registries import TASKS
from tff_tx.core.errors import UserError

FLAGS = flags.FLAGS

flags.DEFINE_integer(
    "canaries",
    0,
    "Clients whose text is random, of which a coin each takes about half into a language model's training data, for "
    "programs.audit.",
    lower_bound=0,
)
flags.DEFINE_list("canary_repetitions", ["1", "4", "16"], "How often canaries' clients have their text, in turn.")
flags.DEFINE_integer("canary_length", 16, "Tokens of a canary, at most --max_length.", lower_bound=2)


def check(kind: str) -> None:
    """Refuses canaries that cannot be.

    Args:
        kind: The task.

    Raises:
        UserError: With the reason.
    """
    if not FLAGS.canaries:
        return
    if "texts" not in TASKS[kind].capabilities:
        fit = " or ".join(name for name, task in TASKS.items() if "texts" in task.capabilities)
        raise UserError(
            f"--canaries={FLAGS.canaries} are texts for {fit}, and the task is {kind}: drop the flag; "
            "programs.audit infers membership without them."
        )
    if FLAGS.canary_length > FLAGS.max_length:
        raise UserError(
            f"--canary_length={FLAGS.canary_length} is more than --max_length={FLAGS.max_length}: lower it."
        )
    _repetitions()


def _repetitions() -> list[int]:
    try:
        found = [int(text) for text in FLAGS.canary_repetitions]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise UserError(
            f"--canary_repetitions={','.join(FLAGS.canary_repetitions)} are not whole numbers from 1 on: correct them."
        )
    return found


def insert(task: tasks.FederatedTask, seed: int) -> tuple[tasks.FederatedTask, list[auditing.Canary]]:
    """The task with canaries among its training clients, and the canaries."""
    if not FLAGS.canaries:
        return task, []
    length = FLAGS.canary_length
    canaries = auditing.make_canaries(FLAGS.canaries, _repetitions(), length, _token_ids(task.tokenizer), seed)
    return dataclasses.replace(task, train=auditing.WithCanaries(task.train, canaries)), canaries


def record(run_dir: str, canaries: list[auditing.Canary], task: tasks.FederatedTask, seed: int) -> None:
    """Writes what canaries there are into the directory of the run."""
    if canaries:
        auditing.write_canaries(run_dir, canaries, _token_ids(task.tokenizer), seed)


def _token_ids(tokenizer) -> list[int]:
    """Ids of all tokens but special ones."""
    return sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids))
