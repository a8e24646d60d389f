"""A forecast from training to prediction, as users run it."""

import json

import numpy as np
import pandas as pd
import pytest

from tests.complaints import complaint
from tests.processes import run

TINY = '--model_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}'
TRAINING = [
    *("--rounds=25", "--clients_per_round=3", "--local_epochs=3", "--client_learning_rate=0.02"),
    "--rounds_per_evaluation=0",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Sine waves of different length and height, one a client."""
    directory = tmp_path_factory.mktemp("place")
    steps = np.arange(120)
    rows = [(f"s{i}", 50 + (i + 1) * np.sin(2 * np.pi * (steps + i) / (8 + i))) for i in range(3)]
    table = pd.concat([pd.DataFrame({"sensor": name, "speed": values}) for name, values in rows])
    table.to_csv(directory / "waves.csv", index=False)
    return directory


@pytest.fixture(scope="module")
def flags(cache_dir):
    return [
        *("--dataset=file", "--data=waves.csv", "--task=forecasting", "--architecture=patch_transformer", TINY),
        *("--client_column=sensor", "--numeric_columns=speed", "--split=time", "--test_fraction=0.25"),
        *("--horizons=1,3", f"--cache_dir={cache_dir}"),
    ]


@pytest.mark.slow
def test_it_learns_what_the_last_value_does_not_tell(trained):
    results = json.loads((trained / "results.json").read_text())["test"]
    assert results["mae_3"] < 0.5 * results["last_value_mae_3"]
    assert results["num_examples"] == 3 * (30 - 15 + 1)


@pytest.mark.slow
def test_evaluate_gives_a_runs_own_results(trained, place, flags):
    run("evaluate", "--run_dir=run", flags[-1], cwd=place)
    found = json.loads((trained / "evaluation" / "test.json").read_text())
    results = json.loads((trained / "results.json").read_text())["test"]
    assert found["overall"] == pytest.approx(results, rel=1e-4)
    spread = found["over_clients"]["rmse_1"]
    assert spread["worst"] >= spread["p90"] >= spread["best"]


@pytest.mark.slow
def test_predict_goes_on_from_the_end_of_each_series(trained, place):
    out, _ = run("predict", "--run_dir=run", "--data=waves.csv", cwd=place)
    found = [json.loads(line) for line in out.splitlines()]
    assert [(f["client"], f["column"], len(f["forecast"])) for f in found] == [(f"s{i}", "speed", 3) for i in range(3)]
    next_of_s0 = 50 + np.sin(2 * np.pi * (120 + np.arange(3)) / 8)
    np.testing.assert_allclose(found[0]["forecast"], next_of_s0, atol=0.6)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--horizons=x"], "--horizons=x: must be a list of whole numbers"),
        (["--horizons=0"], "--horizons=0: must be at least 1"),
        (["--numeric_columns="], "--task=forecasting needs --numeric_columns"),
        (['--model_config={"context_length": 9}'], "the windows have 12 past_values, the model has context_length=9"),
        (
            ["--architecture=bert"],
            "--architecture=bert: this --task has no TensorFlow model of that type; choose one of patch_transformer",
        ),
    ],
)
def test_mistakes(place, flags, more, told, monkeypatch):
    monkeypatch.chdir(place)
    assert told in complaint(*flags, *more, "--run_dir=refused", loads=True)
    assert not (place / "refused").exists()


@pytest.mark.slow
def test_an_audit_is_refused(trained, place, flags):
    _, err = run("audit", "--run_dir=run", flags[-1], cwd=place, code=2)
    assert "is a run of forecasting, whose predictions are no class probabilities" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--text=1 2 3"], "the model takes records: set --data to files"),
        (["--data=short.csv"], "the series s9 has 2 records, and the model looks at 12"),
    ],
)
def test_mistakes_of_predict(trained, place, more, told):
    (place / "short.csv").write_text("sensor,speed\ns9,1\ns9,2\n")
    _, err = run("predict", "--run_dir=run", *more, cwd=place, code=2)
    assert told in err
