"""`programs.privacy` as a user runs it; what it calculates and rejects, `tests/privacy/test_calculator` has."""

import os
import subprocess
import sys

import pytest

from programs import privacy
from tests.privacy.calculations import found, table
from tests.processes import ROOT, run
from tff_tx.config import FIELDS
from tff_tx.privacy import Gaussian, Participation, default_delta, epsilon

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


def test_flags_reach_the_calculator(tmp_path):
    """Banded with a turn every 10 rounds is one Gaussian of as many turns; of other mechanisms, `test_calculator`."""
    flags = ["--population=1000", "--clients_per_round=20", "--rounds=40", "--noise_multiplier=9"]
    flags += ["--dp_mechanism=banded", "--sampling=min_separation", "--min_separation=10"]
    out, _ = run("privacy", *flags, cwd=tmp_path)
    expected = epsilon(Gaussian(9.0, participation=Participation(10)), 40, default_delta(1000))
    assert float(found(r"^Epsilon (\S+)", out)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ([], "--noise_multiplier=None and --target_epsilon=None: set exactly one"),
        (["--noise_multiplier=-1"], "--noise_multiplier=-1.0: must be at least 0"),
        (["--noise_multiplier=1", "--bands=4"], "--bands=4 has no effect with --dp_mechanism=gaussian"),
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
