"""Questions answered from texts, from training to prediction, as users run it."""

import json

import numpy as np
import pandas as pd
import pytest
import transformers

from tests import tiny
from tests.complaints import complaint
from tests.processes import run

TINY = (
    '--model_config={"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, '
    '"max_position_embeddings": 32, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}'
)
NAMES = ["ann", "bob", "eve", "joe", "kim", "lea"]
PLACES = ["home", "town", "work"]


def record(rng, number):
    """Where somebody is, and a question that every sixth time the text does not answer."""
    (name, other), place = rng.choice(NAMES, 2, replace=False), rng.choice(PLACES)
    context = f"{other} sleeps and {name} is at {place} now"
    if number % 6 == 5:
        return {"id": str(number), "question": "what is eaten", "answers": [], "is_impossible": True}, context
    question, answer = [("who sleeps", other), ("who is there", name), ("where", f"at {place}")][number % 3]
    return {
        "id": str(number),
        "question": question,
        "answers": [{"text": answer, "answer_start": context.index(answer)}],
        "is_impossible": False,
    }, context


TRAINING = [
    *("--rounds=30", "--clients_per_round=3", "--local_epochs=2", "--batch_size=8", "--client_optimizer=adam"),
    *("--client_learning_rate=0.005", "--rounds_per_evaluation=20"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Articles in SQuAD's form, each a client."""
    directory, rng = tmp_path_factory.mktemp("place"), np.random.default_rng(0)
    articles = []
    for title in range(6):
        pairs = [record(rng, number) for number in range(48)]
        paragraphs = [{"context": context, "qas": [question]} for question, context in pairs]
        articles.append({"title": f"article {title}", "paragraphs": paragraphs})
    (directory / "train.json").write_text(json.dumps({"version": "v2.0", "data": articles}))
    words = [*NAMES, *PLACES, *["who", "sleeps", "and", "is", "at", "now", "there", "where", "what", "eaten"]]
    tiny.words_tokenizer(words).save_pretrained(directory / "words")
    return directory


@pytest.fixture(scope="module")
def flags(cache_dir):
    return [
        *("--dataset=file", "--data=train.json", "--data_format=squad", "--task=question_answering"),
        *("--architecture=bert", TINY, "--tokenizer=words", "--client_column=title", "--max_length=24"),
        *("--context_overlap=4", "--max_answer_length=4", "--split=within_client", "--test_fraction=6"),
        f"--cache_dir={cache_dir}",
    ]


@pytest.mark.slow
def test_it_learns_where_answers_are(trained):
    results = json.loads((trained / "results.json").read_text())["test"]
    assert results["exact_match"] > 0.8
    assert results["f1"] >= results["exact_match"]
    assert results["num_examples"] == 36
    assert {"eval/exact_match", "eval/f1", "train/exact_match"} <= set(pd.read_csv(trained / "metrics.csv"))


@pytest.mark.slow
def test_evaluate_adds_scores_of_words(trained, place, flags):
    out, _ = run("evaluate", "--run_dir=run", flags[-1], cwd=place)
    found = json.loads((trained / "evaluation" / "test.json").read_text())
    results = json.loads((trained / "results.json").read_text())["test"]
    assert {k: found["overall"][k] for k in results} == pytest.approx(results, rel=1e-4)
    # A window is a whole context here, and a token a word.
    assert found["overall"]["text_exact_match"] == pytest.approx(results["exact_match"])
    assert found["overall"]["text_f1"] >= found["overall"]["text_exact_match"]
    assert "text_f1" in found["over_clients"]
    assert "text_exact_match" in out


@pytest.mark.slow
def test_predict_answers(trained, place):
    context = "joe sleeps and lea is at work now"
    out, _ = run("predict", "--run_dir=run", "--question=where", f"--text={context}", cwd=place)
    found = json.loads(out)
    assert (found["answer"], found["start"]) == ("at work", context.index("at work"))
    assert found["score"] > 0
    row = {"id": "1", "question": "what is eaten", "answers": []}
    file = {
        "data": [{"title": "new", "paragraphs": [{"context": context, "qas": [row, {**row, "question": "where"}]}]}]
    }
    (place / "new.json").write_text(json.dumps(file))
    out, _ = run("predict", "--run_dir=run", "--data=new.json", cwd=place)
    found = [json.loads(line) for line in out.splitlines()]
    assert [row["question"] for row in found] == ["what is eaten", "where"]
    assert (found[0]["answer"], found[0]["start"]) == ("", -1)
    assert found[1]["answer"] == "at work"


@pytest.mark.slow
def test_the_model_opens_as_any_other(trained):
    model = transformers.TFAutoModelForQuestionAnswering.from_pretrained(trained / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained / "model")
    encoded = tokenizer("where", "joe sleeps and lea is at work now", return_tensors="tf")
    output = model(encoded)
    start, end = (int(np.argmax(logits[0])) for logits in (output.start_logits, output.end_logits))
    assert tokenizer.decode(encoded["input_ids"][0, start : end + 1]) == "at work"


@pytest.mark.slow
def test_adapters_train_on_a_model_that_was_trained(trained, place, flags):
    there = [flag for flag in flags if flag not in (TINY, "--architecture=bert", "--tokenizer=words")]
    run(
        "train",
        *there,
        *("--pretrained=run/model", "--trainable=lora", "--lora_rank=2", "--rounds=1", "--clients_per_round=2"),
        *("--local_steps=1", "--client_learning_rate=0.0001", "--rounds_per_evaluation=0", "--run_dir=lora"),
        cwd=place,
    )
    before = json.loads((trained / "results.json").read_text())["test"]
    after = json.loads((place / "lora" / "results.json").read_text())["test"]
    assert after["exact_match"] == pytest.approx(before["exact_match"], abs=0.1)
    adapter = json.loads((place / "lora" / "adapter" / "adapter_config.json").read_text())
    assert adapter["task_type"] == "QUESTION_ANS"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--tokenizer=bytes"], "--tokenizer: ByT5Tokenizer does not tell where its tokens stand"),
        (["--context_overlap=11"], "--context_overlap=11 must be less than the 11 tokens"),
        (["--data_format=leaf"], "train.json: no LEAF file"),
        (["--distillation_weight=0.1"], "the predictions of question_answering are probabilities of places"),
        (["--architecture=t5"], "--architecture=t5: this --task has no TensorFlow model"),
    ],
)
def test_mistakes(place, flags, more, told, monkeypatch):
    monkeypatch.chdir(place)
    assert told in complaint(*flags, *more, "--run_dir=refused", loads=True)
    assert not (place / "refused").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked", [[], ["--question=where"], ["--text=joe"], ["--question=where", "--text=joe", "--data=new.json"]]
)
def test_predicting_needs_a_question_and_a_text(trained, place, asked):
    _, err = run("predict", "--run_dir=run", *asked, cwd=place, code=2)
    assert "the model answers questions: set --question and --text, or --data" in err


@pytest.mark.slow
def test_audits_of_places_are_refused(trained, place):
    _, err = run("audit", "--run_dir=run", cwd=place, code=2)
    assert "is a run of question_answering, whose predictions are no class probabilities" in err
