"""A run's trained model, or that of one of its clients: for predictions, and for other runtimes."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from typing import Any

from tff_tx import inference, models, tasks
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting
from tff_tx.run.assemble import own_models
from tff_tx.run.assemble.tasks import data_spec, model_spec
from tff_tx.run.directory import StoredRun


def run_predictor(
    run: StoredRun, client: str | None = None, similar_examples: int = 0, **options: Any
) -> inference.Predictor:
    """The predictor of a run's trained model, or of that of one client; `options` are fields of `inference.Options`.

    With `similar_examples` the client's own adapter counts by input, see `instance_weights`.

    Raises:
      UserError: If the run has no model yet, or none of this client, or models of its task do not predict.
    """
    spec, data = model_spec(run.config), data_spec(run.config)
    predictor = inference.build_predictor(run.config.task.kind, run.model, spec, data=data, **options)
    if similar_examples and client is None:
        path = setting("predict.similar_examples")
        raise UserError(f"{path}={similar_examples} has no effect without {setting('predict.client')}: set that too.")
    if client is not None:
        predictor.model = own_models.client_model(run, client, "predict.client", similar_examples)
    return predictor


CLIENTS = "clients"
"""The directory of clients' exported models in a run's."""
PRETRAINED = "pretrained"
"""The format that transformers opens, as `model/` of a run has it."""


def export_run(
    run: StoredRun, kind: str, output: str | None = None, client: str | None = None
) -> tuple[str, Mapping[str, Any]]:
    """Exports a run's trained model, or a client's own, with its configuration and its tokenizer or image processor.

    Args:
      run: The run.
      kind: One of `inference.EXPORTS`, or `PRETRAINED`.
      output: The directory; None: one of the format in the run's `export/`, or of a client in its `clients/`.
      client: The client; None: the model that all share.

    Returns:
      The directory, and the `tf.TensorSpec`s of the inputs, of none for `PRETRAINED`.

    Raises:
      UserError: If the run has no model yet, or none of this client, or it cannot be exported.
    """
    where, hidden = os.path.join(run.directory, "export", kind), ["*.safetensors", "*.h5"]
    if client is None:
        model = models.from_pretrained(tasks.task_kind(run.config.task.kind).auto_class, run.model)
    else:
        model = own_models.client_model(run, client, "export.client")
        where = os.path.join(run.directory, CLIENTS, re.sub(r"[^\w-]", "_", client), kind)
        hidden.append("README.md")  # has figures of the model that all share
    parent, name = os.path.split(os.path.abspath(output or where))
    files.make_directory(parent, setting("export.output"))
    inputs = {}

    def write(directory):
        shutil.copytree(run.model, directory, ignore=shutil.ignore_patterns(*hidden), dirs_exist_ok=True)
        if kind == PRETRAINED:
            models.save_pretrained(model, directory)
        else:
            inputs.update(inference.export(model, kind, directory))

    return files.write_directory(parent, name, write, private=client is not None), inputs
