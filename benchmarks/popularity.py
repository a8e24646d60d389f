"""What a next_item model has to beat: the items that most training clients have, first.

`python -m benchmarks.popularity` with the data flags of a run ranks the candidates of `programs.evaluate`, the same
ones, by how often training clients chose each, and prints HR@10 and NDCG@10 (PopRec of Kang and McAuley 2018, section
IV.B). Equal counts count against it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tqdm
from absl import flags

from programs import cli, data_flags
from tff_tx import models, runtime, tasks
from tff_tx.errors import UserError

FLAGS = flags.FLAGS

flags.DEFINE_integer("max_length", 50, "Of histories, as in training, to share its encoded data.")
flags.DEFINE_integer("seed", 1, "As in training.")


def main(_) -> None:
    """Counts and ranks."""
    runtime.configure_tensorflow()
    model = tasks.ModelSpec(architecture="sasrec", max_length=FLAGS.max_length)  # whose weights nobody uses
    task = tasks.create_task("next_item", data_flags.data_spec(FLAGS.seed), model, tasks.LocalTraining())
    if task.test is None:
        raise UserError("the data have no test split: hold items out with --split=time and --test_fraction=1.")
    counts = item_counts(task.train, len(task.label_names))
    scores = rank(counts, task.eval_batches_fn(task.test), task.test.client_ids)
    told = ", ".join(f"{name} {scores[name]:.4f}" for name in ("hr_at_10", "ndcg_at_10", "auc"))
    print(f"most chosen first, {len(task.test.client_ids):,} test clients: {told}")


def item_counts(clients, num_items: int) -> np.ndarray:
    """How often the clients' histories have each item: float32 [1 + num_items], of which the first is no item's."""
    counts = np.zeros(1 + num_items, np.float32)
    reader = runtime.ClientReader(clients.serializable_dataset_fn)
    for client_id in _shown(clients.client_ids, "Counting"):
        for example in reader(client_id):
            np.add.at(counts, example["item_ids"].numpy(), 1)
    return counts


def rank(counts: np.ndarray, batches_fn, client_ids: Sequence[str]) -> dict[str, float]:
    """The metrics of counts as the scores of the candidates that evaluation asks for.

    Args:
      counts: Of `item_counts`.
      batches_fn: A task's `eval_batches_fn`.
      client_ids: Whose batches.
    """
    objective, reader, total = models.next_item(), runtime.ClientReader(batches_fn), None
    for client_id in _shown(client_ids, "Ranking"):
        for x, y in reader(client_id):
            sums = objective.sums_fn(tf.gather(counts, x["candidates"]), y, tf.constant(0.0))
            total = sums if total is None else tf.nest.map_structure(tf.add, total, sums)
    return {name: float(value) for name, value in objective.finalize_fn(total).items()}


def _shown(client_ids, what):
    return tqdm.tqdm(client_ids, desc=what, unit=" clients", leave=False, delay=2)


if __name__ == "__main__":
    cli.run(main)
