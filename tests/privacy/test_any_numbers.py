"""Numbers or one sentence for any noise, epsilon, delta, rounds and population that settings accept."""

import math
import random

import pytest

from tests.privacy.plans import plan
from tff_tx.config import RunConfig
from tff_tx.config.tools import PrivacyReportConfig
from tff_tx.core.errors import UserError
from tff_tx.privacy import Gaussian, epsilon, report

MECHANISMS = ("gaussian", "adaptive", "tree", "banded", "local", "example")
NOISES = (0.0, 1e-300, 1e-160, 1e-15, 1e15, 1e160, 1e300)
DELTAS = (5e-324, 1e-300, 0.5, 1 - 1e-16)


def drawn(rng):
    """Settings of the calculator, by path, and its own."""

    def number(low, high, extremes=()):
        return rng.choice(extremes) if extremes and rng.random() < 0.3 else 10 ** rng.uniform(low, high)

    mechanism = rng.choice(MECHANISMS)
    samplers = ("min_separation",) if mechanism in ("tree", "banded") else ("poisson", "poisson", "uniform")
    rounds = {"banded": 1.2, "tree": 2}.get(mechanism, 9)
    clients = int(number(0, 5))
    values = {
        "privacy.noise_multiplier": number(-8, 8, NOISES),
        "privacy.target_delta": number(-30, -0.01, DELTAS),
        "privacy.population": int(clients * number(0, 12)),
        "run.rounds": int(number(0, rounds)),
        "cohort.clients_per_round": clients,
        "cohort.sampling": rng.choice(samplers),
    }
    if rng.random() < 0.3:
        values["privacy.accountant"] = rng.choice(("pld", "rdp"))
    own = {"mechanism": mechanism, "parameters": int(number(0, 11))}
    if mechanism == "example":
        own |= {"num_examples": int(number(0, 9)), "batch_size": int(number(0, 4)), "local_steps": int(number(0, 6))}
    return values, own


def calculated(values, own):
    """Epsilon by rounds; None if the settings were rejected with a sentence."""
    try:
        found = report(RunConfig.of(values), PrivacyReportConfig(**own))
    except UserError:
        return None
    assert "nan" not in found.text()
    return [value for _, value in found.by_rounds]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_any_settings_give_numbers_or_a_sentence(seed):
    rng, accepted = random.Random(seed), 0
    for _ in range(20):
        by_rounds = calculated(*drawn(rng))
        if by_rounds is not None:
            accepted += 1
            assert by_rounds == sorted(by_rounds)
            assert by_rounds[0] >= 0
    assert accepted > 2


_POISSON = {"cohort.sampling": "poisson", "privacy.population": 10**7, "cohort.clients_per_round": 1000}


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        {"privacy.target_epsilon": 1e-300, "run.rounds": 10},
        {"privacy.target_epsilon": 1e-5, "privacy.target_delta": 1e-25, "run.rounds": 10**9},
        {"privacy.target_epsilon": 1e6, "run.rounds": 5},
        {"privacy.target_epsilon": 1e300, "run.rounds": 5},
        {"privacy.target_epsilon": 1.0, "privacy.target_delta": 5e-324, "run.rounds": 5},
        # Fractional orders of the Renyi divergence cancel.
        {
            "privacy.target_epsilon": 1e-3,
            "privacy.population": 1411,
            "privacy.target_delta": 5e-324,
            "run.rounds": 10**8,
        },
    ],
)
def test_any_target_gives_noise_or_a_sentence(values):
    by_rounds = calculated({**_POISSON, **values}, {"mechanism": "gaussian", "parameters": 100})
    assert by_rounds is None or by_rounds[-1] <= values["privacy.target_epsilon"]


@pytest.mark.parametrize("noise", NOISES)
def test_any_noise_gives_a_plan(noise):
    for sampling in ("poisson", "uniform", "by_size"):
        values = {"privacy.mechanism": "gaussian", "privacy.noise_multiplier": noise, "cohort.sampling": sampling}
        found = plan(values)
        assert found.ledger.epsilon(30) == (math.inf if noise < 1 else pytest.approx(0.0, abs=1e-6))
        assert "nan" not in found.describe() + found.statement()


def test_distributions_of_very_many_rounds_give_way_to_renyi_divergences():
    """They would take minutes, and gigabytes."""
    mechanism = Gaussian(6.8, "poisson", 1000, 100_000)
    assert epsilon(mechanism, 10**7, 1e-7) == epsilon(mechanism, 10**7, 1e-7, "rdp")
    assert epsilon(mechanism, 1000, 1e-7) < epsilon(mechanism, 1000, 1e-7, "rdp")
