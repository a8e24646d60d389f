"""Vocabularies learned from clients: words that many of them use, counted by sums, and a tokenizer made of those."""

from tff_tx.analysis.vocabulary.heavy_hitters import Bounds, WordsEncoder, count_words, release
from tff_tx.analysis.vocabulary.tokenizer import TOKEN_NAMES, build_tokenizer, check_size, pre_tokenization
