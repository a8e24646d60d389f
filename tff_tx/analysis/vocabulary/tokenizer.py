"""Hugging Face tokenizers from word counts, for any text."""

from __future__ import annotations

import collections
import string
from collections.abc import Iterator, Mapping
from typing import Any, Callable

import tokenizers
import transformers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from tff_tx.core.errors import UserError, setting

TOKEN_NAMES = {
    "wordpiece": {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
    "bpe": {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"},
}
"""Special tokens by model, WordPiece (Devlin et al. 2019) or byte-level BPE (Radford et al. 2019), in the order of
their ids; texts begin with cls and end with sep, for all tasks."""

_CLASSES = {"wordpiece": transformers.BertTokenizerFast, "bpe": transformers.RobertaTokenizerFast}
_TRAINING = {"min_frequency": 2, "show_progress": False}
_INNER = "##"


def pre_tokenization(model: str, lowercase: bool) -> Callable[[str], list[str]]:
    """The function from a text to its words, whose boundaries no token crosses.

    Args:
      model: "wordpiece": words and single punctuation marks; "bpe": words with the blank before them, runs of
        punctuation, of digits and of white space, so that joined they are the text again.
      lowercase: Whether to lowercase texts and drop accents; WordPiece only.
    """
    normalizer, splitter = _normalizer(model, lowercase), _splitter(model)

    def words(text: str) -> list[str]:
        text = normalizer.normalize_str(text) if normalizer else text
        return [text[start:end] for _, (start, end) in splitter.pre_tokenize_str(text)]

    return words


def build_tokenizer(model: str, counts: Mapping[str, float], vocab_size: int, lowercase: bool = False) -> Any:
    """Learns a tokenizer from word counts.

    Besides pieces of the words, the vocabulary has public entries alone: special tokens, and the printable ASCII
    characters (WordPiece) or all bytes (BPE).

    Args:
      model: One of `TOKEN_NAMES`.
      counts: Count by word, as `pre_tokenization` splits; rounded, and at least 1.
      vocab_size: Maximum number of entries.
      lowercase: As for `pre_tokenization`.

    Returns:
      A `transformers.PreTrainedTokenizerFast` with the tokens of `TOKEN_NAMES`; begin and end of a text are also its
      bos and eos tokens.

    Raises:
      UserError: If `vocab_size` is too small for the public entries.
    """
    check_size(model, vocab_size, lowercase)
    names = TOKEN_NAMES[model]
    if model == "wordpiece":
        result = _train_word_piece(counts, vocab_size, lowercase)
        result.normalizer = _normalizer(model, lowercase)
    else:
        result = _train_bpe(counts, vocab_size)
    result.pre_tokenizer = _splitter(model)
    ends = [(names[end], result.token_to_id(names[end])) for end in ("cls", "sep")]
    result.post_processor = processors.TemplateProcessing(
        single=f"{names['cls']} $A {names['sep']}",
        pair=f"{names['cls']} $A {names['sep']} $B:1 {names['sep']}:1",
        special_tokens=ends,
    )
    result.decoder = decoders.WordPiece() if model == "wordpiece" else decoders.ByteLevel()
    own = {"do_lower_case": lowercase, "strip_accents": lowercase} if model == "wordpiece" else {}
    return _CLASSES[model](
        tokenizer_object=result,
        bos_token=names["cls"],
        eos_token=names["sep"],
        **{f"{name}_token": token for name, token in names.items()},
        **own,
    )


def _train_bpe(counts, vocab_size):
    result = tokenizers.Tokenizer(models.BPE())
    result.pre_tokenizer = _splitter("bpe")
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(TOKEN_NAMES["bpe"].values()),
        initial_alphabet=_alphabet("bpe", False),
        **_TRAINING,
    )
    result.train_from_iterator(_repeated(counts), trainer)
    return result


def _train_word_piece(counts, vocab_size, lowercase):
    """Merges as those of BPE, over pieces that know whether they begin a word."""
    names = TOKEN_NAMES["wordpiece"]
    letters, alphabet = _letters(lowercase), _alphabet("wordpiece", lowercase)
    others = _other_characters(counts, alphabet, (vocab_size - _least_size("wordpiece", lowercase)) // 4)
    result = tokenizers.Tokenizer(models.WordPiece(unk_token=names["unk"]))
    result.pre_tokenizer = _splitter("wordpiece")
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        # The trainer numbers inner pieces in an order that differs from one time to the next, unless they are there.
        special_tokens=[*names.values(), *(_INNER + c for c in (*letters, *others))],
        initial_alphabet=[*alphabet, *others],
        limit_alphabet=len(alphabet) + len(others),
        **_TRAINING,
    )
    result.train_from_iterator(_repeated(counts), trainer)
    return tokenizers.Tokenizer(models.WordPiece(result.get_vocab(), unk_token=names["unk"]))


def _other_characters(counts, known, most):
    """The most frequent characters of the words besides the public ones."""
    found: collections.Counter = collections.Counter()
    for word, count in counts.items():
        for character in set(word).difference(known):
            found[character] += count
    return sorted(sorted(found, key=lambda c: (-found[c], c))[:most])


def _repeated(counts) -> Iterator[list[str]]:
    """Trainers count what they are given; the iterator is of batches."""
    return ([word] * max(1, round(count)) for word, count in counts.items())


def check_size(model: str, vocab_size: int, lowercase: bool = False) -> None:
    """Raises a UserError if a vocabulary is too small for the public entries."""
    if vocab_size < _least_size(model, lowercase):
        raise UserError(
            f"{setting('vocabulary.size')}={vocab_size}: must be at least {_least_size(model, lowercase)}, the number "
            "of special tokens and single characters."
        )


def _least_size(model, lowercase):
    inner = len(_letters(lowercase)) if model == "wordpiece" else 0
    return len(TOKEN_NAMES[model]) + len(_alphabet(model, lowercase)) + inner


def _normalizer(model, lowercase):
    return normalizers.BertNormalizer(lowercase=lowercase, strip_accents=lowercase) if model == "wordpiece" else None


def _splitter(model):
    return pre_tokenizers.BertPreTokenizer() if model == "wordpiece" else pre_tokenizers.ByteLevel(False)


def _letters(lowercase):
    return string.digits + (string.ascii_lowercase if lowercase else string.ascii_letters)


def _alphabet(model, lowercase):
    if model == "bpe":
        return pre_tokenizers.ByteLevel.alphabet()
    return sorted(_letters(lowercase) + string.punctuation)
