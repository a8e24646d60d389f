"""Texts with any number of labels each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tff_tx.datasets.encoders.texts import SequenceClassificationEncoder


class MultiLabelEncoder(SequenceClassificationEncoder):
    """As `SequenceClassificationEncoder`, with several labels: `label` int32 [labels], 1 for those that apply."""

    kind = "multi_label_classification"
    label_column = "labels"

    def __init__(self, tokenizer, label_names: Sequence[str], max_length: int, join: str | None = None):
        self.label_spec = tf.TensorSpec([len(label_names)], tf.int32)
        super().__init__(tokenizer, label_names, max_length, join)

    def _label(self, row):
        found = np.zeros(len(self.label_names), np.int32)
        found[[self.label_number(name, row) for name in row.labels]] = 1
        return found
