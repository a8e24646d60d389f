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

from absl import flags

from programs import cli
from tff_tx import datasets, inference, tasks
from tff_tx.core import files
from tff_tx.core.errors import UserError
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

_OPTIONS = ("batch_size", "top_k", "max_new_tokens", "num_beams", "temperature", "seed")


def main(_) -> None:
    """Reads the inputs, predicts, writes."""
    if FLAGS.run_dir is None:
        raise UserError("--run_dir is not set: name the directory of a run.")
    config = run_directory.read_config(FLAGS.run_dir)["task"]
    data = {k: tuple(v) if isinstance(v, list) else v for k, v in config["data"].items()}
    predictor = inference.build_predictor(
        config["kind"],
        os.path.join(FLAGS.run_dir, run_directory.MODEL),
        tasks.ModelSpec(**config["model"]),
        data=datasets.DataSpec(**data),
        **{name: FLAGS[name].value for name in _OPTIONS},
    )
    inputs = predictor.read(texts=FLAGS.text, question=FLAGS.question, files=FLAGS.input)
    lines = [json.dumps(result, ensure_ascii=False) for result in predictor.predict(inputs)]
    if FLAGS.output is None:
        sys.stdout.write("\n".join(lines) + "\n")
        return
    files.write_text(FLAGS.output, "\n".join(lines) + "\n", "--output")


if __name__ == "__main__":
    cli.run(main)
