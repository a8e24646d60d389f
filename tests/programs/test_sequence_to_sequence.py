"""Texts made of texts, from training to prediction, as users run it."""

import json

import numpy as np
import pandas as pd
import pytest
import transformers

from tests import tiny
from tests.complaints import complaint
from tests.processes import run

TINY = '--model_config={"d_model": 32, "d_kv": 16, "d_ff": 32, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0}'
NAMES = ["ann", "bob", "eve", "joe", "kim", "lea"]
VERBS = ["sings", "runs", "reads"]
TRAINING = [
    *("--rounds=30", "--clients_per_round=3", "--local_epochs=2", "--batch_size=8", "--client_optimizer=adam"),
    *("--client_learning_rate=0.01", "--rounds_per_evaluation=20"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Sentences of three words, of which the first and the last are the target."""
    directory, rng = tmp_path_factory.mktemp("place"), np.random.default_rng(0)
    rows = [(n % 6, rng.choice(NAMES), rng.choice(["often", "never"]), rng.choice(VERBS)) for n in range(240)]
    lines = [f"{client},{name} {how} {verb},{name} {verb}" for client, name, how, verb in rows]
    (directory / "pairs.csv").write_text("\n".join(["who,long,short", *lines]) + "\n")
    tiny.words_tokenizer([*NAMES, *VERBS, "often", "never"]).save_pretrained(directory / "words")
    return directory


@pytest.fixture(scope="module")
def flags(cache_dir):
    return [
        *("--dataset=file", "--data=pairs.csv", "--task=sequence_to_sequence", "--architecture=t5", TINY),
        *("--text_column=long", "--target_column=short", "--client_column=who", "--tokenizer=words"),
        *("--max_length=8", "--max_target_length=6", "--split=within_client", "--test_fraction=8"),
        f"--cache_dir={cache_dir}",
    ]


@pytest.mark.slow
def test_it_learns_what_to_write(trained):
    results = json.loads((trained / "results.json").read_text())["test"]
    assert results["accuracy"] > 0.9
    assert results["num_examples"] == 48
    assert results["num_items"] == 3 * 48  # two words and the end
    table = pd.read_csv(trained / "metrics.csv")
    assert table["train/loss"].iloc[-1] < table["train/loss"].iloc[0] / 2
    assert table["eval/perplexity"].notna().sum() == 2


@pytest.mark.slow
def test_evaluate_adds_rouge_of_what_is_written(trained, place, flags):
    out, _ = run("evaluate", "--run_dir=run", flags[-1], cwd=place)
    found = json.loads((trained / "evaluation" / "test.json").read_text())
    results = json.loads((trained / "results.json").read_text())["test"]
    assert {k: found["overall"][k] for k in results} == pytest.approx(results, rel=1e-4)
    assert found["overall"]["rouge_1"] > 0.9
    assert {"rouge_1", "rouge_2", "rouge_l"} <= set(found["over_clients"])
    by_client = [figures["rouge_l"] for figures in found["clients"].values()]
    assert np.mean(by_client) == pytest.approx(found["overall"]["rouge_l"])  # clients are of one size
    assert "rouge_2" in out
    run("evaluate", "--run_dir=run", "--nowords", "--output_dir=plain", flags[-1], cwd=place)
    assert "rouge_1" not in json.loads((place / "plain" / "test.json").read_text())["overall"]


@pytest.mark.slow
def test_predict_writes(trained, place):
    (place / "new.txt").write_text("eve often reads\nkim never sings\n")
    out, _ = run("predict", "--run_dir=run", "--text=bob never runs", "--data=new.txt", cwd=place)
    found = [json.loads(line) for line in out.splitlines()]
    assert [row["text"] for row in found] == ["bob never runs", "eve often reads", "kim never sings"]
    assert sum(row["written"] == f"{row['text'].split()[0]} {row['text'].split()[2]}" for row in found) >= 2
    more, _ = run("predict", "--run_dir=run", "--text=bob never runs", "--num_beams=3", "--max_new_tokens=1", cwd=place)
    assert len(json.loads(more)["written"].split()) <= 1


@pytest.mark.slow
def test_the_model_opens_as_any_other(trained):
    model = transformers.TFAutoModelForSeq2SeqLM.from_pretrained(trained / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained / "model")
    ids = model.generate(
        **tokenizer("joe often sings", return_tensors="tf", return_token_type_ids=False), max_new_tokens=4
    )
    assert set(tokenizer.decode(ids[0], skip_special_tokens=True).split()) <= {*NAMES, *VERBS, "often", "never"}


@pytest.mark.slow
def test_adapters_train_on_a_model_that_was_trained(trained, place, flags):
    there = [flag for flag in flags if flag not in (TINY, "--architecture=t5", "--tokenizer=words")]
    run(
        "train",
        *there,
        *("--pretrained=run/model", "--trainable=lora", "--lora_rank=2", "--rounds=2", "--clients_per_round=2"),
        *("--rounds_per_evaluation=0", "--run_dir=lora"),
        cwd=place,
    )
    table = pd.read_csv(place / "lora" / "metrics.csv")
    assert np.isfinite(table["train/loss"]).all()
    adapter = json.loads((place / "lora" / "adapter" / "adapter_config.json").read_text())
    assert adapter["task_type"] == "SEQ_2_SEQ_LM"
    results = json.loads((place / "lora" / "results.json").read_text())["test"]
    assert results["accuracy"] > 0.9


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--target_column=title"], "there is no column 'title' (--target_column); the columns are 'who', 'long'"),
        (["--architecture=gpt2"], "--architecture=gpt2: this --task has no TensorFlow model"),
        (["--distillation_weight=0.1"], "the predictions of sequence_to_sequence are made with targets as inputs"),
        (
            [
                "--architecture=bart",
                '--model_config={"max_position_embeddings": 8, "d_model": 16, "decoder_layers": 1}',
                "--max_target_length=9",
            ],
            "--max_target_length=9 is more than the 8 positions of the model",
        ),
        (["--attack=label_flip"], "--attack=label_flip cannot be combined with --task=sequence_to_sequence"),
    ],
)
def test_mistakes(place, flags, more, told, monkeypatch):
    monkeypatch.chdir(place)
    assert told in complaint(*flags, *more, "--run_dir=refused", loads=True)
    assert not (place / "refused").exists()
