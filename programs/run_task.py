"""The task of a run, from what its directory says."""

from __future__ import annotations

import dataclasses
import os

from absl import flags

from programs import data_flags, training_flags
from tff_tx import datasets, tasks
from tff_tx.core.errors import UserError
from tff_tx.run import directory as run_directory

FLAGS = flags.FLAGS

_LENGTHS = (
    *("max_length", "max_target_length", "context_overlap", "max_answer_length"),
    *("context_length", "horizons"),
)
"""Of the model's specification, what evaluation needs beside the trained model."""


def task_of_run(run_dir: str, data: datasets.DataSpec | None = None, eval_batch_size: int = 32) -> tasks.FederatedTask:
    """The task with the run's trained model; see `description_of_run`.

    Args:
        run_dir: The directory of a run that has ended.
        data: Other data than the run's, or None.
        eval_batch_size: Examples a batch in evaluation.
    """
    described = description_of_run(run_dir, data)
    return tasks.create_task(*described, training_flags.local_training(), eval_batch_size=eval_batch_size)


def description_of_run(
    run_dir: str, data: datasets.DataSpec | None = None
) -> tuple[str, datasets.DataSpec, tasks.ModelSpec]:
    """The kind of task, the data and the trained model of a run.

    Args:
        run_dir: The directory of a run that has ended.
        data: Other data than the run's, or None.

    Raises:
        UserError: If there is no such run, or it has no model yet.
    """
    config = run_directory.read_config(run_dir)["task"]
    lengths = {name: config["model"][name] for name in _LENGTHS if name in config["model"]}
    model = tasks.ModelSpec(pretrained=os.path.join(run_dir, run_directory.MODEL), **lengths)
    if not os.path.isdir(model.pretrained):
        raise UserError(
            f"--run_dir={run_dir} has no model yet: let the run finish (the same programs.train command resumes it)."
        )
    if data is None:
        stored = {k: tuple(v) if isinstance(v, list) else v for k, v in config["data"].items()}
        data = datasets.DataSpec(**stored)
        if data.silos:
            raise UserError(
                f"--run_dir={run_dir} was trained on data of the silos {', '.join(data.silos)}, which are read there "
                "only: use programs.evaluate with data of this machine, --dataset=file and --data."
            )
        data = dataclasses.replace(data, cache_dir=FLAGS.cache_dir or data.cache_dir)
    else:
        data = dataclasses.replace(data, label_names=data.label_names or tuple(config["label_names"]))
    return config["kind"], data, model


def data_of_flags() -> datasets.DataSpec | None:
    """The data that flags name in place of the run's, or None."""
    return None if FLAGS["dataset"].using_default_value else data_flags.data_spec(FLAGS.seed)
