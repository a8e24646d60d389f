"""Texts, sentences in words, running text, and texts with a text to be made of them, tokenized."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import tensorflow as tf

from tff_tx.core.errors import UserError, setting
from tff_tx.datasets.encoders.encoder import IGNORED_LABEL, NUMBER, NUMBERS, Encoder, Stream
from tff_tx.datasets.encoders.tokenizing import Tokenize, tokenizer_fingerprint, word_pieces
from tff_tx.datasets.readers import units, values
from tff_tx.datasets.readers.columns import require_one_writing


class SequenceClassificationEncoder(Encoder):
    """One text, or several, and one label a record.

    Examples: `input_ids` int32 [None], special tokens included, cut to `max_length`; of pairs also `token_type_ids`
    int32 [None], where the tokenizer has them; `label` int32 [].

    Args:
      tokenizer: A Hugging Face tokenizer.
      label_names: The labels in their order.
      max_length: The longest sequence, in tokens, special tokens included.
      join: "pair" or "separator", see `data.text_join`; None: there is one text.
    """

    kind = "sequence_classification"
    label_column, label_spec = "label", NUMBER

    def __init__(self, tokenizer, label_names: Sequence[str], max_length: int, join: str | None = None):
        settings = [tokenizer_fingerprint(tokenizer), max_length, *([join] if join else [])]
        segments = join == "pair" and "token_type_ids" in tokenizer.model_input_names
        features = {"token_type_ids": NUMBERS} if segments else {}
        super().__init__(label_names, settings, input_ids=NUMBERS, **features, label=self.label_spec)
        self.columns = ("texts" if join else "text", self.label_column)
        self._tokenize, self._max_length, self._join = Tokenize(tokenizer), max_length, join
        self._separator = f" {tokenizer.sep_token or tokenizer.eos_token or ''} "

    def inputs(self, texts: Sequence[str | Sequence[str]]) -> Iterator[dict]:
        """Examples without labels, of texts or of lists of those that are joined."""
        texts = [[text] if isinstance(text, str) else text for text in texts]
        if self._join == "pair" and texts and all(len(several) == 2 for several in texts):
            return self._tokenize.pairs(texts, self._max_length)
        if self._join is None:
            encoded = self._tokenize.whole([text for (text,) in texts], self._max_length)
        else:
            encoded = self._tokenize.joined(texts, self._separator, self._max_length)
        segments = "token_type_ids" in self.element_spec
        return ({"input_ids": ids, **({"token_type_ids": np.zeros_like(ids)} if segments else {})} for ids in encoded)

    def _encode_rows(self, rows: pd.DataFrame) -> Iterator[list[dict]]:
        texts = rows[self.columns[0]].tolist()
        for example, text, row in zip(self.inputs(texts), texts, rows.itertuples()):
            if not len(example["input_ids"]):
                raise UserError(
                    f"{row.where}: the text {text!r} gives no token; remove the row or "
                    f"choose another {setting('data.text_column')}."
                )
            yield [{**example, "label": self._label(row)}]

    def _label(self, row):
        return np.int32(self.label_number(row.label, row))


class SequenceRegressionEncoder(SequenceClassificationEncoder):
    """As `SequenceClassificationEncoder`, with a number for a label: `label` float32 []."""

    kind = "sequence_regression"
    label_spec = tf.TensorSpec([], tf.float32)

    def _encode_rows(self, rows):
        require_one_writing(rows["where"].tolist(), rows["label"].tolist(), "label")
        return super()._encode_rows(rows)

    def _label(self, row):
        try:
            with np.errstate(over="ignore"):
                number = np.float32(values.as_number(units.without_unit(row.label)))
        except ValueError:
            number = np.float32("nan")
        if not np.isfinite(number):
            raise UserError(
                f"{row.where}: the label {row.label!r} is no finite number of 32 bits; correct it or choose another "
                f"{setting('data.label_column')}."
            )
        return number


class TokenClassificationEncoder(Encoder):
    """One sentence in words and one tag a word in a record.

    Examples: `input_ids` int32 [None], special tokens included; `labels` int32 [None], a word's tag
    on its first piece and -100 on its other pieces and on special tokens. A sentence longer than
    `max_length` is cut between words into several examples, so that no word is lost to the metrics.

    Args:
      tokenizer: A Hugging Face tokenizer.
      label_names: The tags in their order.
      max_length: The longest sequence, in tokens, special tokens included.
    """

    kind = "token_classification"
    columns = ("tokens", "tags")

    def __init__(self, tokenizer, label_names: Sequence[str], max_length: int):
        settings = [tokenizer_fingerprint(tokenizer), max_length]
        super().__init__(label_names, settings, input_ids=NUMBERS, labels=NUMBERS)
        self._tokenizer, self._max_length = tokenizer, max_length

    def _encode_rows(self, rows: pd.DataFrame) -> Iterator[list[dict]]:
        encoded = word_pieces(self._tokenizer, rows["tokens"].tolist())
        for (ids, words), row in zip(encoded, rows.itertuples()):
            tags = [self.label_number(tag, row) for tag in row.tags]
            yield self.pieces(row.tokens, tags, ids, words)

    def pieces(self, tokens: Sequence[str], tags: Sequence[int], ids: Sequence[int], words: Sequence) -> list[dict]:
        """The examples of a sentence with numbers for tags; ids and their words are those of `word_pieces`."""
        return [self._example(*piece) for piece in self._cut(tokens, tags, ids, words)]

    def _cut(self, tokens, tags, ids, words) -> Iterator[tuple]:
        if len(ids) <= self._max_length:
            yield ids, words, tags
        elif len(tokens) == 1:
            yield ids[: self._max_length], words[: self._max_length], tags
        else:
            middle = len(tokens) // 2
            for part in (slice(None, middle), slice(middle, None)):
                ((part_ids, part_words),) = word_pieces(self._tokenizer, [tokens[part]])
                yield from self._cut(tokens[part], tags[part], part_ids, part_words)

    @staticmethod
    def _example(ids, words, tags) -> dict:
        labels, before = [], None
        for word in words:
            first = word is not None and word != before
            labels.append(tags[word] if first else IGNORED_LABEL)
            before = word
        return {"input_ids": np.asarray(ids, np.int32), "labels": np.asarray(labels, np.int32)}


class _BlockStream(Stream):
    """Keeps what does not fill a block, by owner, until more comes or all is read."""

    def add(self, owners, rows):
        length = self._encoder.text_length
        for owner, ids in zip(owners, self._encoder._encode_rows(rows)):
            if owner in self._rest:
                ids = np.concatenate([self._rest[owner], ids])
            full = len(ids) - len(ids) % length
            for start in range(0, full, length):
                yield owner, self._encoder.example(ids[start : start + length])
            # A copy, as a view would keep the whole text in memory.
            self._rest[owner] = ids[full:].copy()

    def finish(self):
        for owner, ids in self._rest.items():
            if len(ids) >= 2:
                yield owner, self._encoder.example(ids)


class LanguageModelingEncoder(Encoder):
    """Texts, tokenized, joined within a client, and cut into blocks.

    Examples: `input_ids` int32 [None] of `block_length` tokens; the last block of a client may be
    shorter and is dropped if it has a single token of text. For a causal model pass `block_length =
    max_length + 1`, as inputs and targets are the same block shifted; the end of each text is
    marked with the tokenizer's eos token, if it has one. For a masked model each block is wrapped
    in the tokenizer's special tokens, which count towards `block_length`.

    Args:
      tokenizer: A Hugging Face tokenizer.
      block_length: Tokens a block, at least 2 beside the special tokens.
      masked: Whether the blocks are for a masked rather than a causal model.
    """

    columns = ("text",)
    stream_class = _BlockStream

    def __init__(self, tokenizer, block_length: int, masked: bool = False):
        self.kind = "masked_lm" if masked else "causal_lm"
        super().__init__((), [tokenizer_fingerprint(tokenizer), block_length], input_ids=NUMBERS)
        self._tokenize = Tokenize(tokenizer)
        self._end: int | None = None if masked else tokenizer.eos_token_id
        self._wrap = tokenizer.build_inputs_with_special_tokens if masked else None
        self.text_length = block_length - (tokenizer.num_special_tokens_to_add() if masked else 0)
        if self.text_length < 2:
            raise UserError(
                f"A block of {block_length} tokens has room for {self.text_length} tokens of "
                f"text; raise {setting('task.max_length')} so that there are at least 2."
            )

    def _encode_rows(self, rows: pd.DataFrame) -> Iterator[np.ndarray]:
        for ids in self._tokenize.plain(rows["text"].tolist()):
            yield ids if self._end is None else np.append(ids, np.int32(self._end))

    def example(self, block: np.ndarray) -> dict:
        """The example of one block of text tokens."""
        if self._wrap is not None:
            block = np.asarray(self._wrap(block.tolist()), np.int32)
        return {"input_ids": block}


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
        "neither eos nor [SEP], so that texts would never end; choose another."
    )


class TargetLabels:
    """The tokens of targets as a tokenizer has them for targets, with an end but without the start of decoding.

    Args:
      tokenizer: A Hugging Face tokenizer.
      max_length: The longest target, in tokens with its end, which it keeps when it is cut.
      start: The token that decoding starts with; None: that of `start_and_end`.
    """

    def __init__(self, tokenizer, max_length: int, start: int | None = None):
        usual_start, self._end = start_and_end(tokenizer)
        self._start = usual_start if start is None else start
        self._tokenize, self._max_length = Tokenize(tokenizer), max_length

    def __call__(self, texts: Sequence[str]) -> Iterator[np.ndarray]:
        # One more, for the start that is taken off.
        return map(self._of, self._tokenize.targets(texts, self._max_length + 1))

    def _of(self, ids):
        if len(ids) and ids[0] == self._start:
            ids = ids[1:]
        if len(ids) and ids[-1] == self._end:
            ids = ids[:-1]
        return np.append(ids[: self._max_length - 1], np.int32(self._end))


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
        settings = [tokenizer_fingerprint(tokenizer), max_length, max_target_length]
        super().__init__((), settings, input_ids=NUMBERS, labels=NUMBERS)
        self._tokenize, self._max_length = Tokenize(tokenizer), max_length
        self._labels = TargetLabels(tokenizer, max_target_length)

    def _encode_rows(self, rows: pd.DataFrame) -> Iterator[list[dict]]:
        texts = self._tokenize.whole(rows["text"].tolist(), self._max_length)
        for ids, labels, where in zip(texts, self._labels(rows["target"].tolist()), rows["where"]):
            if not len(ids):
                raise UserError(
                    f"{where}: the text gives no token; remove the row or choose another {setting('data.text_column')}."
                )
            yield [{"input_ids": ids, "labels": labels}]
