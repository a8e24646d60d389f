"""Predicts with a trained model: text or files in, JSON lines out.

`python -m programs.predict --run_dir=runs/stdlib --text="def main("`. What comes out depends on what
the model was trained for: a label with its probability, entities, the words behind mask tokens, or
a continuation.
"""

from __future__ import annotations

import json
import os
import sys

from absl import flags

from programs import cli
from tff_tx import prediction, run_directory
from tff_tx.errors import UserError

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "The directory of a run.")
flags.DEFINE_multi_string("text", [], "A text; the flag may be repeated.")
flags.DEFINE_list("input", [], "Files: of texts, one a line, or images.")
flags.DEFINE_string("output", None, "Where the JSON lines go; default: the screen.")
flags.DEFINE_integer("batch_size", 32, "Inputs a batch.", lower_bound=1)
flags.DEFINE_integer("top_k", 3, "Labels or words told of each input.", lower_bound=1)
flags.DEFINE_integer("max_new_tokens", 100, "Length of a continuation.", lower_bound=1)
flags.DEFINE_float("temperature", 0.0, "Of sampling a continuation; 0: the likeliest.", lower_bound=0.0)
flags.DEFINE_integer("seed", 1, "Of sampling a continuation.", lower_bound=0)


def main(_) -> None:
    """Reads the inputs, predicts, writes."""
    if FLAGS.run_dir is None:
        raise UserError("--run_dir is not set: name the directory of a run.")
    config = run_directory.read_config(FLAGS.run_dir)["task"]
    kind = config["kind"]
    inputs = _inputs(kind)
    predictor = prediction.Predictor(
        kind,
        os.path.join(FLAGS.run_dir, run_directory.MODEL),
        max_length=config["model"]["max_length"],
        top_k=FLAGS.top_k,
        max_new_tokens=FLAGS.max_new_tokens,
        temperature=FLAGS.temperature,
        seed=FLAGS.seed,
    )
    lines = [
        json.dumps(result, ensure_ascii=False)
        for start in range(0, len(inputs), FLAGS.batch_size)
        for result in predictor(inputs[start : start + FLAGS.batch_size])
    ]
    if FLAGS.output is None:
        sys.stdout.write("\n".join(lines) + "\n")
        return
    run_directory.write_text(FLAGS.output, "\n".join(lines) + "\n", "--output")


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
