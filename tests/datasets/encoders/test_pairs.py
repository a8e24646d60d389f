"""Texts with targets, against the tokenizers themselves."""

import logging

import pandas as pd
import pytest
import tokenizers
import transformers

from tff_tx import datasets
from tff_tx.core.errors import UserError
from tff_tx.datasets.encoders.tokenizing import Tokenize

TEXTS = ["Wall St. bears claw back into the black", "short"]
TARGETS = ["Bears are back", "ünïcode — 日本語"]


def rows(texts=TEXTS, targets=TARGETS):
    return pd.DataFrame(
        {"text": texts, "target": targets, "where": [f"f.csv, line {n + 1}" for n in range(len(texts))]}
    )


def test_a_target_is_the_tokenizers_own_with_its_end(byte_tokenizer):
    found = datasets.SequenceToSequenceEncoder(byte_tokenizer, 100, 100).encode(rows())
    assert [e["input_ids"].tolist() for e in found] == byte_tokenizer(TEXTS)["input_ids"]
    assert [e["labels"].tolist() for e in found] == byte_tokenizer(text_target=TARGETS)["input_ids"]
    assert {e["labels"].dtype.name for e in found} == {"int32"}


def test_of_a_tokenizer_without_an_end_the_start_is_left_to_the_decoder(minilm):
    assert datasets.start_and_end(minilm) == (101, 102)
    found = datasets.SequenceToSequenceEncoder(minilm, 100, 100).encode(rows())
    assert [[101, *e["labels"]] for e in found] == minilm(TARGETS)["input_ids"]


def test_a_tokenizer_that_ends_nothing_by_itself():
    bare = tokenizers.Tokenizer(tokenizers.models.WordLevel({"word": 0, "<end>": 1}, unk_token="word"))
    bare.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<end>", pad_token="<end>")
    (found,) = datasets.SequenceToSequenceEncoder(tokenizer, 8, 8).encode(rows(["word"], ["word word"]))
    assert found["labels"].tolist() == [0, 0, 1]
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=bare)
    with pytest.raises(
        UserError, match=r"model\.tokenizer: PreTrainedTokenizerFast has no token for the end of a text"
    ):
        datasets.SequenceToSequenceEncoder(tokenizer, 8, 8)


@pytest.mark.parametrize("name", ["byte_tokenizer", "minilm"])
def test_both_are_cut_and_the_target_keeps_its_end(name, request):
    tokenizer = request.getfixturevalue(name)
    _, end = datasets.start_and_end(tokenizer)
    whole = datasets.SequenceToSequenceEncoder(tokenizer, 100, 100).encode(rows())[0]
    found = datasets.SequenceToSequenceEncoder(tokenizer, 6, 3).encode(rows())[0]
    assert found["input_ids"].tolist() == tokenizer(TEXTS[0], truncation=True, max_length=6)["input_ids"]
    assert found["labels"].tolist() == [*whole["labels"][:2], end]
    just = datasets.SequenceToSequenceEncoder(tokenizer, 100, len(whole["labels"])).encode(rows())[0]
    assert just["labels"].tolist() == whole["labels"].tolist()


def test_nothing_is_said_of_each_pair_that_is_cut(byte_tokenizer, caplog):
    pair = ["a long text", "another"]
    with caplog.at_level("WARNING", "transformers.tokenization_utils_base"):
        logging.getLogger("transformers").addHandler(caplog.handler)
        (found,) = Tokenize(byte_tokenizer).pairs([pair], 8)
        logging.getLogger("transformers").removeHandler(caplog.handler)
    assert len(found["input_ids"]) == 8
    assert not caplog.records


def test_an_empty_text_is_refused_and_an_empty_target_is_an_end():
    bare = tokenizers.Tokenizer(tokenizers.models.WordLevel({"word": 0, "<end>": 1}, unk_token="word"))
    bare.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<end>", pad_token="<end>")
    encoder = datasets.SequenceToSequenceEncoder(tokenizer, 8, 8)
    assert encoder.encode(rows(["word"], [""]))[0]["labels"].tolist() == [1]
    with pytest.raises(UserError, match=r"f\.csv, line 2: the text gives no token; .*data\.text_column"):
        encoder.encode(rows(["word", " "], ["word", "word"]))


def test_lengths_and_tokenizer_are_in_the_fingerprint(byte_tokenizer, minilm):
    settings = [(byte_tokenizer, 8, 8), (byte_tokenizer, 9, 8), (byte_tokenizer, 8, 9), (minilm, 8, 8)]
    assert len({datasets.SequenceToSequenceEncoder(*s).fingerprint for s in settings}) == 4


def test_records_of_a_split_come_with_their_clients(tmp_path, byte_tokenizer):
    """The very records that `load` encodes, with the clients it gives them to."""
    lines = [f"text {n},{'even' if n % 2 else 'odd'} {n}" for n in range(40)]
    (tmp_path / "x.csv").write_text("\n".join(["text,target", *lines]) + "\n")
    spec = datasets.DataSpec(
        "file", files=(f"{tmp_path}/x.csv",), num_clients=5, test_fraction=12, cache_dir=str(tmp_path)
    )
    data = datasets.load(spec, datasets.SequenceToSequenceEncoder(byte_tokenizer, 30, 30), progress=False)
    for split, number in (("train", 28), ("test", 12)):
        found = pd.concat(datasets.dealt_records(spec, split, "text", "target"))
        assert len(found) == number
        stored = {
            (client, byte_tokenizer.decode(example["labels"], skip_special_tokens=True))
            for client in getattr(data, split).client_ids
            for example in getattr(data, split).create_tf_dataset_for_client(client).as_numpy_iterator()
        }
        assert stored == set(zip(found["client"], found["target"]))
    assert list(datasets.dealt_records(spec, "validation", "text")) == []
