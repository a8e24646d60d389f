"""The privacy calculator: epsilon of a mechanism that no run has yet."""

import subprocess
import sys

import pytest

from tests.privacy.calculations import found, table
from tests.processes import ROOT
from tff_tx.config import RunConfig
from tff_tx.config.tools import PrivacyReportConfig
from tff_tx.core.errors import UserError
from tff_tx.privacy import Gaussian, Participation, TreeAggregation, default_delta, epsilon, report

SIZES = {"privacy.population": 1000, "cohort.clients_per_round": 20}
POISSON = {**SIZES, "cohort.sampling": "poisson", "run.rounds": 50}
NOISE = {"privacy.noise_multiplier": 1.0}


def calculate(values, **settings):
    return report(RunConfig.of(values), PrivacyReportConfig(**settings))


@pytest.mark.slow
def test_epsilon_from_noise_with_a_plot(tmp_path):
    result = calculate({**POISSON, "privacy.noise_multiplier": 0.8}, plot=str(tmp_path / "x.png"))
    text, mechanism, delta = result.text(), Gaussian(0.8, "poisson", 20, 1000), default_delta(1000)
    assert float(found(r"^Epsilon (\S+)", text)) == pytest.approx(epsilon(mechanism, 50, delta), rel=1e-3)
    by_rounds = table("rounds", text)
    assert list(by_rounds)[0] == 1
    assert list(by_rounds)[-1] == 50
    for rounds, value in by_rounds.items():
        assert value == pytest.approx(epsilon(mechanism, int(rounds), delta), rel=1e-3)
    by_noise = table("noise multiplier", text)
    assert by_noise[0.8] == pytest.approx(by_rounds[50])
    assert by_noise[1.6] == pytest.approx(epsilon(mechanism.with_noise(1.6), 50, delta), rel=1e-3)
    result.draw(str(tmp_path / "x.png"))
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_noise_from_epsilon_and_its_price():
    target = {"privacy.target_epsilon": 2.0, "privacy.target_delta": 1e-6, "privacy.stop_at_epsilon": 1.5}
    text = calculate({**POISSON, **target}, parameters=10_000).text()
    noise = float(found(r"noise multiplier (\S+)\.\n", text))
    mechanism = Gaussian(noise, "poisson", 20, 1000)
    assert epsilon(mechanism, 50, 1e-6) == pytest.approx(2, rel=5e-3)
    stop = int(found(r"Stops after (\d+) of 50 rounds", text))
    assert epsilon(mechanism, stop, 1e-6) <= 1.5 < epsilon(mechanism, stop + 1, 1e-6)
    ratio = 20 * 50 / (noise * 50**0.5 * 100)
    assert float(found(r"Signal to noise: (\S+) over", text)) == pytest.approx(ratio, rel=0.01)


@pytest.mark.parametrize(
    ("name", "values", "settings", "expected"),
    [
        ("gaussian", {}, {}, Gaussian(9.0, "without_replacement", 20, 1000)),
        ("gaussian", {"privacy.amplification": "none"}, {}, Gaussian(9.0)),
        ("adaptive", {"cohort.sampling": "poisson"}, {}, Gaussian(9.0, "poisson", 20, 1000)),
        # As far apart as 1,000 clients allow.
        ("tree", {"cohort.sampling": "min_separation"}, {}, TreeAggregation(9.0, None, Participation(50))),
        (
            "tree",
            {"cohort.sampling": "min_separation", "cohort.min_separation": 10},
            {},
            TreeAggregation(9.0, None, Participation(10)),
        ),
        (
            "tree",
            {"privacy.restart_rounds": 8},
            {"max_participations": 3},
            TreeAggregation(9.0, 8, Participation(1, 3)),
        ),
        # Banded with a turn every 10 rounds is one Gaussian of as many turns.
        (
            "banded",
            {"cohort.sampling": "min_separation", "cohort.min_separation": 10},
            {},
            Gaussian(9.0, participation=Participation(10)),
        ),
    ],
)
def test_mechanisms(name, values, settings, expected):
    common = {**SIZES, "run.rounds": 40, "privacy.noise_multiplier": 9.0}
    text = calculate({**common, **values}, mechanism=name, **settings).text()
    assert float(found(r"^Epsilon (\S+)", text)) == pytest.approx(epsilon(expected, 40, default_delta(1000)), rel=1e-3)
    assert f"Adjacency: {expected.adjacency}." in text


@pytest.mark.slow
def test_an_adaptive_clip_is_named():
    text = calculate({**POISSON, **NOISE, "run.rounds": 5}, mechanism="adaptive").text()
    assert "with adaptive clipping" in found("Mechanism: (.*)", text)


@pytest.mark.parametrize(
    ("values", "settings", "sentence"),
    [
        ({"privacy.noise_multiplier": 8.0, "privacy.target_delta": 1e-6}, {"mechanism": "local"}, "(local)"),
        (NOISE, {"mechanism": "example", "num_examples": 100, "local_steps": 4}, "100 examples are dealt out"),
    ],
)
def test_privacy_inside_of_clients(values, settings, sentence):
    assert sentence in calculate({**values, "run.rounds": 5}, **settings).text()


@pytest.mark.parametrize(
    ("values", "settings", "sentence"),
    [
        ({}, {}, "privacy.noise_multiplier=None and privacy.target_epsilon=None: set exactly one"),
        (
            {**NOISE, "privacy.target_epsilon": 1.0},
            {},
            "privacy.noise_multiplier=1.0 and privacy.target_epsilon=1.0: set exactly one",
        ),
        (NOISE, {}, "privacy.population=None: must be above 0 for amplification by sampling (without_replacement)"),
        (
            {**NOISE, "privacy.amplification": "poisson", "privacy.population": 9},
            {},
            "privacy.amplification=poisson does not hold with cohort.sampling=uniform",
        ),
        (
            {**NOISE, "privacy.accountant": "pld", "privacy.population": 9},
            {},
            "privacy.accountant=pld does not cover sampling without replacement",
        ),
        ({**NOISE, "privacy.population": 4}, {}, "cohort.clients_per_round=5 is more than privacy.population=4"),
        (
            {**NOISE, "privacy.population": 99, "privacy.target_delta": 0.1},
            {},
            "privacy.target_delta=0.1 is more than one over the 99 clients",
        ),
        (
            {**NOISE, "privacy.bands": 4},
            {},
            "privacy.bands=4 has no effect with calculator.mechanism=gaussian: remove it, or set "
            "calculator.mechanism=banded",
        ),
        (NOISE, {"num_examples": 4}, "calculator.num_examples=4 has no effect with calculator.mechanism=gaussian"),
        (
            {**NOISE, "cohort.min_separation": 4},
            {},
            "cohort.min_separation=4 has no effect with cohort.sampling=uniform",
        ),
        (
            {**NOISE, "cohort.sampling": "min_separation"},
            {},
            "cohort.min_separation is not set, and its default depends on privacy.population",
        ),
        (
            {**NOISE, "cohort.sampling": "min_separation", "cohort.min_separation": 3, "privacy.population": 9},
            {},
            "cohort.min_separation=3 times cohort.clients_per_round=5 is more than privacy.population=9",
        ),
        (
            {**NOISE, "privacy.bands": 4, "cohort.sampling": "min_separation", "privacy.population": 9},
            {"mechanism": "banded"},
            "privacy.bands=4 is more than the 1 rounds from a client's turn to its next",
        ),
        (NOISE, {"mechanism": "tree"}, "privacy.target_delta is not set, and its default depends on"),
        (
            {**NOISE, "cohort.sampling": "poisson", "privacy.amplification": "poisson"},
            {"mechanism": "tree"},
            "privacy.amplification=poisson has no effect with calculator.mechanism=tree",
        ),
        (
            {**NOISE, **SIZES},
            {"max_participations": 3},
            "calculator.max_participations=3 has no effect with privacy.amplification=without_replacement",
        ),
        (NOISE, {"mechanism": "example"}, "calculator.mechanism=example needs calculator.num_examples"),
        (NOISE, {"plot": "x.doc"}, "calculator.plot=x.doc: must end with .png, .pdf, .svg"),
        (NOISE, {"plot": "no/x.png"}, "calculator.plot=no/x.png: cannot write to"),
    ],
)
def test_a_mistake_is_one_sentence(values, settings, sentence):
    with pytest.raises(UserError) as error:
        calculate(values, **settings)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_it_needs_no_tensorflow():
    code = "import sys, tff_tx.privacy; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(("mechanism", "most"), [("tree", "100,000"), ("banded", "10,000")])
def test_rounds_whose_tables_no_memory_holds_are_a_sentence(mechanism, most):
    private = {"privacy.mechanism": mechanism, **NOISE, "cohort.sampling": "min_separation", "run.rounds": 2**31 - 1}
    with pytest.raises(UserError, match=rf"run\.rounds=2147483647 is more than the {most} that {mechanism} noise"):
        calculate({**SIZES, **private, "privacy.population": 10**9}, mechanism=mechanism)


@pytest.mark.parametrize("noise", [1e-308, 1e308])
def test_noise_at_the_ends_of_its_range_has_a_report(noise):
    text = calculate({**POISSON, "privacy.noise_multiplier": noise}).text()
    assert max(table("noise multiplier", text)) >= noise
