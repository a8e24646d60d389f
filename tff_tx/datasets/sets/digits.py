"""Handwritten digits (E. Alpaydin and C. Kaynak, UCI 1998; scikit-learn's `load_digits`).

1,797 images of 8x8 pixels; `pixels` is float32 [1, 8, 8] in [0, 1] (the data have 0..16), `label` one of "0" .. "9".
They have no clients of their own.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tff_tx.datasets.data_set import DataSet
from tff_tx.datasets.records import Source, record_pool


def _rows() -> Iterator[dict]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images[:, np.newaxis] / 16.0).astype(np.float32)
    for number, (image, target) in enumerate(zip(images, bunch.target), start=1):
        yield {"pixels": image, "label": str(target), "where": f"digits, image {number}"}


def _open(spec) -> Source:
    pool = record_pool("digits", frozenset(["pixels", "label"]), _rows)
    return Source({"train": pool}, has_clients=False, label_names=tuple(map(str, range(10))))


DIGITS = DataSet(
    _open,
    defaults={
        "task": "image_classification",
        "architecture": "vit",
        "model_config": {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "patch_size": 2,
            "initializer_range": 0.1,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        },
    },
)
