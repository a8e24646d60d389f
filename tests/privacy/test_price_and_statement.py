"""What privacy costs, and how it is told."""

import math

import pytest

from tff_tx.privacy import (
    ExampleLevelSgd,
    Gaussian,
    Ledger,
    LocalGaussian,
    Participation,
    TreeAggregation,
    find_noise_multiplier,
    price,
    statement,
)


class TestPrice:
    """Signal and noise."""

    def test_by_hand(self):
        found = price(Ledger(Gaussian(2.0), 1e-6), 16, 100, 10_000)
        # 16 rounds of 100 clip norms, against 2 sqrt(16) in each of 10,000 numbers.
        assert found.signal_to_noise == pytest.approx(16 * 100 / (2 * 4 * 100))
        assert found.first_round == pytest.approx(100 / (2 * 100))
        assert found.cohort_needed == 50

    def test_correlated_noise_is_smaller_in_the_sum(self):
        tree = price(Ledger(TreeAggregation(2.0), 1e-6), 16, 100, 10_000)
        assert tree.signal_to_noise == pytest.approx(16 * 100 / (2 * math.sqrt(1 / (2 - 1 / 16)) * 100))

    def test_local_noise_grows_with_the_cohort(self):
        found = price(Ledger(LocalGaussian(2.0, 100), 1e-6), 16, 100, 10_000)
        assert found.signal_to_noise == pytest.approx(16 * 100 / (2 * math.sqrt(1600) * 100))
        again = price(Ledger(LocalGaussian(2.0, found.cohort_needed), 1e-6), 16, found.cohort_needed, 10_000)
        assert again.signal_to_noise == pytest.approx(1, rel=0.01)

    def test_steps_of_examples(self):
        found = price(Ledger(ExampleLevelSgd(1.0, 100, 20, 4), 1e-6), 9, 20, 100)
        assert found.signal_to_noise == pytest.approx(20 * 36 / (6 * 10))

    def test_without_noise_it_is_free(self):
        assert price(Ledger(Gaussian(0.0), 1e-6), 16, 100, 10_000).signal_to_noise == math.inf

    def test_the_cohort_needed_of_a_population(self):
        population, rounds, delta, dimension = 5000, 50, 1e-6, 400_000
        ledger = Ledger(Gaussian(1.0, "poisson", 50, population), delta, "rdp")
        found = price(ledger, rounds, 50, dimension)
        assert 50 < found.cohort_needed < population
        larger = Gaussian(1.0, "poisson", found.cohort_needed, population)
        noise = find_noise_multiplier(larger, rounds, ledger.epsilon(rounds), delta, "rdp")
        again = price(Ledger(larger.with_noise(noise), delta, "rdp"), rounds, found.cohort_needed, dimension)
        assert again.signal_to_noise == pytest.approx(1, rel=0.03)

    def test_a_population_may_be_too_small(self):
        ledger = Ledger(Gaussian(1.0, "poisson", 5, 50), 1e-3)
        assert price(ledger, 5, 5, 10**8).cohort_needed is None


class TestStatement:
    """Section 5.3 of How to DP-fy ML."""

    def test_it_says_what_is_asked_for(self):
        ledger = Ledger(Gaussian(1.2, "poisson", 20, 1000), 1e-5)
        told = statement(
            ledger,
            30,
            hyperparameters=["privacy.clip_norm=0.3"],
            released_outside=["metrics | of training"],
            notes=["Note."],
        )
        assert told.startswith("## Privacy\n")
        rows = dict(
            line[2:-2].split(" | ", 1) for line in told.splitlines() if line.startswith("| ") and line != "| | |"
        )
        assert rows["Guarantee"] == f"epsilon = {ledger.epsilon(30):.4g} at delta = 1e-05, after 30 rounds"
        assert rows["Unit of privacy"] == "a client with all of its data"
        assert rows["Adjacency"].startswith("add-or-remove-one client")
        assert "noise multiplier 1.2" in rows["Mechanism"]
        assert "probability 0.02" in rows["Sampling assumption"]
        assert rows["Accountant"].startswith("privacy loss distributions (PLD), or Renyi")
        assert rows["Hyper-parameters outside the guarantee"] == "privacy.clip_norm=0.3"
        assert rows["Released outside the guarantee"] == r"metrics \| of training"
        assert "\n\nNote.\n" in told
        assert {"Setting", "Data accesses covered", "Output covered"} < set(rows)

    def test_zcdp_is_told_where_there_is_one(self):
        told = statement(Ledger(TreeAggregation(4.0, None, Participation(8)), 1e-5), 8)
        assert f"rho = {4 / (2 * 16):.4g} zero-concentrated" in told
        assert "a client is in at most one of any 8 consecutive rounds" in told
        assert "zero-out one client" in told

    def test_other_settings(self):
        assert "the server is not trusted" in statement(Ledger(LocalGaussian(4.0, 10), 1e-5), 8)
        told = statement(Ledger(ExampleLevelSgd(1.0, 64, 8, 4, "poisson"), 1e-3), 2)
        assert "one of the 64 examples of a client" in told
        assert "not clients" in told

    def test_no_noise_is_no_guarantee(self):
        told = statement(Ledger(Gaussian(0.0), 1e-5), 8)
        assert "| Guarantee | none: there was no noise |" in told
        assert "epsilon" not in told
