"""`programs.privacy` as a user runs it."""

import os
import subprocess
import sys

import pytest

from programs import privacy
from tests.privacy.calculations import found, table
from tests.processes import ROOT, run
from tff_tx.config import FIELDS
from tff_tx.privacy import Gaussian, Participation, TreeAggregation, default_delta, epsilon

POISSON = ("--sampling=poisson", "--population=1000", "--clients_per_round=20", "--rounds=50")


@pytest.mark.slow
def test_epsilon_from_noise_with_a_plot(tmp_path):
    out, err = run("privacy", *POISSON, "--noise_multiplier=0.8", "--plot=x.png", cwd=tmp_path, forked=False)
    mechanism, delta = Gaussian(0.8, "poisson", 20, 1000), default_delta(1000)
    assert float(found(r"^Epsilon (\S+)", out)) == pytest.approx(epsilon(mechanism, 50, delta), rel=1e-3)
    by_rounds = table("rounds", out)
    assert list(by_rounds)[0] == 1
    assert list(by_rounds)[-1] == 50
    for rounds, value in by_rounds.items():
        assert value == pytest.approx(epsilon(mechanism, int(rounds), delta), rel=1e-3)
    by_noise = table("noise multiplier", out)
    assert by_noise[0.8] == pytest.approx(by_rounds[50])
    assert by_noise[1.6] == pytest.approx(epsilon(mechanism.with_noise(1.6), 50, delta), rel=1e-3)
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert err == ""


@pytest.mark.slow
def test_noise_from_epsilon_and_its_price(tmp_path):
    flags = ("--target_epsilon=2", "--target_delta=1e-6", "--parameters=10000", "--stop_at_epsilon=1.5")
    out, _ = run("privacy", *POISSON, *flags, cwd=tmp_path, forked=False)
    noise = float(found(r"noise multiplier (\S+)\.\n", out))
    mechanism = Gaussian(noise, "poisson", 20, 1000)
    assert epsilon(mechanism, 50, 1e-6) == pytest.approx(2, rel=5e-3)
    stop = int(found(r"Stops after (\d+) of 50 rounds", out))
    assert epsilon(mechanism, stop, 1e-6) <= 1.5 < epsilon(mechanism, stop + 1, 1e-6)
    ratio = 20 * 50 / (noise * 50**0.5 * 100)
    assert float(found(r"Signal to noise: (\S+) over", out)) == pytest.approx(ratio, rel=0.01)


@pytest.mark.parametrize(
    ("mechanism", "flags", "expected"),
    [
        ("gaussian", ["--sampling=uniform"], Gaussian(9.0, "without_replacement", 20, 1000)),
        ("gaussian", ["--sampling=uniform", "--amplification=none"], Gaussian(9.0)),
        ("adaptive", ["--sampling=poisson"], Gaussian(9.0, "poisson", 20, 1000)),
        # As far apart as 1,000 clients allow.
        ("tree", ["--sampling=min_separation"], TreeAggregation(9.0, None, Participation(50))),
        ("tree", ["--sampling=min_separation", "--min_separation=10"], TreeAggregation(9.0, None, Participation(10))),
        ("tree", ["--restart_rounds=8", "--max_participations=3"], TreeAggregation(9.0, 8, Participation(1, 3))),
        # Banded with a turn every 10 rounds is one Gaussian of as many turns.
        (
            "banded",
            ["--sampling=min_separation", "--min_separation=10"],
            Gaussian(9.0, participation=Participation(10)),
        ),
    ],
)
def test_mechanisms(tmp_path, mechanism, flags, expected):
    common = ["--population=1000", "--clients_per_round=20", "--rounds=40", "--noise_multiplier=9"]
    out, _ = run("privacy", f"--dp_mechanism={mechanism}", *common, *flags, cwd=tmp_path)
    assert float(found(r"^Epsilon (\S+)", out)) == pytest.approx(epsilon(expected, 40, default_delta(1000)), rel=1e-3)
    assert f"Adjacency: {expected.adjacency}." in out


@pytest.mark.parametrize(
    ("mechanism", "flags", "sentence"),
    [
        ("local", ["--noise_multiplier=8", "--target_delta=1e-6"], "(local)"),
        ("example", ["--noise_multiplier=1", "--num_examples=100", "--local_steps=4"], "100 examples are dealt out"),
    ],
)
def test_privacy_inside_of_clients(tmp_path, mechanism, flags, sentence):
    out, _ = run("privacy", f"--dp_mechanism={mechanism}", "--rounds=5", *flags, cwd=tmp_path)
    assert sentence in out


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ([], "--noise_multiplier=None and --target_epsilon=None: set exactly one"),
        (
            ["--noise_multiplier=1", "--target_epsilon=1"],
            "--noise_multiplier=1.0 and --target_epsilon=1.0: set exactly",
        ),
        (["--noise_multiplier=-1"], "--noise_multiplier=-1.0: must be at least 0"),
        (["--noise_multiplier=1"], "--population=None: must be above 0 for"),
        (
            ["--noise_multiplier=1", "--amplification=poisson", "--population=9"],
            "does not hold with --sampling=uniform",
        ),
        (
            ["--noise_multiplier=1", "--accountant=pld", "--population=9"],
            "--accountant=pld does not cover sampling without replacement",
        ),
        (["--noise_multiplier=1", "--population=4"], "--clients_per_round=5 is more than --population=4"),
        (["--noise_multiplier=1", "--population=99", "--target_delta=0.1"], "--target_delta=0.1 is more than one over"),
        (["--noise_multiplier=1", "--bands=4"], "--bands=4 has no effect with --dp_mechanism=gaussian"),
        (["--noise_multiplier=1", "--min_separation=4"], "--min_separation=4 has no effect with --sampling=uniform"),
        (["--noise_multiplier=1", "--sampling=min_separation"], "--min_separation is not set, and its default depends"),
        (
            [
                "--noise_multiplier=1",
                "--dp_mechanism=banded",
                "--bands=4",
                "--sampling=min_separation",
                "--population=9",
            ],
            "--bands=4 is more than the 1 rounds from a client's turn to its next",
        ),
        (["--noise_multiplier=1", "--dp_mechanism=tree"], "--target_delta is not set, and its default depends on"),
        (["--noise_multiplier=1", "--dp_mechanism=example"], "--dp_mechanism=example needs --num_examples"),
        (["--noise_multiplier=1", "--population=99", "--plot=x.doc"], "--plot=x.doc: must end with .png, .pdf, .svg"),
        (["--noise_multiplier=1", "--population=99", "--plot=no/x.png"], "--plot=no/x.png: cannot write to"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(tmp_path, flags, sentence):
    out, err = run("privacy", *flags, cwd=tmp_path, code=2)
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("Error: ")
    assert sentence in line
    assert os.listdir(tmp_path) == []


def test_it_starts_without_tensorflow():
    code = "import sys, programs.privacy; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_flags_mean_what_they_mean_to_train():
    shared = [field for field in privacy.PROGRAM.fields.values() if field.path in FIELDS]
    assert len(shared) > 10
    assert all(FIELDS[field.path] == field for field in shared)
