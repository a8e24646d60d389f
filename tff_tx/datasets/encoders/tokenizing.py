"""Tokenizers as the encoders use them: many texts at once, arrays out, bytes in one NumPy step."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence

import numpy as np
import transformers


def _is_no_note_on_overflow(record: logging.LogRecord) -> bool:
    """Of each pair that is cut, tokenizers in Python say that what is cut off is not returned; nobody asks for it."""
    return "overflowing tokens are not returned" not in record.getMessage()


logging.getLogger("transformers.tokenization_utils_base").addFilter(_is_no_note_on_overflow)


class Tokenize:
    """Texts -> token ids as int32 arrays.

    The byte tokenizer (`transformers.ByT5Tokenizer`; Xue et al., "ByT5", 2021) works character by character in Python;
    a byte b has the id b + 3 there, which is one NumPy addition here. Texts that spell out one of its special tokens,
    where these are not text to it, still take its own way, so that the ids are always the tokenizer's own.
    """

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self._bytes = isinstance(tokenizer, transformers.ByT5Tokenizer)
        self._offset = tokenizer.offset if self._bytes else None
        self._added = tuple(tokenizer.get_added_vocab()) if self._bytes and not tokenizer.split_special_tokens else ()

    def plain(self, texts: Sequence[str]) -> Iterator[np.ndarray]:
        """The ids of each whole text, without special tokens."""
        if self._bytes:
            return (self._byte_ids(text) for text in texts)
        # `verbose=False`: a text longer than the model is expected here, it is cut into blocks later.
        return self._ids(list(texts), add_special_tokens=False, verbose=False)

    def whole(self, texts: Sequence[str], max_length: int) -> Iterator[np.ndarray]:
        """The ids of each text with the special tokens, cut to `max_length` in all."""
        if self._bytes:
            room = max_length - self._tokenizer.num_special_tokens_to_add()
            wrap = self._tokenizer.build_inputs_with_special_tokens
            cut = slice(-room, None) if self._tokenizer.truncation_side == "left" else slice(room)
            return (np.asarray(wrap(ids[cut].tolist()), np.int32) for ids in self.plain(texts))
        return self._ids(list(texts), truncation=True, max_length=max_length)

    def joined(self, records: Sequence[Sequence[str]], token: str, max_length: int) -> Iterator[np.ndarray]:
        """As `whole`, of records of several texts with a special token, spelled with its blanks, between them."""
        added = self._tokenizer.added_tokens_decoder.values() if self._tokenizer.split_special_tokens else ()
        special = [one.content for one in added if one.special]
        spelled = [next((t for t in texts if any(name in t for name in special)), None) for texts in records]
        others = self._with_tokens([token.join(t) for t, found in zip(records, spelled) if found is None], max_length)
        for texts, found in zip(records, spelled):
            yield next(others) if found is None else self._joined(texts, found, token.strip(), max_length)

    def _with_tokens(self, texts, max_length):
        how = dict(truncation=True, max_length=max_length)
        if self._tokenizer.is_fast:
            yield from self._ids(texts, split_special_tokens=False, **how)
            return
        for text in texts:  # the others have no such argument when they are called
            ids = self._tokenizer.convert_tokens_to_ids(self._tokenizer.tokenize(text, split_special_tokens=False))
            yield np.asarray(self._tokenizer.prepare_for_model(ids, **how)["input_ids"], np.int32)

    def _joined(self, texts, example, token, max_length):
        # For texts that spell special tokens, as `example` does; the other way, it is up to the tokenizer what becomes
        # of blanks next to a token.
        between = self._tokenizer.convert_tokens_to_ids([token]) if token else []
        ids = [i for text in self.plain(texts) for i in (*between, *text)][len(between) :]
        one = self._tokenizer(example, return_special_tokens_mask=True, verbose=False)
        text_of = np.flatnonzero(np.equal(one["special_tokens_mask"], 0))
        head, tail = one["input_ids"][: text_of[0]], one["input_ids"][text_of[-1] + 1 :]
        return np.asarray([*head, *ids[: max_length - len(head) - len(tail)], *tail], np.int32)

    def pairs(self, pairs: Sequence[Sequence[str]], max_length: int) -> Iterator[dict[str, np.ndarray]]:
        """`input_ids` of pairs of texts, the longer one cut first, and `token_type_ids` if the tokenizer has them."""
        firsts, seconds = map(list, zip(*pairs))
        encoded = self._tokenizer(firsts, seconds, truncation=True, max_length=max_length, verbose=False)
        names = [name for name in ("input_ids", "token_type_ids") if name in encoded]
        return ({n: np.asarray(v, np.int32) for n, v in zip(names, row)} for row in zip(*(encoded[n] for n in names)))

    def targets(self, texts: Sequence[str], max_length: int) -> Iterator[np.ndarray]:
        """As `whole`, of texts to be written, for which some tokenizers (Marian's) have another vocabulary."""
        if self._bytes:
            return self.whole(texts, max_length)
        return self._ids(text_target=list(texts), truncation=True, max_length=max_length)

    def _ids(self, *texts, **how) -> Iterator[np.ndarray]:
        return (np.asarray(ids, np.int32) for ids in self._tokenizer(*texts, **how)["input_ids"])

    def _byte_ids(self, text: str) -> np.ndarray:
        if any(token in text for token in self._added):
            return np.asarray(self._tokenizer(text, add_special_tokens=False)["input_ids"], np.int32)
        return np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int32) + self._offset


def word_pieces(tokenizer, sentences: Sequence[Sequence[str]]) -> list[tuple]:
    """Sentences in words -> (ids with special tokens, the index of each id's word or None) of each.

    Args:
      tokenizer: One for single words, see `tff_tx.models.load_tokenizer`.
      sentences: The words of each.
    """
    if not tokenizer.is_fast:
        return [_slow_word_pieces(tokenizer, words) for words in sentences]
    encoded = tokenizer([list(words) for words in sentences], is_split_into_words=True, verbose=False)
    return [(ids, encoded.word_ids(number)) for number, ids in enumerate(encoded["input_ids"])]


def _slow_word_pieces(tokenizer, words: Sequence[str]) -> tuple:
    pieces = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
    ids = [piece for word in pieces for piece in word]
    owners = iter(number for number, word in enumerate(pieces) for _ in word)
    special = tokenizer.get_special_tokens_mask(ids)
    wrapped = tokenizer.build_inputs_with_special_tokens(ids)
    return wrapped, [None if is_special else next(owners) for is_special in special]


def tokenizer_fingerprint(tokenizer) -> str:
    """A string that changes when the tokenizer's output may."""
    parts = [type(tokenizer).__name__, transformers.__version__, str(tokenizer.special_tokens_map)]
    parts.append(str(tokenizer.split_special_tokens))
    if tokenizer.is_fast:
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        # Left behind by whoever called the tokenizer last.
        state.pop("truncation", None)
        state.pop("padding", None)
        parts.append(json.dumps(state, sort_keys=True))
    else:
        parts.append(json.dumps(tokenizer.get_vocab(), sort_keys=True))
        # The vocabulary does not show the scores that a SentencePiece model chooses by.
        path = getattr(tokenizer, "vocab_file", None)
        if path and os.path.isfile(path):
            with open(path, "rb") as file:
                parts.append(hashlib.sha256(file.read()).hexdigest())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
