"""Two ways to compute adapters, on every architecture: `python -m benchmarks.adapters`.

Gradients of one batch, in processor time: of all weights; of adapters of rank 8 at the architecture's usual places,
once as x W + s (x A) B within the matching layers, once as the weight W + s A B in the place of W, which works for any
weight and forms a gradient of its whole size. The ways take turns in one process.
"""

from __future__ import annotations

import collections
import statistics
import sys
import time
from typing import Any, Callable

import numpy as np
import tensorflow as tf

from benchmarks import report
from tff_tx import models, runtime, tasks

_LENGTH, _BATCH, _VOCABULARY, _CLASSES = 64, 8, 8192, 4
_IMAGE = 64

_LAYERS = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
_USUAL = {**_LAYERS, "intermediate_size": 1024}
_TEXTS = {"vocab_size": _VOCABULARY, "max_position_embeddings": 2 * _LENGTH}
_PICTURES = {"image_size": _IMAGE}
_LABELS = {"num_labels": _CLASSES}

ARCHITECTURES = {
    "bert": ("sequence_classification", {**_USUAL, **_TEXTS, **_LABELS}),
    "distilbert": (
        "sequence_classification",
        {"dim": 256, "n_layers": 4, "n_heads": 4, "hidden_dim": 1024, **_TEXTS, **_LABELS},
    ),
    "roberta": ("sequence_classification", {**_USUAL, **_TEXTS, **_LABELS, "pad_token_id": 1}),
    "albert": ("sequence_classification", {**_USUAL, **_TEXTS, **_LABELS, "embedding_size": 128}),
    "electra": ("sequence_classification", {**_USUAL, **_TEXTS, **_LABELS, "embedding_size": 128}),
    "deberta-v2": (
        "sequence_classification",
        {**_USUAL, **_TEXTS, **_LABELS, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    ),
    "gpt2": (
        "causal_lm",
        {"n_embd": 256, "n_layer": 4, "n_head": 4, "n_positions": 2 * _LENGTH, "vocab_size": _VOCABULARY},
    ),
    "opt": ("causal_lm", {**_LAYERS, **_TEXTS, "ffn_dim": 1024, "word_embed_proj_dim": 256}),
    "t5": (
        "sequence_to_sequence",
        {"d_model": 256, "d_kv": 64, "d_ff": 1024, "num_layers": 4, "num_heads": 4, "vocab_size": _VOCABULARY},
    ),
    "vit": ("image_classification", {**_USUAL, **_PICTURES, **_LABELS, "patch_size": 8}),
    "swin": (
        "image_classification",
        {**_PICTURES, **_LABELS, "patch_size": 4, "embed_dim": 64, "depths": [2, 2], "num_heads": [2, 4]},
    ),
}
"""By architecture, the task and the fields of the configuration, all of about one size."""

WAYS = {
    "all": {},
    "within layers": {"trainable": "lora", "lora": models.Lora()},
    "W + s A B": {"trainable": "lora", "lora": models.Lora(in_layers=False)},
}


def measure(architecture: str, steps: int) -> dict[str, list[float]]:
    """By way, the processor seconds of each step after the first two.

    Args:
      architecture: One of `ARCHITECTURES`.
      steps: How many are timed.
    """
    task, config = ARCHITECTURES[architecture]
    x, y = batch(task)
    calls = {name: step(task, architecture, config, x, y, arguments) for name, arguments in WAYS.items()}
    seconds = {name: [] for name in WAYS}
    for number in range(2 + steps):
        for name, call in calls.items():
            started = time.process_time()
            call()
            if number >= 2:
                seconds[name].append(time.process_time() - started)
    return seconds


def step(task: str, architecture: str, config: dict, x: Any, y: Any, arguments: dict) -> Callable[[], Any]:
    """A function that computes the gradients of what is trained."""
    definition = tasks.task_kind(task)
    objective = definition.objective((), tasks.ModelSpec())
    spec = collections.OrderedDict((n, tf.TensorSpec([None, *v.shape[1:]], v.dtype)) for n, v in x.items())
    spec[models.SEED] = tf.TensorSpec([2], tf.int64)
    model = models.functional_model(
        models.from_config(definition.auto_class, architecture, config), objective, spec, **arguments
    )
    weights = tf.nest.map_structure(tf.constant, model.initial_weights)

    def gradients(trained, frozen, x, y):
        with tf.GradientTape() as tape:
            tape.watch(trained)
            loss = model.loss(model.predict_on_batch((trained, frozen), x, training=True), y)
        return tape.gradient(loss, trained)

    compiled = tf.function(gradients, autograph=False)
    return lambda: compiled(*weights, x, y)


def batch(task: str) -> tuple[Any, tf.Tensor]:
    """Random inputs and labels."""
    rng = np.random.default_rng(0)
    x = collections.OrderedDict()
    labels = rng.integers(0, _CLASSES, _BATCH)
    definition = tasks.task_kind(task)
    if definition.needs_image_shape:
        x["pixel_values"] = tf.constant(rng.standard_normal((_BATCH, 3, _IMAGE, _IMAGE)), tf.float32)
    else:
        ids = rng.integers(4, _VOCABULARY, (_BATCH, _LENGTH))
        for prefix in ("", "decoder_") if "max_target_length" in definition.limited_lengths else ("",):
            x[f"{prefix}input_ids"] = tf.constant(ids, tf.int32)
            x[f"{prefix}attention_mask"] = tf.ones_like(x[f"{prefix}input_ids"])
        if not definition.needs_label_names:
            labels = ids
    x[models.SEED] = tf.constant([1, 2], tf.int64)
    return x, tf.constant(labels, tf.int32)


def tell(figures: dict[str, dict[str, list[float]]]) -> str:
    """A table: a row an architecture; ratios are within a turn."""
    rows = [
        [
            name,
            f"{1000 * statistics.median(seconds['all']) / _BATCH:.1f}",
            *(report.spread(report.paired_ratios(seconds["all"], seconds[way])) for way in list(WAYS)[1:]),
            report.spread(report.paired_ratios(seconds["W + s A B"], seconds["within layers"])),
        ]
        for name, seconds in figures.items()
    ]
    header = ["architecture", "ms an example, all", *(f"{way}: times as fast" for way in list(WAYS)[1:])]
    return report.table([*header, "within layers over W + s A B"], rows)


def main() -> int:
    """Runs, prints and writes."""
    parser = report.parser(__doc__, "benchmarks/results/adapters.json")
    parser.add_argument("--steps", type=int, default=10, help="steps that are measured of each way")
    parser.add_argument("--architecture", action="append", choices=list(ARCHITECTURES), help="several; default: all")
    flags = parser.parse_args()
    runtime.configure_tensorflow()
    figures = {}
    for name in flags.architecture or ARCHITECTURES:
        figures[name] = measure(name, flags.steps)
        print(f"{name} is done", file=sys.stderr)
    print(tell(figures))
    path = report.write(
        "adapters", {"machine": report.machine(), "flags": vars(flags), "seconds": figures}, flags.output
    )
    print(f"Written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
