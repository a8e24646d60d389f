"""The flags of compression and `programs.contribution`: what they build, what they refuse, and whole runs."""

import json
import re

import pandas as pd
import pytest
import tensorflow_federated as tff
from absl import flags
from absl.testing import flagsaver
from PIL import Image

from programs import aggregation_flags, async_flags, compression_flags, training_flags
from tests.processes import run
from tff_tx.aggregators import compression
from tff_tx.core.errors import UserError

TINY_VIT = (
    '--model_config={"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}'
)
DIGITS = [
    *("--dataset=digits", "--num_clients=6", "--clients_per_round=3", "--local_steps=2", "--rounds=3"),
    *("--rounds_per_evaluation=0", TINY_VIT),
]


@pytest.fixture
def parse():
    """Parses a command line, for the length of a test."""
    if "seed" not in flags.FLAGS:
        flags.DEFINE_integer("seed", 1, "As the programs have it.")
    with flagsaver.flagsaver():
        yield lambda *line: flags.FLAGS(["program", *line])


def test_defaults_compress_nothing(parse):
    parse()
    compression_flags.check()
    assert compression_flags.aggregator(True, 1) is None
    assert compression_flags.distributor_fn(1) is None
    assert compression_flags.residual_bytes(1000, 10, 5, 10) == 0


@pytest.mark.parametrize("name", [n for n in compression.COMPRESSORS if n not in ("top_k", "random_k", "low_rank")])
def test_quantizers_make_a_mean_of_codes(parse, name):
    parse(f"--compression={name}")
    compression_flags.check()
    assert isinstance(compression_flags.aggregator(True, 1), tff.aggregators.MeanFactory)
    assert isinstance(compression_flags.aggregator(False, 1), tff.aggregators.UnweightedMeanFactory)


def test_biased_ones_have_error_feedback_unless_told_otherwise(parse):
    parse("--compression=top_k", "--rounds=2")
    compression_flags.check()
    assert compression_flags.aggregator(True, 1) is None
    assert compression_flags.residual_bytes(1000, 516, 5, 10) == 1000 * (10 + 55)
    parse("--compression=top_k", "--noerror_feedback")
    compression_flags.check()
    assert compression_flags.aggregator(True, 1) is not None


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["--compression_fraction=0.1"], "--compression_fraction=0.1 belongs to --compression=top_k or random_k"),
        (["--compression=eden1", "--compression_rank=3"], "--compression_rank=3 belongs to --compression=low_rank"),
        (["--compression=top_k", "--compression_fraction=0"], "would send nothing"),
        (["--error_feedback"], "--error_feedback has nothing to feed back"),
        (["--compression=top_k", "--engine=tff_native"], "error feedback (--compression=top_k has it; "),
        (["--compression=top_k", "--aggregator=median"], "error feedback (--compression=top_k has it; "),
        (["--compression=uniform2", "--error_feedback", "--algorithm=mime_lite"], "--error_feedback means nothing to"),
    ],
)
def test_what_means_nothing_is_refused(parse, line, sentence):
    parse(*line)
    with pytest.raises(UserError, match=re.escape(sentence)):
        compression_flags.check()


@pytest.mark.parametrize("flag", ["--compression=eden1", "--download_compression=uniform8"])
def test_fed_buff_is_refused(parse, flag):
    parse("--buffer_size=2", "--seconds_per_example=1", flag)
    with pytest.raises(UserError, match=f"{flag} and --buffer_size=2 do not go together"):
        async_flags.check()


def test_they_reach_the_options(parse):
    parse("--compression=rotated4", "--download_compression=uniform8")
    options = training_flags.options(1, **aggregation_flags.options(1))
    assert isinstance(options.aggregator, tff.aggregators.MeanFactory)
    assert options.distributor_fn is not None


@pytest.fixture(scope="module")
def compressed_run(place, cache):
    compressed = ["--compression=top_k", "--download_compression=uniform4", "--keep_updates"]
    out, _ = run("train", *DIGITS, *compressed, "--run_dir=compressed", cache, cwd=place)
    return place / "compressed", out


def test_a_run_reports_the_bytes_it_made(compressed_run):
    directory, out = compressed_run
    table = pd.read_csv(directory / "metrics.csv")
    parameters = json.loads((directory / "config.json").read_text())["parameters"]["trainable"]
    assert (table["comm/upload_bytes_per_client"] < parameters * 4 / 15).all()
    # Each of the clients is new in the first round, and downloads the model.
    downloads = table["comm/download_bytes_per_client"]
    assert downloads[0] == parameters * 4
    assert (downloads <= parameters * 4).all()
    assert downloads.min() < parameters * 4
    assert (table["comm/delta_bytes"] < parameters).all()
    assert (directory / "residuals").is_dir()
    assert re.search(r"--keep_updates stores up to \d+ MB in compressed/updates", out)


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


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ([], "--run_dir is not set"),
        (["--run_dir=nowhere"], "has no config.json"),
        (["--run_dir=compressed", "--first_round=9"], "--first_round=9 and --last_round=None leave none of the 3"),
        (["--run_dir=compressed", "--metric=f1"], "--metric=f1 is none of this task's: loss"),
        (["--run_dir=compressed", "--method=exact", "--tolerance=0.1"], "--tolerance=0.1 is about sampling"),
    ],
)
def test_contributions_mistakes_end_with_a_sentence(compressed_run, place, cache, line, sentence):
    _, err = run("contribution", *line, cache, cwd=place, code=2)
    assert sentence in err
    assert "Traceback" not in err


def test_updates_need_the_local_engine(place, cache):
    _, err = run("train", *DIGITS, "--keep_updates", "--engine=tff_native", "--run_dir=x", cache, cwd=place, code=2)
    assert "--keep_updates needs synchronous rounds on --engine=local, and --engine=tff_native" in err
    assert not (place / "x").exists()
