"""Tiny tokenizers and models, in directories as users have them."""

import pytest

from tests import tiny


@pytest.fixture(scope="session")
def words_tokenizer():
    return tiny.words_tokenizer(["who", "is", "there", "ann", "bob", "it", "was", "not", "she", "but"])
