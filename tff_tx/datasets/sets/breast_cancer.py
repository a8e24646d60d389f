"""Breast cancer Wisconsin, diagnostic (W. Wolberg et al., UCI 1995; scikit-learn's `load_breast_cancer`).

569 tumours; `numbers` are 30 measures of their cells' nuclei, `label` is "malignant" or "benign". They have no clients
of their own.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tff_tx.datasets.data_set import DataSet
from tff_tx.datasets.records import Source, record_pool


def _open(spec) -> Source:
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()

    def rows() -> Iterator[dict]:
        for number, (row, target) in enumerate(zip(bunch.data.astype(np.float64), bunch.target), start=1):
            label = str(bunch.target_names[target])
            yield {"numbers": row, "label": label, "where": f"breast_cancer, row {number}"}

    return Source(
        {"train": record_pool("breast_cancer", frozenset(["numbers", "label"]), rows)},
        has_clients=False,
        label_names=("malignant", "benign"),
        numeric_names=tuple(str(name).replace(" ", "_") for name in bunch.feature_names),
    )


BREAST_CANCER = DataSet(
    _open,
    defaults={
        "task": "tabular_classification",
        "architecture": "ft_transformer",
        "model_config": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16},
    },
)
