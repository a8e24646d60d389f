"""An epoch, a prediction and an evaluation across parties, whatever carries the messages."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable

import numpy as np
import tensorflow as tf

from tff_tx.config.vertical import VerticalConfig
from tff_tx.core.errors import UserError
from tff_tx.vertical.crossing import VERSION, from_wire, to_wire
from tff_tx.vertical.label_party import LabelParty

Ask = Callable[[str, "Mapping[str, tuple[dict, Sequence[np.ndarray]]]"], "dict[str, tuple[dict, list[np.ndarray]]]"]
"""(phase, by party what is said and arrays) -> by party what it says and arrays, see `FeatureParty.answer`."""


def open_federation(names: Sequence[str], ask: Ask, rows: int, alignment: str) -> dict[str, int]:
    """Has all parties compare version, rows and order, before anything of the data is sent.

    Returns:
      The number of tokens that each feature party sends of a row, by name.

    Raises:
      UserError: If one has other rows, or another order or version.
    """
    said = {"version": VERSION, "alignment": alignment, "rows": rows}
    answers = ask("open", {name: (said, ()) for name in names})
    return {name: int(told["tokens"]) for name, (told, _) in answers.items()}


def train_epoch(
    label: LabelParty,
    ask: Ask,
    settings: VerticalConfig,
    epoch: int,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float]:
    """Trains on all batches of an epoch; one round trip each.

    Args:
      label: The label party.
      ask: Sends feature parties a message each.
      settings: What crosses the cut.
      epoch: Which, from 1.
      on_batch: Called with the number of batches done and of all.

    Returns:
      Figures by column of `metrics.csv`.
    """
    batches, losses, gradients = label.schedule.batches(label.asks_for, epoch), [], {}
    upload = download = rows = 0
    began = time.perf_counter()
    for number, batch in enumerate(batches):
        said = {"split": label.asks_for, "epoch": epoch, "batch": number}
        answers = ask("step", {name: (said, gradients.get(name, ())) for name in label.others})
        cuts = _received(answers, settings, len(batch))
        upload += sum(array.nbytes for _, arrays in answers.values() for array in arrays)
        loss, found = label.step(epoch, number, cuts)
        gradients = {name: [to_wire(gradient, settings.cut_dtype)] for name, gradient in found.items()}
        download += sum(array.nbytes for arrays in gradients.values() for array in arrays)
        losses.append(loss * len(batch))
        rows += len(batch)
        on_batch(number + 1, len(batches))
    ask("end", {name: ({"epoch": epoch}, gradients[name]) for name in label.others})
    return {
        "train/loss": sum(losses) / rows,
        "train/num_examples": rows,
        "comm/upload_bytes_per_row": upload / rows,
        "comm/download_bytes_per_row": download / rows,
        "comm/bytes_per_step": (upload + download) / len(batches),
        "comm/round_trips": len(batches) + 1,
        "time/round_seconds": time.perf_counter() - began,
    }


def predict(
    label: LabelParty, ask: Ask, settings: VerticalConfig, split: str = "test", epoch: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Predicts a split, without the parties of `settings.without`.

    Args:
      label: The label party.
      ask: Sends feature parties a message each.
      settings: Who is missing, and what crosses the cut.
      split: "train", "test" or "all".
      epoch: After which; noise on activations is drawn anew for each.

    Returns:
      Predictions float32 [rows, outputs], and the rows' positions.
    """
    asked, found = [name for name in label.others if name not in settings.without], []
    batches = label.schedule.batches(split, epoch)
    for number, batch in enumerate(batches):
        said = {"split": split, "epoch": epoch, "batch": number}
        cuts = _received(ask("predict", {name: (said, ()) for name in asked}), settings, len(batch))
        found.append(label.logits(split, epoch, number, cuts))
    return np.concatenate(found), np.concatenate(batches)


def evaluate(
    label: LabelParty, ask: Ask, settings: VerticalConfig, labels: np.ndarray, split: str = "test", epoch: int = 0
) -> dict[str, float]:
    """The objective's metrics on a split.

    Args:
      label: The label party.
      ask: Sends feature parties a message each.
      settings: Who is missing.
      labels: True labels of all common rows; those of training may be randomized.
      split: "train" or "test".
      epoch: As of `predict`.
    """
    logits, rows = predict(label, ask, settings, split, epoch)
    objective, true = label.top.model.objective, tf.constant(labels[rows])
    sums = objective.sums_fn(tf.constant(logits), true, objective.loss_fn(tf.constant(logits), true))
    found = {name: float(value) for name, value in objective.finalize_fn(sums).items() if value.shape.rank == 0}
    return {**found, **(objective.pooled_fn(logits, labels[rows]) if objective.pooled_fn else {})}


def _received(answers: Mapping[str, Any], settings: VerticalConfig, rows: int) -> dict[str, np.ndarray]:
    found = {}
    for name, (_, arrays) in answers.items():
        cut = from_wire(arrays[0], settings.cut_dtype) if len(arrays) == 1 else None
        if cut is None or cut.ndim != 3 or len(cut) != rows or cut.shape[2] != settings.cut_size:
            raise UserError(f"{name} sent what is no activation of {rows} rows and width {settings.cut_size}.")
        if not np.isfinite(cut).all():
            raise UserError(f"{name} sent activations that are not finite: lower its learning rate.")
        found[name] = cut
    return found
