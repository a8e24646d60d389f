"""`programs.vocabulary` as a user runs it, and what it is for: pretraining and then another task, as two commands.

What is released, guaranteed and rejected, `tests/run/test_vocabulary` has.
"""

import json

import pytest
import transformers

from tests.processes import run
from tests.vocabularies import COMMON, write_clients

TINY_BERT = (
    '--model_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}'
)


@pytest.fixture
def place(tmp_path):
    """Where the file of the clients is."""
    write_clients(tmp_path / "x.csv")
    return tmp_path


@pytest.fixture
def data(cache_dir):
    """Where the clients are."""
    return ["--dataset=file", "--data=x.csv", "--client_column=client", "--test_fraction=2", f"--cache_dir={cache_dir}"]


def learn(place, data, *flags, **kwargs):
    small = ("--vocab_size=300", "--max_words_per_client=20", "--output=words")
    return run("vocabulary", *data, *small, *flags, cwd=place, **kwargs)


def record(place):
    return json.loads((place / "words" / "federated_vocabulary.json").read_text())


@pytest.mark.slow
def test_words_of_clients_become_a_tokenizer(place, data):
    out, err = learn(place, data, "--clients_per_cohort=7", forked=False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(place / "words")
    assert tokenizer.tokenize("the cat sat") == ["the", "cat", "sat"]
    assert f"18 clients; {len(tokenizer)} entries in words" in out
    assert "No privacy: counts are exact and not thresholded." in out
    assert "18/18" in err
    assert record(place)["privacy"] is None
    assert record(place)["words"] == len(set(COMMON.split())) + 18
    assert sorted(path.name for path in place.iterdir()) == ["words", "x.csv"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--output="], "--output"),
        (["--vocab_size=20"], "--vocab_size=20: must be at least 161"),
        (["--target_epsilon=1", "--population=3"], "--population=3 is fewer than the 18 training clients"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(place, data, flags, message):
    out, err = learn(place, data, *flags, code=2)
    assert out == ""
    assert err.count("\n") == 1
    assert message in err
    assert [path.name for path in place.iterdir()] == ["x.csv"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "model", "tokenizer"),
    [("masked_lm", ["--architecture=bert", TINY_BERT], "words"), ("causal_lm", ["--architecture=gpt2"], "bytes")],
)
def test_two_commands_pretrain_and_tune(place, data, task, model, tokenizer):
    """Also with a third between them that goes on with pretraining."""
    if task == "causal_lm":
        model = [*model, '--model_config={"n_embd": 8, "n_layer": 1, "n_head": 2}']
    else:
        learn(place, data)
    common = [*data, "--rounds=1", "--clients_per_round=2", "--max_length=16", "--rounds_per_evaluation=0"]
    run("train", *common, f"--task={task}", *model, f"--tokenizer={tokenizer}", "--run_dir=first", cwd=place)
    run("train", *common, f"--task={task}", "--pretrained=first/model", "--run_dir=more", cwd=place)
    classify = "--task=sequence_classification"
    run("train", *common, classify, "--pretrained=more/model", "--run_dir=classifier", cwd=place)
    assert 0 <= json.loads((place / "classifier" / "results.json").read_text())["test"]["accuracy"] <= 1
    tokens = [transformers.AutoTokenizer.from_pretrained(place / d / "model") for d in ("first", "more", "classifier")]
    assert len({str(t("the cat")["input_ids"]) for t in tokens}) == 1
    out, _ = run("predict", "--run_dir=classifier", "--text=the cat", cwd=place)
    assert json.loads(out)["label"] in "ab"
