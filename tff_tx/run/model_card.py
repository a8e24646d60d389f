"""`model/README.md`: the model card that goes with a trained model, in the format of the Hugging Face hub."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tff_tx import models, tasks
from tff_tx.core import files
from tff_tx.core.text import markdown
from tff_tx.run import reporting
from tff_tx.run.directory import MODEL, StoredRun, read_metrics

CARD = "README.md"
_MOST_OF_CARD = 1 << 20
_UNPROTECTED = (
    "Trained without differential privacy of the server's releases: the weights may give away training data. Pass the "
    "model on only to whom the data's owners have agreed to."
)


def write_card(
    run: StoredRun, results: Mapping[str, Any], metrics: Sequence[models.Metric], privacy: Sequence[str] = ()
) -> str | None:
    """Writes the card of a run's model; returns its path, None where the run has several models.

    `results` are final figures by split and metric, and `privacy` are sections in Markdown on what is guaranteed.
    """
    directory = os.path.join(run.directory, MODEL)
    if not os.path.isdir(directory):
        return None
    rows, config = read_metrics(run.directory), run.config
    base, licence = config.model.pretrained, _licence(config.model.pretrained)
    is_name = base is not None and not os.path.isdir(base)
    front = ["library_name: transformers", "tags: [federated-learning, tff_tx]"]
    front += [f"base_model: {base}"] if is_name else []
    front += [f"license: {licence}"] if licence else []
    origin = (
        f"Fine-tuned from {markdown(os.path.basename(base.rstrip('/')))}" if base else "Trained from random weights"
    )
    terms = f"The licence of the base model is {licence}." if licence else "See the base model for its licence."
    parts = [
        "---\n" + "\n".join(front) + "\n---",
        f"# {tasks.task_kind(config.task.kind).title} on {markdown(config.data.dataset)}",
        f"{origin}, federatedly: the data stayed with their clients. {reporting.summary(rows, run)}",
        *([terms] if base else []),
        "## Results",
        *reporting.tables(results, metrics),
        *(privacy or [f"## Privacy\n\n{_UNPROTECTED}"]),
        "## Intended use",
        "Inputs like those of the clients that it was trained on. The results above are means: single clients may "
        "be served worse. Evaluate the model on your own data before you rely on it.",
    ]
    path = os.path.join(directory, CARD)
    with files.atomic(path) as file:
        file.write("\n\n".join(parts) + "\n")
    return path


def _licence(base):
    """What the card of the base model says, None where there is none on this machine."""
    card = os.path.join(base or "", CARD)
    if not base or not os.path.isfile(card):
        return None
    with open(card, encoding="utf-8", errors="replace") as file:
        front = file.read(_MOST_OF_CARD).split("\n---", 1)[0]
    found = re.search(r"(?m)^license: *([\w.-]+) *$", front)
    return found and found[1]
