"""A recommender from training to prediction, as users run it."""

import json

import numpy as np
import pytest

from tests.complaints import complaint
from tests.processes import run

TINY = (
    '--model_config={"hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 16, "hidden_dropout_prob": 0.1, '
    '"attention_probs_dropout_prob": 0.1}'
)
ITEMS = 40
TRAINING = [
    *("--rounds=12", "--clients_per_round=20", "--batch_size=1", "--client_optimizer=sgd", "--noweighted"),
    *("--client_learning_rate=1", "--server_optimizer=adam", "--server_learning_rate=0.05"),
    "--rounds_per_evaluation=0",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Users who go around a circle of items, each from a place of its own: the next item follows from the last."""
    directory, rng = tmp_path_factory.mktemp("place"), np.random.default_rng(0)
    starts = rng.integers(0, ITEMS, 60)
    lines = [f"u{user},i{(start + t) % ITEMS:02d}" for user, start in enumerate(starts) for t in range(10)]
    (directory / "log.csv").write_text("\n".join(["user,item", *lines]) + "\n")
    return directory


@pytest.fixture(scope="module")
def flags(cache_dir):
    return [
        *("--dataset=file", "--data=log.csv", "--task=next_item", "--architecture=sasrec", TINY, "--max_length=8"),
        *("--client_column=user", "--label_column=item", "--split=time", f"--cache_dir={cache_dir}"),
        *("--validation_fraction=1", "--test_fraction=1"),
    ]


@pytest.mark.slow
def test_it_learns_what_follows(trained):
    results = json.loads((trained / "results.json").read_text())
    assert set(results) == {"validation", "test"}
    assert results["test"]["hr_at_10"] > 0.6  # 0.1 by chance
    assert results["test"]["num_examples"] == 60


@pytest.mark.slow
def test_evaluate_asks_for_the_same_items_again(trained, place, flags):
    run("evaluate", "--run_dir=run", flags[-3], cwd=place)
    found = json.loads((trained / "evaluation" / "test.json").read_text())["overall"]
    assert found == pytest.approx(json.loads((trained / "results.json").read_text())["test"], rel=1e-4)


@pytest.mark.slow
def test_predict_recommends_what_the_history_does_not_have(trained, place):
    (place / "new.csv").write_text("user,item\nz,i03\nz,i04\nz,i05\ny,i20\n")
    out, _ = run("predict", "--run_dir=run", "--data=new.csv", "--top_k=40", cwd=place)
    found = {line["client"]: line["items"] for line in map(json.loads, out.splitlines())}
    assert len(found["z"]) == ITEMS - 3
    assert not {"i03", "i04", "i05"} & set(found["z"])
    assert len(found["y"]) == ITEMS - 1
    assert list(found["z"].values()) == sorted(found["z"].values(), reverse=True)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--split=example"], "--split=example takes records from between others"),
        (['--model_config={"max_position_embeddings": 4}'], "--max_length=8 is more than the 4 positions of the model"),
        (["--label_column=nothing"], "there is no column 'nothing'"),
        (["--attack=label_flip"], "--attack=label_flip cannot be combined with --task=next_item"),
    ],
)
def test_mistakes(place, flags, more, told, monkeypatch):
    monkeypatch.chdir(place)
    assert told in complaint(*flags, *more, "--clients_per_round=2", "--run_dir=refused", loads=True)
    assert not (place / "refused").exists()
