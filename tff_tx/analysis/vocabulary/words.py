"""A client's contribution to a vocabulary: its most frequent words, a bounded number of them."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator

import numpy as np
import pandas as pd
import tensorflow as tf

from tff_tx import datasets
from tff_tx.analysis.vocabulary.tokenizer import pre_tokenization
from tff_tx.datasets.encoders.encoder import Stream


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Bounds of a client's contribution.

    Attributes:
      max_words: Maximum number of distinct words, a client's most frequent ones. Each counts once.
      max_bytes: Maximum UTF-8 bytes of a word; longer ones are left out, as a truncated word is another word.
    """

    max_words: int = 500
    max_bytes: int = 20


class WordsEncoder(datasets.Encoder):
    """All texts of a client become one example: its words, the most frequent first.

    Examples: `words`, string [None], at most `bounds.max_words`, all different. A client without any word is left out.

    Args:
      model: One of `TOKEN_NAMES`, whose pre-tokenization says what a word is.
      lowercase: As for `pre_tokenization`.
      bounds: Bounds of a client's contribution.
    """

    kind = "words"
    columns = ("text",)
    may_skip = True

    def __init__(self, model: str, lowercase: bool, bounds: Bounds):
        self.element_spec = collections.OrderedDict(words=tf.TensorSpec([None], tf.string))
        self._split = pre_tokenization(model, lowercase)
        self._bounds = bounds
        self._fingerprint = [model, lowercase, dataclasses.asdict(bounds)]

    def _settings(self) -> list:
        return self._fingerprint

    def stream(self) -> Stream:
        """Starts a pass over records that come in chunks."""
        return _CountingStream(self)

    def _encode_rows(self, rows: pd.DataFrame) -> Iterator[list[str]]:
        return map(self._split, rows["text"])

    def example(self, counts: collections.Counter) -> dict | None:
        """The example of a client's words; None if there are none.

        Args:
          counts: The client's count of each word.
        """
        encoded = ((word.encode("utf-8"), count) for word, count in counts.items())
        # The sketches that words are added up in take bytes of 0 for the end of a word.
        fit = [
            (word, count) for word, count in encoded if 0 < len(word) <= self._bounds.max_bytes and b"\0" not in word
        ]
        fit.sort(key=lambda pair: (-pair[1], pair[0]))
        words = [word for word, _ in fit[: self._bounds.max_words]]
        return {"words": np.array(words, object)} if words else None


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
