"""An epoch, a prediction and an evaluation across parties, whatever carries the messages."""

from __future__ import annotations

import collections
import concurrent.futures
import itertools
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable

import numpy as np
import tensorflow as tf

from tff_tx.config.vertical import VerticalConfig
from tff_tx.core.errors import UserError, setting
from tff_tx.vertical.crossing import VERSION
from tff_tx.vertical.label_party import LabelParty
from tff_tx.vertical.masking import unmasked_sum

if TYPE_CHECKING:
    from tff_tx.vertical.middle_party import MiddleParty

Ask = Callable[[str, "Mapping[str, tuple[dict, Sequence[np.ndarray]]]"], "dict[str, tuple[dict, list[np.ndarray]]]"]
"""(phase, by party what is said and arrays) -> by party what it says and arrays, see `FeatureParty.answer`."""


# A party that says more of what it has is wrong, and would have this one ask for ever.
_MOST = {"tokens": 2**16, "further": 10**9}


def open_federation(names: Sequence[str], ask: Ask, rows: int, alignment: str) -> dict[str, dict[str, int]]:
    """Has all parties compare version, rows and order, and agree on keys, before anything of the data is sent.

    Returns:
      By feature party "tokens", how many it sends of a row, and "further", how many rows it has that are not common.

    Raises:
      UserError: If one has other rows, or another order or version, or says what cannot be.
    """
    said = {"version": VERSION, "alignment": alignment, "rows": rows}
    answers = ask("open", {name: (said, ()) for name in names})
    if offers := {name: told["key"] for name, (told, _) in answers.items() if "key" in told}:
        ask("agree", {name: ({"keys": offers}, ()) for name in names})
    for (name, (told, _)), (key, most) in itertools.product(answers.items(), _MOST.items()):
        if type(told.get(key, 0)) is not int or not 0 <= told.get(key, 0) <= most:
            raise UserError(f"{name} sent {key}={told[key]!r}: must be a whole number from 0 to {most}.")
    return {n: {key: told.get(key, 0) for key in _MOST} for n, (told, _) in answers.items()}


def train_epoch(
    label: LabelParty,
    ask: Ask,
    settings: VerticalConfig,
    epoch: int,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float]:
    """Trains on all batches of an epoch; one round trip each, during which the label party waits unless it is `late`.

    Args:
      label: The label party.
      ask: Sends feature parties a message each.
      settings: What crosses the cut.
      epoch: Which, from 1.
      on_batch: Called with the number of batches done and of all.

    Returns:
      Figures by column of `metrics.csv`.
    """
    batches, losses, sizes = label.schedule.batches(label.asks_for, epoch), [], collections.Counter()
    waiting: collections.deque[dict[str, list[np.ndarray]]] = collections.deque()
    began = time.perf_counter()

    def ask_for(number, gradients):
        said = {"split": label.asks_for, "epoch": epoch, "batch": number}
        answers = ask("step", {name: (said, gradients.get(name, ())) for name in label.others})
        sizes["up"] += sum(label.wire.size(arrays) for _, arrays in answers.values())
        _count_below(sizes, answers)
        return answers

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        start = pool.submit if settings.late else _at_once
        coming = start(ask_for, 0, {})
        for number, batch in enumerate(batches):
            cuts, is_last = received(coming.result(), label, len(batch)), number + 1 == len(batches)
            if settings.late and not is_last:  # the others compute while this party does
                coming = start(ask_for, number + 1, waiting.popleft() if waiting else {})
            loss, found = label.step(epoch, number, cuts)
            key = label.schedule.key(f"rounding of {label.name}", epoch, number)
            waiting.append({name: label.wire.pack(gradient, key) for name, gradient in found.items()})
            sizes["down"] += sum(map(label.wire.size, waiting[-1].values()))
            if not settings.late and not is_last:
                coming = start(ask_for, number + 1, waiting.popleft())
            losses.append(loss * len(batch))
            on_batch(number + 1, len(batches))
    for gradients in waiting:
        _count_below(sizes, ask("end", {name: ({"epoch": epoch}, gradients[name]) for name in label.others}))
    rows = sum(map(len, batches))
    return {
        "train/loss": sum(losses) / rows,
        "train/num_examples": rows,
        "comm/upload_bytes_per_row": sizes["up"] / rows,
        "comm/download_bytes_per_row": sizes["down"] / rows,
        "comm/bytes_per_step": sizes.total() / len(batches),
        "comm/round_trips": len(batches) + len(waiting),
        "time/round_seconds": time.perf_counter() - began,
    }


def _count_below(sizes, answers):
    """Adds the bytes that passed below a party in the middle."""
    for told, _ in answers.values():
        sizes.update({way: told[way] for way in ("up", "down") if way in told})


def _at_once(function, *args):
    future: concurrent.futures.Future = concurrent.futures.Future()
    future.set_result(function(*args))
    return future


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
        said = {"split": split, "epoch": epoch, "batch": number, "without": list(settings.without)}
        cuts = received(ask("predict", {name: (said, ()) for name in asked}), label, len(batch))
        found.append(label.logits(split, epoch, number, cuts))
    return np.concatenate(found), np.concatenate(batches)


def predict_further(label: LabelParty, ask: Ask, name: str, rows: int, epoch: int = 0) -> np.ndarray:
    """Predictions float32 [rows, outputs] of the rows that one feature party alone has, in federated transfer.

    Args:
      label: The label party.
      ask: Sends feature parties a message each.
      name: The feature party.
      rows: How many it has.
      epoch: As of `predict`.
    """
    found = []
    for start in range(0, rows, label.schedule.batch_size):
        said = {"split": "further", "epoch": epoch, "batch": len(found)}
        cuts = received(ask("predict", {name: (said, ())}), label, min(label.schedule.batch_size, rows - start))
        found.append(label.logits("further", epoch, len(found), cuts))
    return np.concatenate(found)


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


def received(answers: Mapping[str, Any], label: LabelParty | MiddleParty, rows: int) -> dict[str, np.ndarray]:
    """What parties sent of a batch: float32 [rows, tokens, cut_size] by name.

    Raises:
      UserError: If it is of another shape, or not finite.
    """
    if label.settings.secure_sum:
        return _summed(answers, label, rows)
    found = {}
    for name, (_, arrays) in answers.items():
        try:
            found[name] = label.wire.unpack(arrays, label.cut_shape(name, rows))
        except ValueError as error:
            raise UserError(
                f"{name} sent what is no activation of {rows} rows and width {label.wire.cut_size}: {error}; if "
                f"training diverges, lower {setting('vertical.learning_rate')}."
            ) from None
    return found


def _summed(answers, label, rows):
    """The sum in the place of one party's activations, and nothing in those of the others: the top adds them up."""
    for name, (_, arrays) in answers.items():
        if [(array.dtype, array.shape) for array in arrays] != [(np.uint32, label.cut_shape(name, rows))]:
            raise UserError(f"{name} sent what cannot be summed: use the same settings.")
    total = unmasked_sum([array for _, (array,) in answers.values()])
    found = {name: np.zeros_like(total) for name in answers}
    return {**found, next(iter(found)): total}
