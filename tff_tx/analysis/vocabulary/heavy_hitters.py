"""Federated heavy hitters: word counts over clients by sums of sketches, released with noise and a threshold.

A client's words go into an invertible Bloom lookup table (Goodrich and Mitzenmacher 2011,
https://arxiv.org/abs/1101.2245), a table of numbers; tables are added up, and the sum gives back the words with how
many clients have each. So a server sees sums only, of cohorts one after another, and each client is in one of them.
The tables, their bounds of a client's words and their decoding are `tff.analytics`'. It has no differential privacy for
words: its `k_anonymity` compares exact counts with a threshold and releases them as they are, its noise
(`build_hierarchical_histogram_process`) is for numbers in bins that are known beforehand. `release` adds it.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Callable

import numpy as np
import pandas as pd
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx import datasets, runtime
from tff_tx.analysis.vocabulary.tokenizer import pre_tokenization
from tff_tx.datasets.encoders.encoder import Stream
from tff_tx.privacy import SparseHistogram

_ATTEMPTS = 4


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Bounds of a client's contribution.

    Attributes:
      max_words: Maximum number of distinct words, a client's most frequent ones. Each counts once.
      max_bytes: Maximum UTF-8 bytes of a word; longer ones are left out, as a truncated word is another word.
    """

    max_words: int = 500
    max_bytes: int = 20


class _CountingStream(Stream):
    """Keeps counts, by owner, until all is read."""

    def __init__(self, encoder: WordsEncoder):
        super().__init__(encoder)
        self._counts: collections.defaultdict = collections.defaultdict(collections.Counter)

    def add(self, owners, rows):
        for owner, words in zip(owners, self._encoder._encode_rows(rows)):
            self._counts[owner].update(words)
        return iter(())

    def finish(self):
        for owner, counts in self._counts.items():
            example = self._encoder.example(counts)
            if example is not None:
                yield owner, example


class WordsEncoder(datasets.Encoder):
    """All texts of a client become one example: its words, the most frequent first.

    Examples: `words`, string [None], at most `bounds.max_words`, all different. A client without any word is left out.
    `pre_tokenization(model, lowercase)` says what a word is.
    """

    kind = "words"
    columns = ("text",)
    stream_class = _CountingStream

    def __init__(self, model: str, lowercase: bool, bounds: Bounds):
        settings = [model, lowercase, dataclasses.asdict(bounds)]
        super().__init__((), settings, words=tf.TensorSpec([None], tf.string))
        self._split, self._bounds = pre_tokenization(model, lowercase), bounds

    def _encode_rows(self, rows: pd.DataFrame) -> Iterator[list[str]]:
        return map(self._split, rows["text"])

    def example(self, counts: collections.Counter) -> dict | None:
        """The example of a client's words, from their counts; None if there are none."""
        encoded = ((word.encode("utf-8"), n) for word, n in counts.items())
        # The sketches that words are added up in take bytes of 0 for the end of a word.
        fit = [(-n, word) for word, n in encoded if 0 < len(word) <= self._bounds.max_bytes and b"\0" not in word]
        words = [word for _, word in sorted(fit)[: self._bounds.max_words]]
        return {"words": np.array(words, object)} if words else None


def count_words(
    clients: Any,
    bounds: Bounds,
    *,
    clients_per_cohort: int = 10,
    threads: int = 2,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, int]:
    """Counts the clients that have a word, for every word.

    TFF's native runtime holds the tables of a cohort at once, and nothing of other cohorts.

    Args:
      clients: ClientData of what `WordsEncoder` makes.
      bounds: Its bounds; TFF's client computation enforces them whatever the clients' data are.
      clients_per_cohort: Clients whose tables are added up. A table has capacity for all of their words, in case they
        share none: time and memory grow with it.
      threads: Clients at work at the same time.
      on_progress: Called with the number of clients done, after every cohort.

    Raises:
      RuntimeError: If the words of a cohort cannot be decoded from the sum, which is very improbable. Partial counts
        are not returned: a count that depended on other words would not be covered by the noise.
    """
    total: collections.Counter = collections.Counter()
    capacity = bounds.max_words * clients_per_cohort
    computations = {}
    with runtime.NativeContext(threads) as run:
        for start in range(0, len(clients.client_ids), clients_per_cohort):
            cohort = [c.encode() for c in clients.client_ids[start : start + clients_per_cohort]]
            for seed in range(_ATTEMPTS):
                if seed not in computations:
                    computations[seed] = _computation(clients, bounds, capacity, seed)
                found = run(computations[seed], cohort)
                if found.num_not_decoded == 0:
                    break
            else:
                raise RuntimeError(f"The words of clients {start + 1} to {start + len(cohort)} cannot be decoded.")
            words = (word.decode("utf-8") for word in np.asarray(found.heavy_hitters).tolist())
            total.update(dict(zip(words, np.asarray(found.heavy_hitters_unique_counts).tolist())))
            if on_progress is not None:
                on_progress(start + len(cohort))
    return dict(total)


def _computation(clients, bounds, capacity, seed):
    """({client_id}@CLIENTS -> words and counts @SERVER): a client reads its words where it runs."""
    count = tff.analytics.heavy_hitters.iblt.build_iblt_computation(
        string_max_bytes=bounds.max_bytes,
        max_words_per_user=bounds.max_words,
        multi_contribution=False,
        capacity=capacity,
        seed=seed,
    )

    @tff.tensorflow.computation(np.str_)
    def words(client_id):
        return clients.serializable_dataset_fn(client_id).map(lambda example: example["words"])

    return tff.simulation.compose_dataset_computation_with_computation(words, count)


def release(
    counts: Mapping[str, int], mechanism: SparseHistogram, *, scale_factor: float = 1.0, seed: int | None = None
) -> dict[str, float]:
    """The released words, with their noisy counts.

    The guarantee is that of `mechanism.delta`: (epsilon, delta) for data with and without one client, if a client
    adds 1 to `mechanism.max_items` counts at most. Noise is of double precision, as in the rest of this project: what
    its rounding reveals (Mironov 2012) is outside of the guarantee.

    Args:
      counts: By word, how many clients have it.
      mechanism: Noise and threshold.
      scale_factor: Number of clients of the population that each counted client represents; the guarantee is for the
        population.
      seed: Seed of the noise; None: the operating system's randomness. Noise with a known seed protects nobody.

    Returns:
      By word, its noisy count in units of counted clients, words in alphabetical order.
    """
    words = sorted(counts)
    exact = scale_factor * np.array([counts[word] for word in words], np.float64)
    noisy = exact + np.random.default_rng(seed).normal(0.0, mechanism.noise_stddev, len(words))
    return {w: float(n) / scale_factor for w, n in zip(words, noisy) if n >= mechanism.threshold}
