"""Data that come with scikit-learn; they have no clients of their own.

digits: handwritten digits (E. Alpaydin and C. Kaynak, UCI 1998; `load_digits`). 1,797 images of 8x8 pixels; `pixels` is
float32 [1, 8, 8] in [0, 1] (the data have 0..16), `label` one of "0" .. "9".

breast_cancer: breast cancer Wisconsin, diagnostic (W. Wolberg et al., UCI 1995; `load_breast_cancer`). 569 tumours;
`numbers` are 30 measures of their cells' nuclei, `label` is "malignant" or "benign".
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tff_tx.datasets.sources import DataSet, Source, record_pool


def _digits() -> Iterator[dict]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images[:, np.newaxis] / 16.0).astype(np.float32)
    for number, (image, target) in enumerate(zip(images, bunch.target), start=1):
        yield {"pixels": image, "label": str(target), "where": f"digits, image {number}"}


def _open_digits(spec) -> Source:
    pool = record_pool("digits", frozenset(["pixels", "label"]), _digits)
    return Source({"train": pool}, has_clients=False)


def _open_breast_cancer(spec) -> Source:
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()

    def rows() -> Iterator[dict]:
        for number, (row, target) in enumerate(zip(bunch.data.astype(np.float64), bunch.target), start=1):
            label = str(bunch.target_names[target])
            yield {"numbers": row, "label": label, "where": f"breast_cancer, row {number}"}

    return Source(
        {"train": record_pool("breast_cancer", frozenset(["numbers", "label"]), rows)},
        has_clients=False,
        numeric_names=tuple(str(name).replace(" ", "_") for name in bunch.feature_names),
    )


DIGITS = DataSet(
    _open_digits,
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
    label_names=tuple(map(str, range(10))),
)

BREAST_CANCER = DataSet(
    _open_breast_cancer,
    defaults={
        "task": "tabular_classification",
        "architecture": "ft_transformer",
        "model_config": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16},
    },
    label_names=("malignant", "benign"),
)
