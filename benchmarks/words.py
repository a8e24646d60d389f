"""What needs no model: scores of words that sequence_to_sequence and question_answering have to beat.

`python -m benchmarks.words --task=sequence_to_sequence` with the data flags of a run takes the first words of a text
for its target, as many as training targets have in the mean; `--task=question_answering` answers with the longest
answer of a training question that the context has. Both are scored on the test records as programs.evaluate scores
models.
"""

from __future__ import annotations

import pandas as pd

from benchmarks.word_baselines import first_words, known_answers
from programs import cli
from tff_tx import datasets
from tff_tx.config.registries import TASKS
from tff_tx.core.errors import UserError, setting
from tff_tx.inference import texts
from tff_tx.run.assemble.tasks import data_spec


def main(settings: cli.Settings) -> None:
    """Fits and scores."""
    kind, data = settings.config.task.kind, data_spec(settings.config)
    scored = [name for name, task in TASKS.items() if task.score_metrics]
    if kind not in scored:
        raise UserError(f"{setting('task.kind')}={kind}: must be one of {', '.join(scored)}.")
    columns = TASKS[kind].scored_columns
    train, test = (pd.concat(datasets.dealt_records(data, split, *columns)) for split in ("train", "test"))
    if "target" in columns:
        scores = texts.score_targets(first_words(train["target"].tolist()), test, len(test))
    else:
        scores = texts.score_answers(known_answers(train["answers"].tolist()), test)
    told = ", ".join(f"{name} {value:.4f}" for name, value in scores.mean().items())
    print(f"{kind} without a model, {len(test):,} test records: {told}")


if __name__ == "__main__":
    cli.Program(main, settings=["data", "task.kind", "run.seed"]).run()
