"""A byte n-gram model of a causal_lm data set, fitted on the pooled training clients.

`python -m benchmarks.ngram --dataset=stdlib` prints its loss on the test clients, in nats and bits a
byte: what a federated language model has to beat. Orders are interpolated as by Witten & Bell 1991
(Chen & Goodman 1999, section 2.6), the usual choice for small alphabets; every byte of a client is
predicted from those before it, across the blocks a Transformer sees apart.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from programs import cli
from tff_tx import datasets, models
from tff_tx.config import Section, option
from tff_tx.run.assemble.tasks import data_spec


@dataclasses.dataclass(frozen=True)
class NgramConfig(Section, name="ngram"):
    """N-gram model."""

    order: int = option(3, "Bytes per gram.", least=1, most=3)


_VOCABULARY = 259


def main(settings: cli.Settings) -> None:
    """Fits and evaluates."""
    config, order = settings.config, settings[NgramConfig].order
    encoder = datasets.LanguageModelingEncoder(models.load_tokenizer("bytes"), config.task.max_length + 1)
    data = datasets.load(data_spec(config), encoder)
    counts = [np.zeros([_VOCABULARY] * n, np.int32) for n in range(1, order + 1)]
    for text in _texts(data.train):
        for n, table in enumerate(counts, start=1):
            np.add.at(table, tuple(text[i : len(text) - n + 1 + i] for i in range(n)), 1)
    nats, total = 0.0, 0
    for text in _texts(data.test):
        nats -= np.log(_probabilities(counts, text)).sum()
        total += len(text)
    loss = nats / total
    print(
        f"{order}-gram on {config.data.dataset}: {loss:.4f} nats, {loss / math.log(2):.4f} bits a byte "
        f"over {total:,} bytes of {len(data.test.client_ids)} test clients"
    )


def _texts(clients):
    """Yields each client's tokens as one int array."""
    for client_id in clients.client_ids:
        examples = clients.create_tf_dataset_for_client(client_id)
        yield np.concatenate([e["input_ids"] for e in examples.as_numpy_iterator()])


def _probabilities(counts, text):
    """Of each token of a text, given those before it in the text."""
    probability = np.full(len(text), 1.0 / _VOCABULARY)
    for n, table in enumerate(counts, start=1):
        if len(text) < n:
            break
        context = tuple(text[i : len(text) - n + 1 + i] for i in range(n - 1))
        gram = table[(*context, text[n - 1 :])]
        seen = table.sum(-1)[context]  # how often the context was met
        kinds = np.count_nonzero(table, axis=-1)[context]  # how many tokens followed it
        higher = (gram + kinds * probability[n - 1 :]) / np.maximum(seen + kinds, 1)
        probability[n - 1 :] = np.where(seen > 0, higher, probability[n - 1 :])
    return probability


if __name__ == "__main__":
    cli.Program(main, NgramConfig, settings=["data", "task.max_length", "run.seed"]).run()
