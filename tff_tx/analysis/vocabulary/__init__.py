"""Vocabularies learned from clients: words that many of them use, counted by sums, and a tokenizer made of those."""

from tff_tx.analysis.vocabulary.heavy_hitters import count_words, release
from tff_tx.analysis.vocabulary.tokenizer import TOKEN_NAMES, build_tokenizer, check_size, pre_tokenization
from tff_tx.analysis.vocabulary.words import Bounds, WordsEncoder

__all__ = [
    "TOKEN_NAMES",
    "Bounds",
    "WordsEncoder",
    "build_tokenizer",
    "check_size",
    "count_words",
    "pre_tokenization",
    "release",
]
