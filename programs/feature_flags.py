"""The flags that have what a frozen model makes of clients' data computed once and kept on disk."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from absl import flags

from programs import training_flags
from tff_tx import tasks
from tff_tx.core.errors import UserError
from tff_tx.run.evaluation import Evaluator

FLAGS = flags.FLAGS

flags.DEFINE_boolean(
    "cache_features",
    False,
    "Computes what is below the lowest trained weight once a client, without dropout there, and keeps it in features/ "
    "of the run for all rounds. For --trainable=head, upper layers, or adapters of upper layers.",
)
flags.DEFINE_integer(
    "feature_cache_bytes",
    4_000_000_000,
    "Of disk that --cache_features takes at most; clients that were not asked for longest make room for others.",
    lower_bound=1,
)

MAY_CHANGE_ON_RESUME = ("feature_cache_bytes",)

_FEATURES = "features"
_NOT_WITH = (
    ("bucket_by_length", "sorts texts, in the place of which --cache_features has features"),
    ("gradient_checkpointing", "computes blocks again that --cache_features computes once"),
)
_EVALUATION_SHARE = 0.5  # of the budget: more of it would leave too little room for training clients


def enabled() -> bool:
    """Whether features are kept."""
    return FLAGS.cache_features


def check() -> None:
    """Refuses combinations of flags that mean nothing.

    Raises:
      UserError: With the first of them.
    """
    if not enabled():
        if not FLAGS["feature_cache_bytes"].using_default_value:
            raise UserError("--feature_cache_bytes means nothing without --cache_features: give that too, or drop it.")
        return
    if FLAGS.trainable == "all":
        raise UserError(
            "--cache_features keeps what frozen weights compute, and --trainable=all leaves none: set --trainable to "
            "head, layers:RE or lora, or drop the flag."
        )
    for name, reason in _NOT_WITH:
        if FLAGS[name].value:
            raise UserError(f"--{name} {reason}: drop one of them.")
    if FLAGS.engine == "ray":
        raise UserError(
            "--cache_features keeps features on the disk of this machine, which the workers of --engine=ray do not "
            "have: use --engine=local, or drop the flag."
        )
    if FLAGS.attack in ("backdoor", "model_replacement"):
        raise UserError(
            f"--attack={FLAGS.attack} puts triggers into examples, and with --cache_features clients train on what was "
            "made of them before: drop one of them."
        )


def cache(task: tasks.FederatedTask, run_dir: str) -> tasks.FeatureCache | None:
    """Where the features of a task are kept; None where they are not.

    Args:
      task: With its model.
      run_dir: The directory of the run, which is written to.

    Raises:
      UserError: If nothing of the model can be kept.
    """
    if not enabled():
        return None
    directory = os.path.join(run_dir, _FEATURES)
    found = tasks.FeatureCache(task, directory, FLAGS.feature_cache_bytes, training_flags.threads())
    expected = FLAGS.clients_per_round * found.mean_bytes
    if expected > FLAGS.feature_cache_bytes:
        raise UserError(
            f"--feature_cache_bytes={FLAGS.feature_cache_bytes} is less than the {expected:,.0f} bytes that the "
            f"features of --clients_per_round={FLAGS.clients_per_round} clients take: raise it, lower that, or "
            "train without --cache_features."
        )
    return found


def bytes_kept(cache: tasks.FeatureCache | None) -> int:
    """About how much of the disk features will take at most."""
    if cache is None:
        return 0
    return min(FLAGS.feature_cache_bytes, int(cache.mean_bytes * len(cache.task.train.client_ids)))


def evaluation(
    cache: tasks.FeatureCache | None, split: str, client_ids: Sequence[str]
) -> Callable[[Any], Mapping[str, float]] | None:
    """From model weights to the metrics of held-out clients by their features; None where these are too large to keep.

    Args:
      cache: Of `cache`.
      split: Whose clients they are, "validation" or "test".
      client_ids: They.
    """
    if cache is None:
        return None
    if sum(cache.bytes_of_client(c, split) for c in client_ids) > _EVALUATION_SHARE * FLAGS.feature_cache_bytes:
        return None
    batches_fn = cache.task.eval_batches_fn(getattr(cache.task, split))
    evaluator = Evaluator(cache.task.model, batches_fn, training_flags.threads())

    def evaluate(weights):
        cache.prepare(client_ids, split)
        return evaluator.metrics(weights, client_ids)

    return evaluate
