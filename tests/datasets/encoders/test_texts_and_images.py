"""Encoders against the tokenizers themselves."""

import numpy as np
import pandas as pd
import pytest
import tokenizers
import transformers

from tff_tx import datasets, models
from tff_tx.core.errors import UserError
from tff_tx.datasets.encoders import tokenizing

TEXTS = ["A short text.", "ünïcode — 日本語\r\n\ttabs  and blanks ", "", "x" * 500, "</s> <pad>ded"]


def rows(**columns):
    size = len(next(iter(columns.values())))
    return pd.DataFrame({**columns, "where": [f"f.csv, line {n + 1}" for n in range(size)]})


@pytest.fixture(params=["bytes", "minilm"])
def tokenizer(request, byte_tokenizer, minilm):
    return byte_tokenizer if request.param == "bytes" else minilm


def test_sequences_are_the_tokenizers_own(tokenizer):
    encoder = datasets.SequenceClassificationEncoder(tokenizer, ["a", "b"], 64)
    found = encoder.encode(rows(text=TEXTS, label=["b", "a", "a", "b", "a"]))
    expected = tokenizer(TEXTS, truncation=True, max_length=64)["input_ids"]
    assert [example["input_ids"].tolist() for example in found] == expected
    assert [int(example["label"]) for example in found] == [1, 0, 0, 1, 0]
    assert_matches_spec(encoder, found)


def assert_matches_spec(encoder, examples):
    assert examples
    for example in examples:
        assert list(example) == list(encoder.element_spec)
        for name, spec in encoder.element_spec.items():
            value = np.asarray(example[name])
            assert value.dtype == spec.dtype.as_numpy_dtype
            assert spec.shape.is_compatible_with(value.shape)


def test_the_byte_path_is_the_tokenizers_own(byte_tokenizer):
    found = tokenizing.Tokenize(byte_tokenizer).plain(TEXTS)
    expected = byte_tokenizer(TEXTS, add_special_tokens=False)["input_ids"]
    assert [ids.tolist() for ids in found] == expected


def test_extra_ids_of_the_byte_tokenizer_are_its_own():
    tokenizer = transformers.ByT5Tokenizer(extra_ids=5)
    text = "one <extra_id_3> two"
    (found,) = tokenizing.Tokenize(tokenizer).plain([text])
    assert found.tolist() == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_text_without_tokens_is_refused():
    bare = tokenizers.Tokenizer(tokenizers.models.WordLevel({"word": 0}, unk_token="word"))
    bare.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    bare = transformers.PreTrainedTokenizerFast(tokenizer_object=bare)
    encoder = datasets.SequenceClassificationEncoder(bare, ["a"], 8)
    with pytest.raises(UserError, match=r"f\.csv, line 2: the text ' ' gives no token.*data\.text_column"):
        encoder.encode(rows(text=["word", " "], label=["a", "a"]))


def test_an_unknown_label_is_refused(byte_tokenizer):
    encoder = datasets.SequenceClassificationEncoder(byte_tokenizer, ["a", "b"], 64)
    message = r"f\.csv, line 2: the label 'c' is not one of the 2 known labels \(a, b\); .*data\.label_names"
    with pytest.raises(UserError, match=message):
        encoder.encode(rows(text=["x", "y"], label=["a", "c"]))


WORDS = ["Hereditary", "ataxia", "in", "mice", "."]
TAGS = ["B-D", "I-D", "O", "O", "O"]


def test_tags_go_to_the_first_piece(tokenizer):
    encoder = datasets.TokenClassificationEncoder(tokenizer, ["O", "B-D", "I-D"], 64)
    (found,) = encoder.encode(rows(tokens=[WORDS], tags=[TAGS]))
    expected = tokenizer([WORDS], is_split_into_words=True)["input_ids"][0]
    assert found["input_ids"].tolist() == expected
    kept = found["labels"][found["labels"] != -100]
    assert kept.tolist() == [1, 2, 0, 0, 0]
    assert len(found["labels"]) == len(expected) > len(kept)
    # Where a word starts by the tokenizer's own account.
    position = 0 if found["labels"][0] != -100 else 1
    for word, label in zip(WORDS, [1, 2, 0, 0, 0]):
        pieces = tokenizer(word, add_special_tokens=False)["input_ids"]
        assert found["input_ids"][position : position + len(pieces)].tolist() == pieces
        assert found["labels"][position] == label
        assert (found["labels"][position + 1 : position + len(pieces)] == -100).all()
        position += len(pieces)
    assert_matches_spec(encoder, [found])


def test_a_long_sentence_is_cut_between_words_and_loses_none(tokenizer):
    encoder = datasets.TokenClassificationEncoder(tokenizer, ["O", "B-D", "I-D"], 24)
    found = encoder.encode(rows(tokens=[WORDS * 9], tags=[TAGS * 9]))
    assert len(found) > 1
    assert max(len(example["input_ids"]) for example in found) <= 24
    labels = np.concatenate([example["labels"] for example in found])
    assert labels[labels != -100].tolist() == [1, 2, 0, 0, 0] * 9


def test_a_word_longer_than_the_model_is_cut(byte_tokenizer):
    encoder = datasets.TokenClassificationEncoder(byte_tokenizer, ["O"], 10)
    (found,) = encoder.encode(rows(tokens=[["x" * 50]], tags=[["O"]]))
    assert len(found["input_ids"]) == len(found["labels"]) == 10


def test_an_unknown_tag_is_refused(byte_tokenizer):
    encoder = datasets.TokenClassificationEncoder(byte_tokenizer, ["O"], 10)
    with pytest.raises(UserError, match=r"f\.csv, line 1: the label 'B-X'"):
        encoder.encode(rows(tokens=[["x"]], tags=[["B-X"]]))


def test_causal_blocks_join_the_texts_of_a_client(byte_tokenizer):
    encoder = datasets.LanguageModelingEncoder(byte_tokenizer, 7)
    found = encoder.encode(rows(text=["abcdefghij", "klm"]))
    ids = byte_tokenizer("abcdefghij")["input_ids"] + byte_tokenizer("klm")["input_ids"]
    assert [len(example["input_ids"]) for example in found] == [7, 7]
    # Fifteen ids: the last alone makes no block.
    assert np.concatenate([example["input_ids"] for example in found]).tolist() == ids[:14]
    assert_matches_spec(encoder, found)


def test_blocks_do_not_depend_on_chunks(byte_tokenizer):
    encoder = datasets.LanguageModelingEncoder(byte_tokenizer, 9)
    texts = rows(text=["some words here", "and more of them", "x", "the end"])
    whole = encoder.encode(texts)
    stream = encoder.stream()
    pairs = [pair for n in range(4) for pair in stream.add(["client"], texts[n : n + 1])]
    pairs += stream.finish()
    assert [example["input_ids"].tolist() for _, example in pairs] == [
        example["input_ids"].tolist() for example in whole
    ]


def test_blocks_keep_clients_apart(byte_tokenizer):
    encoder = datasets.LanguageModelingEncoder(byte_tokenizer, 8)
    stream = encoder.stream()
    pairs = [*stream.add(["p", "q", "p"], rows(text=["aaaaa", "bbbbb", "aaa"])), *stream.finish()]
    texts = {}
    for owner, example in pairs:
        texts[owner] = texts.get(owner, "") + byte_tokenizer.decode(example["input_ids"])
    assert texts == {"p": "aaaaa</s>aaa</s>", "q": "bbbbb</s>"}


def test_masked_blocks_are_wrapped(minilm):
    encoder = datasets.LanguageModelingEncoder(minilm, 16, masked=True)
    text = "federated learning of transformers on telephones and in hospitals " * 4
    found = encoder.encode(rows(text=[text]))
    assert [len(example["input_ids"]) for example in found[:-1]] == [16] * (len(found) - 1)
    inside = []
    for example in found:
        ids = example["input_ids"].tolist()
        assert (ids[0], ids[-1]) == (minilm.cls_token_id, minilm.sep_token_id)
        inside += ids[1:-1]
    assert inside == minilm(text, add_special_tokens=False)["input_ids"]
    assert encoder.kind == "masked_lm"


def test_a_block_too_short_is_refused(minilm):
    with pytest.raises(UserError, match=r"block of 3 tokens has room for 1 .*task\.max_length"):
        datasets.LanguageModelingEncoder(minilm, 3, masked=True)


IMAGE = np.arange(2 * 4 * 6, dtype=np.uint8).reshape(2, 4, 6) * 5


@pytest.mark.parametrize(
    "pixels",
    [
        IMAGE,
        IMAGE.transpose(1, 2, 0),
        IMAGE.transpose(1, 2, 0).ravel(),
        IMAGE.astype(np.int64).tolist(),
        (IMAGE / np.float32(255)).astype(np.float32),
    ],
)
def test_images_of_any_layout(pixels):
    encoder = datasets.ImageClassificationEncoder(["x", "y"], (2, 4, 6))
    (found,) = encoder.encode(rows(pixels=[pixels], label=["y"]))
    np.testing.assert_allclose(found["pixel_values"], IMAGE / 255, rtol=1e-6)
    assert_matches_spec(encoder, [found])


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (1, 4, 6), (24,)])
def test_grey_images_of_any_layout(shape):
    encoder = datasets.ImageClassificationEncoder(["x"], (1, 4, 6))
    (found,) = encoder.encode(rows(pixels=[IMAGE[0].reshape(shape)], label=["x"]))
    np.testing.assert_allclose(found["pixel_values"][0], IMAGE[0] / 255, rtol=1e-6)


def test_a_wrong_image_is_refused():
    encoder = datasets.ImageClassificationEncoder(["x"], (2, 4, 6))
    with pytest.raises(UserError, match=r"f\.csv, line 1: the image has the shape \[5, 5\].*\[2, 4, 6\]"):
        encoder.encode(rows(pixels=[np.zeros([5, 5])], label=["x"]))
    with pytest.raises(UserError, match=r"line 1: pixels must be .*float64 from 0 to 17; rescale"):
        encoder.encode(rows(pixels=[np.linspace(0, 17, 48).reshape(2, 4, 6)], label=["x"]))
    with pytest.raises(UserError, match=r"line 1: pixels must be .*-1"):
        encoder.encode(rows(pixels=[np.full([2, 4, 6], -1)], label=["x"]))


def test_images_of_other_sizes_and_modes_are_brought_to_the_models_once_said():
    converter = models.plain_processor((3, 4, 6))
    encoder = datasets.ImageClassificationEncoder(["x"], (3, 4, 6), converter=converter)
    grey, colors = np.full([8, 12], 51, np.uint8), np.full([8, 6, 4], [255, 102, 0, 7], np.uint8)
    deep, same = np.full([2, 2], 0.5, np.float32), np.full([4, 6, 3], 9, np.uint8)
    found = encoder.encode(rows(pixels=[grey, colors, deep, same], label=["x"] * 4))
    assert_matches_spec(encoder, found)
    for example, wanted in zip(found, [[0.2] * 3, [1, 0.4, 0], [0.5] * 3, [9 / 255] * 3]):
        np.testing.assert_allclose(example["pixel_values"].mean((1, 2)), wanted, atol=3e-3)
    (note,) = encoder.notes()
    assert "3 of 4 images have another size or mode" in note
    assert "brought to 3x4x6" in note


def test_fingerprints_tell_encoders_apart(byte_tokenizer, minilm):
    def encoders():
        return [
            datasets.SequenceClassificationEncoder(minilm, ["a", "b"], 64),
            datasets.SequenceClassificationEncoder(minilm, ["b", "a"], 64),
            datasets.SequenceClassificationEncoder(minilm, ["a", "b"], 65),
            datasets.SequenceClassificationEncoder(byte_tokenizer, ["a", "b"], 64),
            datasets.TokenClassificationEncoder(minilm, ["a", "b"], 64),
            datasets.LanguageModelingEncoder(minilm, 64),
            datasets.LanguageModelingEncoder(minilm, 64, masked=True),
            datasets.LanguageModelingEncoder(minilm, 65),
            datasets.ImageClassificationEncoder(["a"], (1, 4, 4)),
            datasets.ImageClassificationEncoder(["a"], (1, 4, 5)),
            datasets.ImageClassificationEncoder(["a"], (1, 4, 4), models.plain_processor((1, 4, 4))),
        ]

    first = [encoder.fingerprint for encoder in encoders()]
    minilm("change its padding and truncation", padding="max_length", max_length=9, truncation=True)
    assert [encoder.fingerprint for encoder in encoders()] == first
    assert len(set(first)) == len(first)
