"""What a next_item model has to beat: the items that most training clients have, first.

`python -m benchmarks.popularity` with the data flags of a run ranks the candidates of `programs.evaluate`, the same
ones, by how often training clients chose each, and prints HR@10 and NDCG@10 (PopRec of Kang and McAuley 2018, section
IV.B). Equal counts count against it.
"""

from __future__ import annotations

from absl import flags

from benchmarks.item_baselines import item_counts, rank
from programs import cli, data_flags
from tff_tx import runtime, tasks
from tff_tx.core.errors import UserError

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


if __name__ == "__main__":
    cli.run(main)
