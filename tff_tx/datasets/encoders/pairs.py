"""From a text and what is to be made of it to an example."""

from __future__ import annotations

import collections
from collections.abc import Iterator

import numpy as np
import pandas as pd
import tensorflow as tf

from tff_tx.core.errors import UserError, setting
from tff_tx.datasets.encoders.encoder import Encoder
from tff_tx.datasets.encoders.tokenizing import Tokenize, tokenizer_fingerprint


def start_and_end(tokenizer) -> tuple[int, int]:
    """The tokens in front of the first and behind the last token of a target.

    As in T5 the padding token and the end of sequence (Raffel et al. 2020, section 2.1, and its code); of a tokenizer
    that marks no ends, as BERT's, [CLS] and [SEP], which it puts around every text.

    Raises:
      UserError: If the tokenizer has neither.
    """
    if tokenizer.eos_token_id is not None:
        return tokenizer.pad_token_id, tokenizer.eos_token_id
    if tokenizer.cls_token_id is not None and tokenizer.sep_token_id is not None:
        return tokenizer.cls_token_id, tokenizer.sep_token_id
    raise UserError(
        f"{setting('model.tokenizer')}: {type(tokenizer).__name__} has no token for the end of a text, "
        "neither eos nor [SEP], so that "
        "texts would never end; choose another."
    )


class SequenceToSequenceEncoder(Encoder):
    """A text and the text that is to be made of it in a record.

    Examples: `input_ids` int32 [None], special tokens included; `labels` int32 [None], the target's tokens as the
    tokenizer has them for targets, with an end but without the token that decoding starts with. Both are cut, the
    target so that it keeps its end.

    Args:
      tokenizer: A Hugging Face tokenizer.
      max_length: The longest text, in tokens, special tokens included.
      max_target_length: The longest target, likewise.
    """

    kind = "sequence_to_sequence"
    columns = ("text", "target")

    def __init__(self, tokenizer, max_length: int, max_target_length: int):
        self.element_spec = collections.OrderedDict(
            input_ids=tf.TensorSpec([None], tf.int32), labels=tf.TensorSpec([None], tf.int32)
        )
        self._fingerprint = [tokenizer_fingerprint(tokenizer), max_length, max_target_length]
        self._tokenize = Tokenize(tokenizer)
        self._start, self._end = start_and_end(tokenizer)
        self._max_length, self._max_target_length = max_length, max_target_length

    def _settings(self) -> list:
        return self._fingerprint

    def _encode_rows(self, rows: pd.DataFrame) -> Iterator[list[dict]]:
        texts = self._tokenize.whole(rows["text"].tolist(), self._max_length)
        # One more, for the start that is taken off.
        targets = self._tokenize.targets(rows["target"].tolist(), self._max_target_length + 1)
        for ids, target, where in zip(texts, targets, rows["where"]):
            if not len(ids):
                raise UserError(
                    f"{where}: the text gives no token; remove the row or choose another {setting('data.text_column')}."
                )
            yield [{"input_ids": ids, "labels": self._labels(target)}]

    def _labels(self, ids: np.ndarray) -> np.ndarray:
        if len(ids) and ids[0] == self._start:
            ids = ids[1:]
        if len(ids) and ids[-1] == self._end:
            ids = ids[:-1]
        return np.append(ids[: self._max_target_length - 1], np.int32(self._end))
