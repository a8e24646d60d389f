"""Tokenizers made of counted words: what is in them, and that they write any text."""

import collections

import pytest
import transformers

from tff_tx import datasets
from tff_tx.analysis.vocabulary import TOKEN_NAMES, build_tokenizer, pre_tokenization
from tff_tx.core.errors import UserError

TEXT = "The cat sat on the mat; the cat, she said, sat there. Thé déjà-vu of 42 cats!\n\tx_1 = f(y)\n"


def learn(model, text=TEXT * 3, vocab_size=400, lowercase=False):
    return build_tokenizer(model, collections.Counter(pre_tokenization(model, lowercase)(text)), vocab_size, lowercase)


def test_word_pieces_words_are_berts():
    """Against the tokenizer of Hugging Face that this splits like, with a vocabulary of just these words."""
    words = pre_tokenization("wordpiece", lowercase=True)("Hello, WÖRLD_x 3.5!")
    assert words == ["hello", ",", "world", "_", "x", "3", ".", "5", "!"]
    reference = transformers.BasicTokenizer(do_lower_case=True)
    assert pre_tokenization("wordpiece", True)(TEXT) == reference.tokenize(TEXT)
    cased = transformers.BasicTokenizer(do_lower_case=False, strip_accents=False)
    assert pre_tokenization("wordpiece", False)(TEXT) == cased.tokenize(TEXT)


def test_words_of_bpe_are_the_text_in_parts():
    words = pre_tokenization("bpe", lowercase=False)(TEXT)
    assert "".join(words) == TEXT
    assert words[:3] == ["The", " cat", " sat"]


@pytest.mark.parametrize("model", TOKEN_NAMES)
def test_it_has_the_special_tokens_that_the_tasks_need(model):
    tokenizer = learn(model)
    names = TOKEN_NAMES[model]
    assert tokenizer.convert_ids_to_tokens(range(5)) == list(names.values())
    for name in ("pad", "cls", "sep", "mask"):
        assert getattr(tokenizer, f"{name}_token") == names[name]
    assert (tokenizer.bos_token, tokenizer.eos_token) == (names["cls"], names["sep"])
    ids = tokenizer("the cat")["input_ids"]
    assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    # What the encoder of masked language modeling wraps its blocks with.
    assert tokenizer.build_inputs_with_special_tokens(ids[1:-1]) == ids
    assert tokenizer.num_special_tokens_to_add() == 2


@pytest.mark.parametrize("model", TOKEN_NAMES)
def test_frequent_words_are_one_token_and_the_size_is_kept(model):
    tokenizer = learn(model, vocab_size=300)
    assert len(tokenizer) <= 300
    assert len(tokenizer("x the cat", add_special_tokens=False)["input_ids"]) == (3 if model == "wordpiece" else 3)


def test_bpe_gives_any_text_back():
    tokenizer = learn("bpe")
    text = "Ünheard-of wörds: 漢字\n\n  and  blanks"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


@pytest.mark.parametrize("lowercase", [False, True])
def test_word_piece_spells_any_ascii_word_without_having_seen_it(lowercase):
    tokenizer = learn("wordpiece", "one", vocab_size=200, lowercase=lowercase)
    text = " ".join(chr(c) + chr(c) + "q7" for c in range(33, 127))
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids).replace(" ", "") == (text.lower() if lowercase else text).replace(" ", "")
    assert tokenizer.unk_token_id in tokenizer("漢")["input_ids"]


@pytest.mark.parametrize("model", TOKEN_NAMES)
def test_the_same_words_give_the_same_tokenizer(model):
    text = TEXT + "Äpfel, Öl und Übermut; Äpfel"
    assert learn(model, text).get_vocab() == learn(model, text).get_vocab()


@pytest.mark.parametrize("model", TOKEN_NAMES)
def test_nothing_but_the_counted_words_gets_in(model):
    """All tokens are special, single characters or bytes, or parts of the words."""
    counts = {"cat": 7.4, "catalogue": 3.2, "dog": 0.4}
    tokenizer = build_tokenizer(model, counts, 400)
    tokens = {token.replace("##", "").replace("Ġ", "") for token in tokenizer.get_vocab()}
    longer = {t for t in tokens if len(t) > 1} - set(TOKEN_NAMES[model].values())
    assert longer
    assert all(any(token in word for word in counts) for token in longer)
    assert "cat" in longer
    assert "dog" not in longer  # counts once, and pieces need two


@pytest.mark.parametrize("model", TOKEN_NAMES)
def test_it_comes_back_from_its_directory(model, tmp_path):
    tokenizer = learn(model)
    tokenizer.save_pretrained(tmp_path)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert again(TEXT)["input_ids"] == tokenizer(TEXT)["input_ids"]
    assert again.mask_token == tokenizer.mask_token
    blocks = datasets.LanguageModelingEncoder(again, 8, masked=True)
    assert blocks.text_length == 6


@pytest.mark.parametrize(("model", "least"), [("wordpiece", 161), ("bpe", 261)])
def test_a_vocabulary_without_room_for_letters_is_refused(model, least):
    with pytest.raises(UserError, match=f"vocabulary.size={least - 1}: must be at least {least}"):
        build_tokenizer(model, {}, least - 1)
    assert len(build_tokenizer(model, {"a": 1}, least)) == least
