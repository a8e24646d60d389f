"""The work that all contenders do: which model, which batches. NumPy alone, so that any framework can do it."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np

LEARNING_RATE = 0.01
"""Of every contender's SGD."""


@dataclasses.dataclass(frozen=True)
class Workload:
    """A BERT with random weights and a cohort of clients, each with one epoch of its own batches.

    Dropout stays as BERT's configuration has it, 0.1.
    """

    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    vocabulary: int
    positions: int
    clients: int
    batches: int = 4
    batch_size: int = 8
    length: int = 64
    labels: int = 2

    @property
    def bert_config(self) -> dict:
        """Fields of Hugging Face's `BertConfig`."""
        return {
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": self.intermediate_size,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": self.positions,
            "num_labels": self.labels,
        }

    @property
    def examples_per_round(self) -> int:
        """Examples that all clients together see in a round."""
        return self.clients * self.batches * self.batch_size

    def client_batches(self, client: int) -> tuple[collections.OrderedDict, np.ndarray]:
        """The batches of a client, the same in every process.

        Sentences are as long as they may be, so that no contender gains by skipping padding.

        Returns:
          Inputs `attention_mask` and `input_ids`, int32 [batches, batch_size, length], and `seed` for contenders whose
          dropout takes one, int64 [batches, 2]; labels, int32 [batches, batch_size].
        """
        rng = np.random.default_rng(client)
        shape = [self.batches, self.batch_size, self.length]
        # The first ids are BERT's special tokens.
        ids = rng.integers(min(5, self.vocabulary - 1), self.vocabulary, shape, dtype=np.int32)
        labels = rng.integers(0, self.labels, shape[:2], dtype=np.int32)
        seeds = rng.integers(0, 2**60, [self.batches, 2], dtype=np.int64)
        return collections.OrderedDict(attention_mask=np.ones_like(ids), input_ids=ids, seed=seeds), labels


WORKLOADS = {
    # Small enough for what surrounds the model to show.
    "A": Workload(hidden_size=128, layers=2, heads=2, intermediate_size=512, vocabulary=8192, positions=64, clients=50),
    # The size of all-MiniLM-L6-v2.
    "B": Workload(
        hidden_size=384, layers=6, heads=12, intermediate_size=1536, vocabulary=30522, positions=512, clients=10
    ),
    # For tests that everything runs.
    "tiny": Workload(
        hidden_size=8,
        layers=1,
        heads=2,
        intermediate_size=16,
        vocabulary=50,
        positions=8,
        clients=3,
        batches=2,
        batch_size=2,
        length=8,
    ),
}
