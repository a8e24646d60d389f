"""Evaluates a trained model on held-out clients.

`python -m programs.evaluate --run_dir=runs/digits` evaluates a run on its own test clients; `--model=DIR --task=...
--data=...` a model directory on any data, and `--run_dir=... --data=...` a run: on all of the files, unless flags say
what of them to hold out. Prints the metrics over all the data and their spread over the clients, and writes both as
JSON, with a plot. Among them are ROUGE of generated texts, and exact match and F1 of answers.
"""

from __future__ import annotations

import dataclasses
import os

from programs import cli
from tff_tx.config.tools import EvaluateConfig
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting


def main(settings: cli.Settings) -> None:
    own = settings[EvaluateConfig]
    if (own.run_dir is None) == (own.model is None):
        paths = f"{setting('evaluate.run_dir')}={own.run_dir} and {setting('evaluate.model')}={own.model}"
        raise UserError(f"{paths}: set exactly one, the run or the model to evaluate.")
    from tff_tx.run import directory, scoring
    from tff_tx.run.assemble.tasks import evaluated

    cli.end_of_imports()
    run = directory.read_run(own.run_dir) if own.model is None else None
    config, is_whole = evaluated(settings.config, settings.given, run or own.model)
    changes = {"run.eval_batch_size": own.eval_batch_size}
    if own.personalize_learning_rate is not None:
        changes["client.learning_rate"] = own.personalize_learning_rate
    config = config.replace(changes)
    output_dir = own.output_dir or os.path.join(own.run_dir or own.model, "evaluation")
    files.make_directory(output_dir, setting("evaluate.output_dir"))
    split = "train" if is_whole else own.split_name
    names = ("personalize_epochs", "choose_steps", "neighbors", "similar_examples", "alone_epochs")
    options = {name: getattr(own, name) for name in (*names, "words", "num_beams")}
    found = scoring.evaluate(config, split, run=run, **options)
    if is_whole:  # beside those of the run's own splits
        found = dataclasses.replace(found, data=tuple(os.path.abspath(path) for path in config.data.files))
    print(found)
    print("Written: " + ", ".join(found.write(output_dir)))


PROGRAM = cli.Program(main, EvaluateConfig, settings=["task", "data", "run.seed", "engine.threads"])

if __name__ == "__main__":
    PROGRAM.run()
