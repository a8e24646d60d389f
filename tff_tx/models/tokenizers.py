"""Tokenizers of checkpoints, which take text for text."""

from __future__ import annotations

import json
import os
import string
import tempfile
from typing import Any

import transformers

from tff_tx.core.errors import UserError
from tff_tx.models import checkpoints
from tff_tx.models.hugging_face import described_at, loadable


def load_tokenizer(name: str, of_words: bool = False) -> Any:
    """Loads the tokenizer of a model directory or hub id; "bytes" and "characters" are tokenizers that need no file.

    Special tokens that are spelled in a text are text to it. Only a tokenizer in Python that has other tokens added,
    which it could not find any more, reads them as tokens.

    Args:
      name: The directory, hub id (see `checkpoints.local`) or "bytes".
      of_words: Whether it is for single words, which byte-level BPE then takes for words behind blanks.

    Raises:
      UserError: If there is no tokenizer at `name`.
    """
    if name == "bytes":
        return _text_only(transformers.ByT5Tokenizer(extra_ids=0))
    if name == "characters":
        return _characters()
    remedy = 'give a directory or hub id that has a tokenizer, or "bytes"'
    with loadable(f"tokenizer {name}", remedy):
        path = checkpoints.local(name)
        path = path if _has_tokenizer(path) else described_at(name)
    if not _has_tokenizer(path):
        raise UserError(f"tokenizer {name} is a directory without tokenizer files: {remedy}.")
    with loadable(f"tokenizer {name}", remedy):
        tokenizer = transformers.AutoTokenizer.from_pretrained(path)
        if of_words and _joins_words(tokenizer):
            tokenizer = transformers.AutoTokenizer.from_pretrained(path, add_prefix_space=True)
    if tokenizer.pad_token_id is None:  # as GPT-2's; padding is masked anyway, so any id serves
        tokenizer.pad_token = tokenizer.eos_token
    return _text_only(tokenizer)


def _characters() -> Any:
    """Of transcripts in English: letters without their case, digits, the apostrophe, and the end of a word."""
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", "'", *string.ascii_uppercase, *string.digits]
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "vocab.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({token: number for number, token in enumerate(tokens)}, file)
        # It takes texts in upper case and gives them in lower case.
        return _text_only(transformers.Wav2Vec2CTCTokenizer(path, do_lower_case=True))


def _has_tokenizer(path):
    files = os.listdir(path)
    return any("token" in f or f.startswith("vocab") or f.endswith((".model", ".spm")) for f in files)


def _joins_words(tokenizer):
    """Whether a word by itself is to it the rest of another one: byte-level BPE has other tokens for " word"."""
    if not tokenizer.is_fast:
        return getattr(tokenizer, "add_prefix_space", None) is False
    before = json.loads(tokenizer.backend_tokenizer.to_str())["pre_tokenizer"] or {}
    steps = [before, *before.get("pretokenizers", ())]
    return any(step["type"] == "ByteLevel" and not step["add_prefix_space"] for step in steps)


def _text_only(tokenizer: Any) -> Any:
    added = tokenizer.added_tokens_decoder.values()
    # Not given to the constructor, which would save it: elsewhere people expect what transformers does by default.
    tokenizer.split_special_tokens = tokenizer.is_fast or all(token.special for token in added)
    return tokenizer
