"""Predicts with a trained model: text or files in, JSON lines out.

`python -m programs.predict --run_dir=runs/stdlib --text="def main("`. What comes out depends on what
the model was trained for: a label with its probability, entities, the words behind mask tokens, a
continuation, what is made of a text, the answer to a question, the forecast of each series in the files, items for each
client, or a class of each row.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

import pandas as pd
from absl import flags

from programs import cli
from tff_tx import datasets, models
from tff_tx.core import files
from tff_tx.core.errors import UserError
from tff_tx.inference import predictors as prediction
from tff_tx.inference import records as record_prediction
from tff_tx.inference import texts
from tff_tx.run import directory as run_directory

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "The directory of a run.")
flags.DEFINE_multi_string("text", [], "A text; the flag may be repeated.")
flags.DEFINE_string("question", None, "What is asked of each --text, of a model that answers questions.")
flags.DEFINE_list("input", [], "Files: of texts, one a line, images, or records as in training.")
flags.DEFINE_string("output", None, "Where the JSON lines go; default: the screen.")
flags.DEFINE_integer("batch_size", 32, "Inputs a batch.", lower_bound=1)
flags.DEFINE_integer("top_k", 3, "Labels, words or items told of each input.", lower_bound=1)
flags.DEFINE_integer(
    "max_new_tokens", None, "Length of what is written; default: 100, or that of targets in training.", lower_bound=1
)
flags.DEFINE_integer("num_beams", 1, "Beams of the search for what is made of a text.", lower_bound=1)
flags.DEFINE_float("temperature", 0.0, "Of sampling a continuation; 0: the likeliest.", lower_bound=0.0)
flags.DEFINE_integer("seed", 1, "Of sampling a continuation.", lower_bound=0)


def main(_) -> None:
    """Reads the inputs, predicts, writes."""
    if FLAGS.run_dir is None:
        raise UserError("--run_dir is not set: name the directory of a run.")
    config = run_directory.read_config(FLAGS.run_dir)["task"]
    kind = config["kind"]
    lines = [json.dumps(result, ensure_ascii=False) for result in _predictions(kind, config)]
    if FLAGS.output is None:
        sys.stdout.write("\n".join(lines) + "\n")
        return
    files.write_text(FLAGS.output, "\n".join(lines) + "\n", "--output")


def _predictions(kind, config) -> Iterator[dict]:
    directory = os.path.join(FLAGS.run_dir, run_directory.MODEL)
    if kind in record_prediction.PREDICTIONS:
        yield from record_prediction.predict_records(
            kind, directory, _records(config["data"]), FLAGS.batch_size, FLAGS.top_k
        )
        return
    if kind == "question_answering":
        yield from _answers(directory, config)
        return
    inputs = _inputs(kind)
    if kind == "sequence_to_sequence":
        yield from _written(inputs, directory, config["model"])
        return
    predictor = prediction.Predictor(
        kind,
        directory,
        max_length=config["model"]["max_length"],
        top_k=FLAGS.top_k,
        max_new_tokens=FLAGS.max_new_tokens or 100,
        temperature=FLAGS.temperature,
        seed=FLAGS.seed,
    )
    for start in range(0, len(inputs), FLAGS.batch_size):
        yield from predictor(inputs[start : start + FLAGS.batch_size])


def _written(inputs, directory, model) -> Iterator[dict]:
    write = texts.Generator(
        models.from_pretrained("sequence_to_sequence", directory),
        models.load_tokenizer(directory),
        max_length=model["max_length"],
        max_new_tokens=FLAGS.max_new_tokens or model["max_target_length"],
        num_beams=FLAGS.num_beams,
        temperature=FLAGS.temperature,
        seed=FLAGS.seed,
    )
    for start in range(0, len(inputs), FLAGS.batch_size):
        some = inputs[start : start + FLAGS.batch_size]
        yield from ({"text": text, "written": written} for text, written in zip(some, write(some)))


def _answers(directory, config) -> Iterator[dict]:
    given = (FLAGS.question is not None, bool(FLAGS.text), bool(FLAGS.input))
    if given not in ((True, True, False), (False, False, True)):
        raise UserError("the model answers questions: set --question and --text, or --input to files with both.")
    if FLAGS.input:
        chunks = datasets.read_records(_record_files(config["data"]), "question", "context")
    else:
        chunks = [pd.DataFrame({"question": FLAGS.question, "context": FLAGS.text})]
    model = config["model"]
    answer = texts.Answerer(
        models.from_pretrained("question_answering", directory),
        models.load_tokenizer(directory),
        max_length=model["max_length"],
        overlap=model["context_overlap"],
        max_answer_length=model["max_answer_length"],
        batch_size=FLAGS.batch_size,
    )
    for chunk in chunks:
        questions, contexts = chunk["question"].tolist(), chunk["context"].tolist()
        for question, found in zip(questions, answer(questions, contexts)):
            yield {"question": question, "answer": found.text, "start": found.start, "score": round(found.score, 4)}


def _records(trained_on) -> datasets.DataSpec:
    """The files of --input, with the columns of the run's data."""
    if FLAGS.text or FLAGS.question or not FLAGS.input:
        raise UserError("the model takes records: name files with --input, with the columns of the data of the run.")
    return _record_files(trained_on)


def _record_files(trained_on) -> datasets.DataSpec:
    names = (
        *("format", "columns", "label_column", "client_column", "numeric_columns", "categorical_columns"),
        *("question_column", "context_column"),
    )
    columns = {n: tuple(v) if isinstance(v, list) else v for n, v in trained_on.items() if n in names}
    return datasets.DataSpec("file", files=tuple(FLAGS.input), **columns)


def _inputs(kind) -> list:
    if not FLAGS.text and not FLAGS.input:
        raise UserError("there is nothing to predict: set --text or --input.")
    if kind == "image_classification":
        if FLAGS.text:
            raise UserError("the model takes images: name files with --input instead of --text.")
        return [prediction.read_image(path) for path in FLAGS.input]
    texts = list(FLAGS.text)
    for path in FLAGS.input:
        try:
            with open(path, encoding="utf-8") as file:
                texts += [line.rstrip("\n") for line in file if line.strip()]
        except OSError as error:
            raise UserError(f"--input={path} cannot be read ({error.strerror}): check the path.") from None
        except UnicodeDecodeError as error:
            raise UserError(f"--input={path} is not UTF-8 (byte {error.start}): convert it to UTF-8.") from None
    return texts


if __name__ == "__main__":
    cli.run(main)
