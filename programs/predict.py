"""Predicts with a trained model: text or files in, JSON lines out.

`python -m programs.predict --run_dir=runs/stdlib --text="def main("`. The output depends on the task: a label with its
probability, entities, the words behind mask tokens, a continuation, a generated text, the answer to a question, the
forecast of each series in the files, items for each client, or a class of each row.
"""

from __future__ import annotations

import sys

from programs import cli
from tff_tx.config.tools import PredictConfig
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting, shown

_OPTIONS = ("batch_size", "top_k", "max_new_tokens", "num_beams", "temperature", "seed")


def main(settings: cli.Settings) -> None:
    own = settings[PredictConfig]
    if own.run_dir is None:
        raise UserError(f"{setting('predict.run_dir')} is not set: name the directory of a run.")
    from tff_tx import inference
    from tff_tx.run import directory
    from tff_tx.run.assemble.trained import run_predictor

    options = {name: getattr(own, name) for name in _OPTIONS}
    run = directory.read_run(own.run_dir)
    if own.data:
        options["on_bad_rows"] = run.config.data.on_bad_rows
    if own.client is None and run.config.model.personal is not None:
        print("With the weights that a client begins with; --client uses those of one.", file=sys.stderr)
    predictor = run_predictor(run, own.client, own.similar_examples, **options)
    inputs = predictor.read(texts=own.text, question=own.question, files=own.data)
    text = inference.as_text(predictor.predict(inputs), own.output)
    if left_out := predictor.left_out.rows:
        print(f"{left_out:,} rows are skipped, the first: {shown(' '.join(predictor.left_out.first))}", file=sys.stderr)
    if own.output is None:
        if sys.stdout.isatty():
            sys.stdout.write(text)
        else:  # another program reads them
            sys.stdout.buffer.write(text.encode())
        return
    files.write_text(own.output, text, setting("predict.output"))


PROGRAM = cli.Program(main, PredictConfig)

if __name__ == "__main__":
    PROGRAM.run()
