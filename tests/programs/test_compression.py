"""Compressed runs with stored updates, and `programs.contribution`."""

import json
import re

import pandas as pd
import pytest
from PIL import Image

from tests.processes import run
from tff_tx.config.tools import ContributionConfig
from tff_tx.core.errors import UserError
from tff_tx.run import contribution

TINY_VIT = (
    '--model_config={"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}'
)
DIGITS = [
    *("--dataset=digits", "--num_clients=6", "--clients_per_round=3", "--local_steps=2", "--rounds=3"),
    *("--rounds_per_evaluation=0", TINY_VIT),
]


@pytest.fixture(scope="module")
def compressed_run(place, cache):
    compressed = ["--compression=top_k", "--download_compression=uniform4", "--keep_updates"]
    out, _ = run("train", *DIGITS, *compressed, "--run_dir=compressed", cache, cwd=place)
    return place / "compressed", out


@pytest.mark.slow
def test_a_run_reports_the_bytes_it_made(compressed_run):
    directory, out = compressed_run
    table = pd.read_csv(directory / "metrics.csv")
    parameters = json.loads((directory / "config.json").read_text())["facts"]["parameters"]["trainable"]
    assert (table["comm/upload_bytes_per_client"] < parameters * 4 / 15).all()
    # Each of the clients is new in the first round, and downloads the model.
    downloads = table["comm/download_bytes_per_client"]
    assert downloads[0] == parameters * 4
    assert (downloads <= parameters * 4).all()
    assert downloads.min() < parameters * 4
    assert (table["comm/delta_bytes"] < parameters).all()
    assert (directory / "residuals").is_dir()
    assert re.search(r"updates of clients: up to \d+ MB in \S*compressed/updates", out)


@pytest.mark.slow
def test_contribution_ranks_the_clients(compressed_run, place, cache):
    directory, _ = compressed_run
    flags_ = [f"--run_dir={directory}", "--method=exact", "--metric=accuracy", cache]
    out, _ = run("contribution", *flags_, cwd=place)
    result = json.loads((directory / "contribution" / "exact.json").read_text())
    values = [client["value"] for client in result["clients"].values()]
    assert sum(values) == pytest.approx(result["gain"], abs=1e-9)
    assert values == sorted(values, reverse=True)
    assert result["evaluations"] == 3 * 2**3
    assert Image.open(directory / "contribution" / "exact.png").width > 100
    assert "24 models evaluated" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"first_round": 9}, "first_round=9"),
        ({"metric": "f1"}, "metric=f1"),
        ({"method": "exact", "tolerance": 0.1}, "tolerance=0.1"),
    ],
)
def test_contributions_mistakes_are_sentences(compressed_run, values, sentence):
    directory = str(compressed_run[0])
    with pytest.raises(UserError) as caught:
        contribution.value_run(directory, ContributionConfig(run_dir=directory, **values))
    assert sentence in str(caught.value)


def test_contribution_needs_a_run(place):
    _, err = run("contribution", cwd=place, code=2)
    assert "--run_dir is not set" in err
    with pytest.raises(UserError, match="has no config.json"):
        contribution.value_run("nowhere", ContributionConfig(run_dir="nowhere"))
