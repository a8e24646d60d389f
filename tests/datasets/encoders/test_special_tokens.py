"""Special tokens that are spelled in data are text; those that are put there are tokens."""

import json
import string

import numpy as np
import pandas as pd
import pytest
import transformers

from tff_tx import datasets, inference, models, tasks
from tff_tx.analysis import vocabulary

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MOST = 400


def directory_of(kind, path):
    """A tokenizer of words in BERT's way, of byte pairs, or of BERT's way in Python."""
    if kind == "python":
        pieces = [*string.printable.split()[0], *"[]"]
        (path / "vocab.txt").write_text("\n".join([*SPECIAL, *pieces, *(f"##{piece}" for piece in pieces)]))
        settings = {"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "basic", "do_lower_case": False}
        (path / "tokenizer_config.json").write_text(json.dumps(settings))
    else:
        vocabulary.build_tokenizer(kind, {"old": 3, "text": 2}, 500, False).save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module", params=["bytes", "wordpiece", "bpe", "python"])
def tokenizer(request, tmp_path_factory):
    where = tmp_path_factory.mktemp("tokenizer")
    return tasks.task_kind("masked_lm").load_tokenizer(
        tasks.ModelSpec(tokenizer="bytes" if request.param == "bytes" else directory_of(request.param, where))
    )


@pytest.fixture
def spelled(tokenizer):
    """A text with all special tokens in it."""
    return " ".join(f"{token}old{token} text" for token in tokenizer.all_special_tokens)


def special_ids(tokenizer, ids):
    return [tokenizer.convert_ids_to_tokens(int(i)) for i in ids if i in tokenizer.all_special_ids]


def encoded(encoder, **columns):
    rows = pd.DataFrame({name: [value] for name, value in columns.items()})
    return encoder.encode(rows.assign(where="x.csv, line 2"))


def test_texts(tokenizer, spelled):
    around = special_ids(tokenizer, tokenizer("old")["input_ids"])
    for join, columns in (
        (None, {"text": spelled}),
        ("pair", {"texts": [spelled, spelled]}),
        ("separator", {"texts": [spelled, "old", spelled]}),
    ):
        encoder = datasets.SequenceClassificationEncoder(tokenizer, ["a"], MOST * 3, join)
        (example,) = encoded(encoder, label="a", **columns)
        found = special_ids(tokenizer, example["input_ids"])
        if join is None:
            assert found == around
        if join == "pair":
            assert found == special_ids(tokenizer, tokenizer("old", "old")["input_ids"])
        if join == "separator":
            between = [tokenizer.sep_token or tokenizer.eos_token] * 2
            assert found == (around[:1] + between + around[1:] if len(around) > 1 else between + around)


def test_what_is_not_spelled_is_joined_in_the_tokenizers_own_way(tokenizer):
    encoder = datasets.SequenceClassificationEncoder(tokenizer, ["a"], 64, "separator")
    (example,) = encoded(encoder, texts=["old", "text", "old"], label="a")
    token = tokenizer.sep_token or tokenizer.eos_token
    expected = tokenizer(f"old {token} text {token} old", split_special_tokens=False)["input_ids"]
    assert example["input_ids"].tolist() == expected


def test_words_running_text_and_targets(tokenizer, spelled):
    around = special_ids(tokenizer, tokenizer("old")["input_ids"])
    if not isinstance(tokenizer, transformers.GPT2TokenizerFast | transformers.RobertaTokenizerFast):
        (example,) = encoded(
            datasets.TokenClassificationEncoder(tokenizer, ["O"], MOST),
            tokens=spelled.split(),
            tags=["O"] * len(spelled.split()),
        )
        assert special_ids(tokenizer, example["input_ids"]) == around
    encoder = datasets.SequenceToSequenceEncoder(tokenizer, MOST, MOST)
    (example,), (bare,) = (encoded(encoder, text=text, target=text) for text in (spelled, "old"))
    for name in ("input_ids", "labels"):
        assert special_ids(tokenizer, example[name]) == special_ids(tokenizer, bare[name])
    stream = datasets.LanguageModelingEncoder(tokenizer, 2 * MOST, masked=True)
    (ids,) = stream._encode_rows(pd.DataFrame({"text": [spelled]}))
    assert special_ids(tokenizer, ids) == []


def test_a_question_and_its_context(tokenizer, spelled):
    if not (tokenizer.is_fast and tokenizer.cls_token):
        pytest.skip("answers need a fast tokenizer with [CLS].")
    encoder = datasets.QuestionAnsweringEncoder(tokenizer, MOST, 4)
    (example,) = encoded(encoder, question=spelled, context=spelled, answers=[("old", spelled.index("old"))])
    assert special_ids(tokenizer, example["input_ids"]) == special_ids(tokenizer, tokenizer("a", "a")["input_ids"])
    assert example["starts"].max() == example["ends"].max() == 1


def test_masks_of_a_prompt_are_masks_and_all_else_is_text(tokenizer, spelled):
    size = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    model = models.from_config("TFAutoModelForMaskedLM", "bert", {**size, "vocab_size": len(tokenizer)})
    seen = []
    model_call = model.call
    model.call = lambda inputs, **how: (seen.append(inputs["input_ids"].numpy()), model_call(inputs, **how))[1]
    prompt = spelled.replace(tokenizer.mask_token, "") + tokenizer.mask_token + " old"
    spec = tasks.ModelSpec(max_length=MOST)
    predictor = inference.build_predictor("masked_lm", model, spec, tokenizer=tokenizer, top_k=2)
    (found,) = predictor.predict([prompt])
    assert len(found["fillings"]) == 1
    around = special_ids(tokenizer, tokenizer("old")["input_ids"])
    mask = tokenizer.mask_token
    assert special_ids(tokenizer, np.squeeze(seen[0])) == (around[:-1] + [mask] + around[-1:])


def test_it_is_not_saved(tokenizer, tmp_path):
    """Other programs read a model's tokenizer as transformers does by default."""
    tokenizer.save_pretrained(tmp_path)
    assert not transformers.AutoTokenizer.from_pretrained(tmp_path).split_special_tokens
