"""A byte n-gram model of a causal_lm data set, fitted on the pooled training clients.

`python -m benchmarks.ngram --dataset=stdlib` prints its loss on the test clients, in nats and bits a
byte: what a federated language model has to beat. Orders are interpolated as by Witten & Bell 1991
(Chen & Goodman 1999, section 2.6), the usual choice for small alphabets; every byte of a client is
predicted from those before it, across the blocks a Transformer sees apart.
"""

from __future__ import annotations

import math

import numpy as np
from absl import flags

from programs import cli, data_flags
from tff_tx import datasets, models

FLAGS = flags.FLAGS

flags.DEFINE_integer("order", 3, "Bytes a gram.", lower_bound=1, upper_bound=3)
flags.DEFINE_integer("max_length", 64, "As in training, to share its encoded data.")
flags.DEFINE_integer("seed", 1, "As in training: decides the held-out clients.")

_VOCABULARY = 259


def main(_) -> None:
    """Fits and evaluates."""
    encoder = datasets.LanguageModelingEncoder(models.load_tokenizer("bytes"), FLAGS.max_length + 1)
    data = datasets.load(data_flags.data_spec(FLAGS.seed), encoder)
    counts = [np.zeros([_VOCABULARY] * n, np.int32) for n in range(1, FLAGS.order + 1)]
    for text in _texts(data.train):
        for n, table in enumerate(counts, start=1):
            np.add.at(table, tuple(text[i : len(text) - n + 1 + i] for i in range(n)), 1)
    nats, total = 0.0, 0
    for text in _texts(data.test):
        nats -= np.log(_probabilities(counts, text)).sum()
        total += len(text)
    loss = nats / total
    print(
        f"{FLAGS.order}-gram on {FLAGS.dataset}: {loss:.4f} nats, {loss / math.log(2):.4f} bits a byte "
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
    cli.run(main)
