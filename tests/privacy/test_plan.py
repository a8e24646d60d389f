"""The plan of a private run: noise found, price, statement."""

import re

import numpy as np
import pytest

from tests.privacy.patterns import nodes, squared_sensitivity
from tests.privacy.plans import ADAPTIVE, GAUSSIAN, TREE, plan
from tff_tx import privacy
from tff_tx.core.errors import UserError

BANDED = {**TREE, "privacy.mechanism": "banded"}


def without_noise(values):
    return {path: value for path, value in values.items() if path != "privacy.noise_multiplier"}


def test_runs_are_not_private_by_default():
    assert plan({}) is None


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({**GAUSSIAN, "privacy.population": 99}, "privacy.population=99 is fewer than the 100 training clients"),
        ({**GAUSSIAN, "privacy.target_delta": 0.5}, "privacy.target_delta=0.5 is more than one over the 100 clients"),
        (
            {**GAUSSIAN, "privacy.amplification": "without_replacement"},
            "privacy.amplification=without_replacement does not hold with cohort.sampling=poisson",
        ),
        (
            {**TREE, "privacy.amplification": "poisson"},
            "privacy.amplification=poisson does not hold with cohort.sampling=min_separation",
        ),
        (
            {**GAUSSIAN, "privacy.stop_at_epsilon": 0.001},
            "privacy.stop_at_epsilon=0.001 is exceeded by the first round",
        ),
        (
            {**BANDED, "cohort.min_separation": 5, "privacy.bands": 6},
            "privacy.bands=6 is more than the 5 rounds from a client's turn to its next",
        ),
        (
            {**ADAPTIVE, "privacy.clip_count_stddev": 0.5},
            "privacy.clip_count_stddev=0.5 would spend more than the whole budget",
        ),
    ],
)
def test_what_cannot_be_accounted_for_is_rejected(values, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        plan(values)


@pytest.mark.parametrize(
    ("sampling", "mechanism"),
    [
        ("poisson", privacy.Gaussian(1.0, "poisson", 5, 100)),
        ("uniform", privacy.Gaussian(1.0, "without_replacement", 5, 100)),
        ("by_size", privacy.Gaussian(1.0, "none")),
        ("min_separation", privacy.Gaussian(1.0, "none", participation=privacy.Participation(20))),
    ],
)
def test_the_sampler_decides_the_accounting(sampling, mechanism):
    found = plan({**GAUSSIAN, "cohort.sampling": sampling})
    delta = 100**-1.1
    for rounds in (1, 7, 30):
        assert found.figures(rounds) == {"privacy/epsilon": privacy.epsilon(mechanism, rounds, delta)}


@pytest.mark.parametrize("values", [GAUSSIAN, ADAPTIVE, TREE, BANDED])
def test_a_target_is_met_and_not_missed(values):
    found = plan({**without_noise(values), "privacy.target_epsilon": 3.0, "run.rounds": 40})
    assert 2.95 < found.figures(40)["privacy/epsilon"] <= 3
    assert "epsilon 3 at delta 0.0063 after 40 rounds" in found.describe()


def test_a_large_delta_is_said():
    few, many = plan(GAUSSIAN, clients=5), plan(GAUSSIAN)
    words = "A delta of 0.1 protects hardly: up to this probability the guarantee may fail."
    assert words in few.describe()
    assert words in few.statement()
    assert "protects hardly" not in many.describe() + many.statement()
    assert "protects hardly" not in plan({**GAUSSIAN, "privacy.target_delta": 1e-3}, clients=5).describe()


def test_it_stops_in_time():
    found = plan({**GAUSSIAN, "privacy.noise_multiplier": 0.6, "privacy.stop_at_epsilon": 2.0})
    assert 0 < found.rounds < 30
    assert found.figures(found.rounds)["privacy/epsilon"] <= 2 < found.figures(found.rounds + 1)["privacy/epsilon"]
    assert f"after {found.rounds} rounds (of 30: the next would exceed" in found.describe()


def test_a_larger_federation_needs_less_noise_in_its_simulation():
    """100 clients simulate 10,000: cohorts of 500, whose mean has a hundredth of the noise for the same multiplier."""
    found = plan({**GAUSSIAN, "privacy.population": 10_000})
    assert (found.cohort, found.scale_factor) == (500, 0.01)
    same = privacy.Gaussian(1.0, "poisson", 500, 10_000)
    assert found.figures(3) == {"privacy/epsilon": privacy.epsilon(same, 3, 10_000**-1.1)}
    assert "10,000 clients with cohorts of 500, which 100 clients with cohorts of 5 simulate" in found.describe()
    assert found.config() == {"noise_multiplier": 1.0, "delta": 10_000**-1.1, "population": 10_000, "cohort": 500}


def test_banded_noise_is_optimized_for_the_server():
    """The optimum for the server's momentum and rates, with the bands that the separation allows."""
    settings = {**BANDED, "run.rounds": 12, "cohort.min_separation": 4}
    rates = np.linspace(1.0, 0.1, 12)
    matrices = []
    for momentum, server_rates in ((0.9, None), (0.0, None), (0.0, rates)):
        found = plan({**settings, "server.momentum": momentum}, server_rates=server_rates).ledger.mechanism.matrix
        assert found.bands == 4
        expected = privacy.optimize_banded(12, 4, privacy.workload(12, momentum, server_rates))
        np.testing.assert_allclose(found.rows, expected.rows, atol=1e-6)
        matrices.append(found.rows)
    assert np.abs(matrices[0] - matrices[1]).max() > 1e-3
    assert np.abs(matrices[2] - matrices[1]).max() > 1e-3


def rows(statement):
    """The rows of a statement's table, by title."""
    lines = [line for line in statement.splitlines() if line.startswith("| ") and line != "| | |"]
    return dict(line[2:-2].split(" | ", 1) for line in lines)


@pytest.mark.parametrize("sampling", ["poisson", "uniform"])
def test_the_statement_of_an_adaptive_clip_describes_it_with_the_epsilon_of_one_gaussian(sampling):
    adaptive, gaussian = (plan({**values, "cohort.sampling": sampling}) for values in (ADAPTIVE, GAUSSIAN))
    for rounds in (1, 30):
        assert adaptive.figures(rounds) == gaussian.figures(rounds)
    found, plain = rows(adaptive.statement()), rows(gaussian.statement())
    # The cohort's twentieth is less than twice the noise multiplier.
    assert "with adaptive clipping" in found["Mechanism"]
    assert "a count with noise of standard deviation 2 " in found["Mechanism"]
    assert "adaptive" not in plain["Mechanism"]
    for title in ("Guarantee", "Adjacency", "Unit of privacy", "Sampling assumption", "Accountant"):
        assert found[title] == plain[title]


def test_both_releases_of_an_adaptive_clip_and_private_metrics_are_the_whole_budget():
    found = plan({**ADAPTIVE, "privacy.metrics": "private", "privacy.clip_count_stddev": 4.0})
    mechanism = found.ledger.mechanism
    assert mechanism.count_stddev == 4.0
    of_updates = found.update_noise_multiplier
    assert of_updates**-2 + found.metrics_noise_multiplier**-2 == pytest.approx(found.noise_multiplier**-2)
    value = (of_updates**-2 - (2 * 4.0) ** -2) ** -0.5
    assert privacy.AdaptiveClipping.of_releases(value, 4.0).noise_multiplier == pytest.approx(of_updates)


def encoder_of(found, rounds):
    """What updates of norm 1 become in the releases of the first rounds, in units of their noise: [numbers, rounds]."""
    mechanism = found.ledger.mechanism
    if isinstance(mechanism, privacy.TreeAggregation):
        updates, _ = nodes(rounds, mechanism.restart_every)
    else:
        updates = mechanism.matrix.dense()[:rounds, :rounds] if hasattr(mechanism, "matrix") else np.eye(rounds)
    parts = [updates / found.update_noise_multiplier]
    if found.settings.privacy.metrics == "private":
        parts.append(np.eye(rounds) / found.metrics_noise_multiplier)
    return np.concatenate(parts)


@pytest.mark.parametrize("metrics", [{}, {"privacy.metrics": "private", "privacy.metrics_share": 0.5}])
@pytest.mark.parametrize("values", [GAUSSIAN, ADAPTIVE, TREE, {**TREE, "privacy.restart_rounds": 3}, BANDED])
def test_the_ledger_counts_the_releases_that_a_run_makes(values, metrics):
    """Whatever rounds a client is in, before the last round too; and it claims hardly more."""
    sampling = {"cohort.sampling": "by_size"} if values in (GAUSSIAN, ADAPTIVE) else {"cohort.min_separation": 3}
    found = plan({**values, **sampling, **metrics, "run.rounds": 8})
    for rounds in range(1, 9):
        participation = found.ledger.mechanism.participation
        true = squared_sensitivity(encoder_of(found, rounds), participation) / 2
        assert true * (1 - 1e-9) <= privacy.rho(found.ledger.mechanism, rounds) <= 1.15 * true


def test_a_bound_on_epsilon_holds_with_private_metrics():
    """Columns of banded noise are shorter before the last round, and metrics, whose noise is independent, are not."""
    more = {"privacy.bands": 32, "cohort.min_separation": 32, "privacy.noise_multiplier": 1.0, "run.rounds": 64}
    more |= {"privacy.metrics": "private", "privacy.metrics_share": 0.5, "cohort.clients_per_round": 3}
    found = plan({**BANDED, **more, "privacy.stop_at_epsilon": 3.5})
    z, rounds = found.metrics_noise_multiplier, found.rounds
    of_metrics = -(-rounds // 32) / (2 * z**2)
    of_updates = found.ledger.mechanism.sensitivity(rounds) ** 2 / (2 * found.update_noise_multiplier**2)
    assert 0 < rounds < 64
    assert privacy.gaussian_epsilon(of_updates + of_metrics, found.ledger.delta) <= 3.5


def test_the_statement_names_what_is_outside():
    statement = plan(GAUSSIAN).statement()
    assert "metrics of training (`train/`" in statement
    assert "`cohorts.jsonl`" in statement
    assert "operating system's randomness" in statement
    assert "simulates" not in statement
    for metrics in ("private", "withheld"):
        assert "metrics of training (`train/`" not in plan({**GAUSSIAN, "privacy.metrics": metrics}).statement()
    seeded = plan({**GAUSSIAN, "privacy.noise_seed": 3}).statement()
    assert "no protection from those who know it" in re.sub(r"\s+", " ", seeded)
    larger = plan({**GAUSSIAN, "privacy.population": 10_000}).statement()
    assert "federation of 10,000 clients with cohorts of 500" in larger


def test_the_statement_lists_every_setting_that_was_chosen_without_being_accounted_for():
    chosen = rows(plan({**GAUSSIAN, "client.learning_rate": 0.5}).statement())["Hyper-parameters outside the guarantee"]
    shown = dict(item.split("=") for item in chosen.split("; "))
    assert shown["privacy.clip_norm"] == "0.3"
    assert shown["client.learning_rate"] == "0.5"
    assert {"run.rounds", "cohort.clients_per_round", "client.batch_size", "client.epochs", "client.optimizer"} <= set(
        shown
    )
    assert {"server.optimizer", "server.learning_rate", "server.momentum"} <= set(shown)
    assert "client.max_examples" not in shown


def test_no_noise_is_said_to_be_none():
    assert plan({**GAUSSIAN, "privacy.noise_multiplier": 0.0}).describe() == "Not private: gaussian without noise."
