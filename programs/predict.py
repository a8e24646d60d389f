"""Predicts with a trained model: text or files in, JSON lines out.

`python -m programs.predict --run_dir=runs/stdlib --text="def main("`. What comes out depends on what
the model was trained for: a label with its probability, entities, the words behind mask tokens, a
continuation, the forecast of each series in the files, items for each client, or
a class of each row.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

from absl import flags

from programs import cli
from tff_tx import datasets, prediction, record_prediction, run_directory
from tff_tx.errors import UserError

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "The directory of a run.")
flags.DEFINE_multi_string("text", [], "A text; the flag may be repeated.")
flags.DEFINE_list("input", [], "Files: of texts, one a line, images, or records as in training.")
flags.DEFINE_string("output", None, "Where the JSON lines go; default: the screen.")
flags.DEFINE_integer("batch_size", 32, "Inputs a batch.", lower_bound=1)
flags.DEFINE_integer("top_k", 3, "Labels, words or items told of each input.", lower_bound=1)
flags.DEFINE_integer("max_new_tokens", 100, "Length of a continuation.", lower_bound=1)
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
    run_directory.write_text(FLAGS.output, "\n".join(lines) + "\n", "--output")


def _predictions(kind, config) -> Iterator[dict]:
    directory = os.path.join(FLAGS.run_dir, run_directory.MODEL)
    if kind in record_prediction.PREDICTIONS:
        yield from record_prediction.predict_records(
            kind, directory, _records(config["data"]), FLAGS.batch_size, FLAGS.top_k
        )
        return
    inputs = _inputs(kind)
    predictor = prediction.Predictor(
        kind,
        directory,
        max_length=config["model"]["max_length"],
        top_k=FLAGS.top_k,
        max_new_tokens=FLAGS.max_new_tokens,
        temperature=FLAGS.temperature,
        seed=FLAGS.seed,
    )
    for start in range(0, len(inputs), FLAGS.batch_size):
        yield from predictor(inputs[start : start + FLAGS.batch_size])


def _records(trained_on) -> datasets.DataSpec:
    """The files of --input, with the columns of the run's data."""
    if FLAGS.text or not FLAGS.input:
        raise UserError("the model takes records: name files with --input, with the columns of the data of the run.")
    names = ("format", "columns", "label_column", "client_column", "numeric_columns", "categorical_columns")
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
