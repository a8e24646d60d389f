"""A table from training to prediction, as users run it."""

import json

import numpy as np
import pandas as pd
import pytest

from tests.complaints import complaint
from tests.processes import run

TINY = '--model_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}'
TRAINING = [
    *("--rounds=25", "--clients_per_round=3", "--local_epochs=2", "--client_learning_rate=0.02"),
    "--rounds_per_evaluation=0",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Rows of three hospitals whose label follows from a large number, and from the ward where that is small."""
    directory, rng = tmp_path_factory.mktemp("place"), np.random.default_rng(0)
    dose, ward = rng.normal(1000, 300, 300), rng.choice(["a", "b"], 300)
    label = np.where(np.abs(dose - 1000) < 200, ward == "a", dose > 1000)
    table = pd.DataFrame({"site": np.arange(300) % 3, "dose": dose, "ward": ward, "sick": np.where(label, "yes", "no")})
    table.to_csv(directory / "rows.csv", index=False)
    return directory


@pytest.fixture(scope="module")
def flags(cache_dir):
    return [
        *("--dataset=file", "--data=rows.csv", "--task=tabular_classification", "--architecture=ft_transformer", TINY),
        *("--client_column=site", "--label_column=sick", "--numeric_columns=dose", "--categorical_columns=ward"),
        *("--split=within_client", "--test_fraction=0.2", f"--cache_dir={cache_dir}"),
    ]


@pytest.mark.slow
def test_it_learns_from_numbers_and_categories(trained):
    results = json.loads((trained / "results.json").read_text())["test"]
    assert results["accuracy"] > 0.85
    assert results["num_examples"] == 60


@pytest.mark.slow
def test_the_model_keeps_the_federations_statistics(trained, place):
    """Near those of the whole table, of which four fifths are for training."""
    config = json.loads((trained / "model" / "config.json").read_text())
    dose = pd.read_csv(place / "rows.csv")["dose"]
    assert config["means"][0] == pytest.approx(dose.mean(), abs=30)
    assert config["deviations"][0] == pytest.approx(dose.std(), rel=0.1)
    assert config["categories"] == [["a", "b"]]


@pytest.mark.slow
def test_evaluate_gives_a_runs_own_results(trained, place, flags):
    run("evaluate", "--run_dir=run", flags[-1], cwd=place)
    found = json.loads((trained / "evaluation" / "test.json").read_text())["overall"]
    results = json.loads((trained / "results.json").read_text())["test"]
    assert {name: found[name] for name in results} == pytest.approx(results, rel=1e-4)


@pytest.mark.slow
def test_predict_tells_the_class_of_rows_without_one(trained, place):
    (place / "new.csv").write_text("ward,dose\na,2000\nb,100\nzzz,2000\n")
    out, _ = run("predict", "--run_dir=run", "--data=new.csv", cwd=place)
    found = [json.loads(line) for line in out.splitlines()]
    assert [row["label"] for row in found] == ["yes", "no", "yes"]
    assert sum(found[0]["probabilities"].values()) == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
def test_evaluating_on_other_columns_is_refused(trained, place, flags):
    more = ["--model=run/model", "--numeric_columns=dose", "--categorical_columns=site"]
    _, err = run(
        "evaluate", *(flag for flag in flags if "model" not in flag and "ft_" not in flag), *more, cwd=place, code=2
    )
    assert "--categorical_columns=site are not what the model in run/model was trained on: give dose and ward" in err


@pytest.mark.slow
def test_the_embedded_table_needs_no_flags(place, cache_dir):
    out, _ = run(
        "train",
        *("--dataset=breast_cancer", "--num_clients=4", "--clients_per_round=2", "--rounds=2", "--run_dir=cancer"),
        *("--rounds_per_evaluation=0", f"--cache_dir={cache_dir}"),
        cwd=place,
    )
    assert "tabular_classification on breast_cancer: 4 train" in out


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--numeric_columns=", "--categorical_columns="], "--numeric_columns and --categorical_columns are empty"),
        (["--numeric_columns=ward", "--categorical_columns="], "the column 'ward' has 'a', which is no finite number"),
        (
            ["--local_dp_clip_norm=1", "--local_dp_noise_multiplier=1", "--noweighted"],
            "name all labels with --label_names",
        ),
    ],
)
def test_mistakes(place, flags, more, told, monkeypatch):
    monkeypatch.chdir(place)
    assert told in complaint(*flags, *more, "--run_dir=refused", loads=True)
    assert not (place / "refused").exists()
