"""What needs no model: scores of words that sequence_to_sequence and question_answering have to beat.

`python -m benchmarks.words --task=sequence_to_sequence` with the data flags of a run takes the first words of a text
for its target, as many as training targets have in the mean; `--task=question_answering` answers with the longest
answer of a training question that the context has. Both are scored on the test records as programs.evaluate scores
models.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from absl import flags

from programs import cli, data_flags
from tff_tx import datasets, texts

FLAGS = flags.FLAGS

flags.DEFINE_enum("task", None, list(texts.METRICS), "What is to be beaten.", required=True)
flags.DEFINE_integer("seed", 1, "As in training: decides the held-out records.")


def main(_) -> None:
    """Fits and scores."""
    data = data_flags.data_spec(FLAGS.seed)
    columns = _COLUMNS[FLAGS.task]
    train, test = (pd.concat(datasets.dealt_records(data, split, *columns)) for split in ("train", "test"))
    if FLAGS.task == "sequence_to_sequence":
        scores = texts.score_targets(first_words(train["target"].tolist()), test, len(test))
    else:
        scores = texts.score_answers(known_answers(train["answers"].tolist()), test)
    told = ", ".join(f"{name} {value:.4f}" for name, value in scores.mean().items())
    print(f"{FLAGS.task} without a model, {len(test):,} test records: {told}")


def first_words(targets: Sequence[str]):
    """From texts to the first words of each, as many as the targets have in the mean."""
    most = round(sum(len(target.split()) for target in targets) / len(targets))
    return lambda found: [" ".join(text.split()[:most]) for text in found]


def known_answers(answers: Sequence[Sequence[tuple]]):
    """From questions and contexts to the longest of the answers that each context has."""
    known = sorted({text for given in answers for text, _ in given}, key=lambda text: (-len(text), text))

    def answer(questions: Sequence[str], contexts: Sequence[str]) -> list[texts.Answer]:
        del questions
        found = (next((text for text in known if text in context), "") for context in contexts)
        return [texts.Answer(text, context.find(text) if text else -1, 0.0) for text, context in zip(found, contexts)]

    return answer


_COLUMNS = {"sequence_to_sequence": ("text", "target"), "question_answering": ("question", "context", "answers")}


if __name__ == "__main__":
    cli.run(main)
