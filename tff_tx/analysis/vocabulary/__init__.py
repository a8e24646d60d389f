"""Vocabularies learned from clients: words that many of them use, counted by sums, and a tokenizer made of those."""

from tff_tx.analysis.vocabulary.heavy_hitters import count_words, release
from tff_tx.analysis.vocabulary.tokenizer import TOKEN_NAMES, build_tokenizer, check_size, pre_tokenization
from tff_tx.analysis.vocabulary.words import Bounds, WordsEncoder
