"""Word tokenization for tagging."""

from __future__ import annotations

import re

# What Chinese and Japanese write without blanks, a word a character.
_UNSPACED = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_PUNCTUATION = r"!-/:-@\[-^`{-~\xa1-\xbf\u2010-\u205e\u3001-\u301f\uff01-\uff0f"
_LETTER = rf"[^\s{_UNSPACED}{_PUNCTUATION}]"
_PART = re.compile(rf"[{_UNSPACED}]|{_LETTER}+|\S")
_WORD = re.compile(rf"[{_UNSPACED}]|{_LETTER}(?:[^\s{_UNSPACED}]*{_LETTER})?(?:(?<=\.[^\W\d])\.)?|\S")


def parts(text: str) -> list[str]:
    """Splits a text at blanks and at each punctuation character, which is a word: Coca, -, Cola."""
    return _PART.findall(text)


def words(text: str) -> list[str]:
    """Splits a text at blanks, and punctuation from the ends of words: (, Coca-Cola, U.S., )."""
    return _WORD.findall(text)
