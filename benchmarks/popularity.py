"""What a next_item model has to beat: the items that most training clients have, first.

`python -m benchmarks.popularity` with the data flags of a run ranks the candidates of `programs.evaluate`, the same
ones, by how often training clients chose each, and prints HR@10 and NDCG@10 (PopRec of Kang and McAuley 2018, section
IV.B). Equal counts count against it.
"""

from __future__ import annotations

from benchmarks.item_baselines import item_counts, rank
from programs import cli
from tff_tx import runtime, tasks
from tff_tx.config.algorithm import ClientConfig
from tff_tx.core.errors import UserError
from tff_tx.run.assemble.tasks import data_spec


def main(settings: cli.Settings) -> None:
    """Counts and ranks."""
    config = settings.config
    runtime.configure_tensorflow()
    model = tasks.ModelSpec(architecture="sasrec", max_length=config.task.max_length)  # whose weights nobody uses
    task = tasks.create_task("next_item", data_spec(config), model, ClientConfig())
    if task.test is None:
        raise UserError("the data have no test split: hold items out with --split=time and --test_fraction=1.")
    counts = item_counts(task.train, len(task.label_names))
    scores = rank(counts, task.eval_batches_fn(task.test), task.test.client_ids)
    told = ", ".join(f"{name} {scores[name]:.4f}" for name in ("hr_at_10", "ndcg_at_10", "auc"))
    print(f"most chosen first, {len(task.test.client_ids):,} test clients: {told}")


if __name__ == "__main__":
    cli.Program(main, settings=["data", "task.max_length", "run.seed"]).run()
