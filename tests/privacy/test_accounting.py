"""Epsilon against published figures, against a second implementation, and its laws."""

import dataclasses
import math

import dp_accounting
import numpy as np
import pytest
from scipy import integrate, optimize, special, stats

from tff_tx.core.errors import UserError
from tff_tx.privacy import (
    ExampleLevelSgd,
    Gaussian,
    Ledger,
    LocalGaussian,
    Participation,
    TreeAggregation,
    accounting,
    default_delta,
    epsilon,
    find_noise_multiplier,
    gaussian_delta,
    gaussian_epsilon,
    rho,
)


def poisson(noise_multiplier, probability, population=100_000):
    return Gaussian(noise_multiplier, "poisson", probability * population, population)


def without_replacement(noise_multiplier, cohort, population):
    return Gaussian(noise_multiplier, "without_replacement", cohort, population)


class TestPublished:
    """Figures of papers and of tensorflow-privacy."""

    # https://research.google/blog/advances-in-private-training-for-production-on-device-language-models/, where rho is
    # rounded.
    @pytest.mark.parametrize(
        ("rho_told", "half_a_digit", "expected", "digits"), [(0.15, 0.005, 3.42, 2), (0.0144, 0.00005, 0.994, 3)]
    )
    def test_gboards_zcdp(self, rho_told, half_a_digit, expected, digits):
        low, high = (gaussian_epsilon(rho_told + sign * half_a_digit, 1e-10) for sign in (-1, 1))
        assert low - 0.5 * 10**-digits <= expected <= high + 0.5 * 10**-digits
        assert gaussian_epsilon(rho_told, 1e-10) == pytest.approx(expected, rel=0.01)

    # https://ai.googleblog.com/2022/02/federated-learning-with-formal.html, by RDP.
    def test_gboards_first(self):
        mechanism = Gaussian((2 * 0.81) ** -0.5)
        assert epsilon(mechanism, 1, 1e-10, "rdp") == pytest.approx(8.9, abs=0.05)
        assert epsilon(mechanism, 1, 1e-10) < 8.9

    # tensorflow_privacy 0.9, compute_dp_sgd_privacy_test.py.
    @pytest.mark.parametrize(
        ("n", "batch", "noise", "epochs", "delta", "expected"),
        [(60000, 150, 1.3, 15, 1e-5, 0.7242234026109595), (100000, 100, 1.0, 30, 1e-7, 1.4154988495444845)],
    )
    def test_dp_sgd_by_rdp(self, n, batch, noise, epochs, delta, expected):
        mechanism = ExampleLevelSgd(noise, n, batch, math.ceil(epochs * n / batch), "poisson")
        assert epsilon(mechanism, 1, delta, "rdp") == pytest.approx(expected, rel=1e-4)

    # The same file: 1.2 epochs, z = 0.7, q = 0.01 and delta = 1e-5. Its PLDs have a finer grid.
    @pytest.mark.parametrize(
        ("microbatch", "sampling", "accountant", "expected", "rel"),
        [
            (1, "none", "rdp", 10.8602036, 1e-7),
            (2, "none", "rdp", 26.2880374, 1e-7),
            (1, "poisson", "rdp", 3.2391922, 1e-7),
            (2, "poisson", "rdp", 22.5970358, 1e-7),
            (1, "none", "pld", 10.1224946, 1e-4),
            (2, "none", "pld", 24.7160779, 1e-4),
            (1, "poisson", "pld", 2.4612381, 1e-3),
            (2, "poisson", "pld", 18.6977407, 1e-3),
        ],
    )
    def test_dp_sgd_statement(self, microbatch, sampling, accountant, expected, rel):
        mechanism = ExampleLevelSgd(0.7, 10_000, 100, 120, sampling, microbatch)
        assert epsilon(mechanism, 1, 1e-5, accountant) == pytest.approx(expected, rel=rel)

    # The tutorial of tensorflow-privacy, MNIST: 60,000 examples, batches of 250, z = 1.3, 15 epochs, delta = 1e-5.
    def test_the_tutorial(self):
        steps, probability = 15 * 60000 // 250, 250 / 60000
        orders = np.arange(2, 128)
        divergences = steps * np.array([renyi_divergence(probability, 1.3, int(a)) for a in orders])
        # With the conversion of its time (Mironov 2017, Proposition 3).
        assert np.min(divergences + math.log(1e5) / (orders - 1)) == pytest.approx(1.18, abs=0.005)
        mechanism = ExampleLevelSgd(1.3, 60000, 250, steps, "poisson")
        by_rdp, by_pld = (epsilon(mechanism, 1, 1e-5, a) for a in ("rdp", "pld"))
        assert by_pld < by_rdp < 1.18
        assert by_pld > 0.5 * 1.18

    # Kairouz et al. 2021, Stack Overflow: tensorflow_privacy's tree_aggregation_accountant_test.py says that figures
    # may get better since.
    @pytest.mark.parametrize(("noise", "published"), [(1.13, 19.74), (8.83, 2.04)])
    def test_dp_ftrl(self, noise, published):
        tree = TreeAggregation(noise, None, Participation(max_participations=1))
        assert 0.8 * published < epsilon(tree, 1600, 1e-6) < epsilon(tree, 1600, 1e-6, "rdp") < published


def renyi_divergence(q, sigma, order):
    """Of the sampled Gaussian, of an integer order: Mironov, Talwar and Zhang 2019, Section 3.3."""
    k = np.arange(order + 1)
    log_binomial = special.gammaln(order + 1) - special.gammaln(k + 1) - special.gammaln(order - k + 1)
    terms = log_binomial + (order - k) * np.log1p(-q) + k * np.log(q) + (k**2 - k) / (2 * sigma**2)
    return special.logsumexp(terms) / (order - 1)


def hockey_stick(q, sigma, epsilon):
    """Delta of one Poisson-sampled Gaussian by numerical integration, the larger of adding and removing."""

    def sampled(x):
        return q * stats.norm.pdf(x, 1, sigma) + (1 - q) * stats.norm.pdf(x, 0, sigma)

    def plain(x):
        return stats.norm.pdf(x, 0, sigma)

    grid = np.linspace(-40 * sigma, 40 * sigma + 1, 400_001)
    pairs = ((sampled(grid), plain(grid)), (plain(grid), sampled(grid)))
    return max(integrate.trapezoid(np.maximum(0, p - math.exp(epsilon) * r), grid) for p, r in pairs)


def losses_by_hand(q, sigma, rounds, delta, remove):
    """Epsilon of a composition, from a histogram of privacy losses with steps of 5e-4."""
    step, reach = 5e-4, 2**17
    x = np.linspace(-15 * sigma, 15 * sigma + 1, 1_000_001)
    upper = q * stats.norm.pdf(x, 1, sigma) + (1 - q) * stats.norm.pdf(x, 0, sigma)
    lower = stats.norm.pdf(x, 0, sigma)
    loss = np.log(upper / lower) * (1 if remove else -1)
    mass = (upper if remove else lower) * (x[1] - x[0])
    bins = np.round(loss / step).astype(int) + reach // 2
    histogram = np.bincount(bins, mass, minlength=reach)
    shifted = np.fft.ifftshift(histogram)
    composed = np.fft.fftshift(np.fft.irfft(np.fft.rfft(shifted) ** rounds, reach))
    values = (np.arange(reach) - reach // 2) * step

    def delta_of(e):
        above = values > e
        return np.sum(composed[above] * -np.expm1(e - values[above]))

    return optimize.brentq(lambda e: math.log(max(delta_of(e), 1e-300) / delta), 1e-3, 20)


class TestSecondImplementation:
    """The same numbers computed another way."""

    @pytest.mark.parametrize(("q", "sigma"), [(0.01, 1.1), (0.2, 3.0), (0.5, 0.8)])
    def test_renyi_divergences(self, q, sigma):
        orders = [2, 3, 5, 16, 64]
        accountant = dp_accounting.rdp.RdpAccountant(orders)
        accountant.compose(poisson(sigma, q).event(7))
        np.testing.assert_allclose(accountant.rdp, [7 * renyi_divergence(q, sigma, a) for a in orders], rtol=1e-9)

    @pytest.mark.parametrize(
        ("q", "sigma", "delta"),
        [(0.01, 1.0, 1e-6), (0.1, 0.7, 1e-5), pytest.param(0.3, 2.0, 1e-4, marks=pytest.mark.slow)],
    )
    def test_one_sampled_round(self, q, sigma, delta):
        found = epsilon(poisson(sigma, q), 1, delta, "pld")
        assert hockey_stick(q, sigma, found) <= delta * 1.0001
        assert hockey_stick(q, sigma, found * 0.99 - 1e-3) > delta

    @pytest.mark.parametrize(
        ("q", "sigma", "rounds", "delta"),
        [(0.05, 1.0, 40, 1e-5), pytest.param(0.2, 2.0, 100, 1e-6, marks=pytest.mark.slow)],
    )
    def test_many_sampled_rounds(self, q, sigma, rounds, delta):
        expected = max(losses_by_hand(q, sigma, rounds, delta, remove) for remove in (True, False))
        assert epsilon(poisson(sigma, q), rounds, delta) == pytest.approx(expected, rel=3e-3)

    @pytest.mark.parametrize("ratio", [0.05, 0.5, 1.0, 4.0])
    @pytest.mark.parametrize("told", [0.0, 0.1, 1.0, 5.0])
    def test_the_gaussian_profile(self, ratio, told):
        # Balle and Wang 2018, Theorem 8, in numbers that are not too small for it.
        expected = special.ndtr(ratio / 2 - told / ratio) - math.exp(told) * special.ndtr(-ratio / 2 - told / ratio)
        assert gaussian_delta(ratio**2 / 2, told) == pytest.approx(expected, rel=1e-6, abs=1e-14)

    @pytest.mark.parametrize("delta", [1e-12, 1e-6, 0.1])
    @pytest.mark.parametrize("rho", [1e-6, 0.01, 1.0, 50.0])
    def test_the_profile_is_inverted(self, rho, delta):
        found = gaussian_epsilon(rho, delta)
        if found:
            assert gaussian_delta(rho, found) == pytest.approx(delta, rel=1e-6)
        else:
            assert gaussian_delta(rho, 0.0) <= delta

    def test_a_gaussian_by_three_accountants(self):
        mechanism = Gaussian(2.0, participation=Participation(3))
        assert rho(mechanism, 30) == pytest.approx(10 / (2 * 2.0**2))
        exact = epsilon(mechanism, 30, 1e-6)
        by_grid = dp_accounting.pld.PLDAccountant().compose(mechanism.event(30)).get_epsilon(1e-6)
        assert exact == pytest.approx(by_grid, abs=2e-4)
        assert exact < epsilon(mechanism, 30, 1e-6, "rdp") < 1.2 * exact

    def test_without_replacement_one_round(self):
        # For replace-one, delta(log(1 + q (e^epsilon - 1))) = q delta(epsilon) is the best that holds in one round:
        # Balle, Barthe and Gaboardi 2018, Theorem 10. Two clipped updates are 2 clips apart.
        cohort, population, sigma, delta = 50, 1000, 2.0, 1e-5
        q = cohort / population
        unsampled = gaussian_epsilon((2 / sigma) ** 2 / 2, delta / q)
        tight = math.log1p(q * math.expm1(unsampled))
        found = epsilon(without_replacement(sigma, cohort, population), 1, delta)
        assert tight < found < 4 * tight

    @pytest.mark.parametrize(
        "mechanism", [pytest.param(poisson(1.0, 0.1), marks=pytest.mark.slow), Gaussian(1.0), LocalGaussian(1.0, 10)]
    )
    def test_noise_is_found_as_dp_accounting_finds_it(self, mechanism):
        expected = dp_accounting.calibrate_dp_mechanism(
            dp_accounting.rdp.RdpAccountant,
            lambda noise: mechanism.with_noise(noise).event(20),
            2.0,
            1e-5,
            dp_accounting.ExplicitBracketInterval(0.5, 60.0),
            tol=1e-3,
        )
        found = find_noise_multiplier(mechanism, 20, 2.0, 1e-5, "rdp")
        assert found == pytest.approx(expected, rel=3e-3)
        assert epsilon(mechanism.with_noise(found), 20, 1e-5, "rdp") <= 2.0


MECHANISMS = [
    poisson(1.0, 0.02),
    without_replacement(2.0, 20, 1000),
    Gaussian(5.0, participation=Participation(4)),
    TreeAggregation(9.0, None, Participation(8)),
    TreeAggregation(9.0, 8, Participation(8)),
    LocalGaussian(20.0, 10, Participation(2)),
    ExampleLevelSgd(1.5, 200, 10, 5, "poisson"),
    ExampleLevelSgd(1.5, 200, 10, 5),
]


@pytest.mark.parametrize(
    "mechanism",
    [
        # Its rounds are accounted as those of the first, by PLDs.
        pytest.param(
            m, marks=pytest.mark.slow if getattr(m, "sampling", "") == "poisson" and m is not MECHANISMS[0] else ()
        )
        for m in MECHANISMS
    ],
    ids=lambda m: f"{type(m).__name__}-{getattr(m, 'sampling', '')}",
)
class TestLaws:
    """What holds of every mechanism."""

    def test_epsilon_grows_with_rounds(self, mechanism):
        ledger = Ledger(mechanism, 1e-6)
        assert ledger.epsilon(0) == 0
        by_round = [ledger.epsilon(r) for r in (1, 2, 3, 7, 8, 9, 30, 31, 64, 100)]
        assert by_round == sorted(by_round)
        assert 0 < by_round[0] < by_round[-1] < math.inf

    def test_it_falls_with_noise_and_delta(self, mechanism):
        by_noise = [epsilon(mechanism.with_noise(z * mechanism.noise_multiplier), 20, 1e-6) for z in (0.5, 1, 1.1, 4)]
        assert by_noise == sorted(by_noise, reverse=True)
        by_delta = [epsilon(mechanism, 20, delta) for delta in (1e-9, 1e-6, 1e-5, 1e-2)]
        assert by_delta == sorted(by_delta, reverse=True)

    def test_there_is_none_without_noise(self, mechanism):
        assert epsilon(mechanism.with_noise(0.0), 1, 1e-6) == math.inf

    def test_noise_is_found(self, mechanism):
        found = find_noise_multiplier(mechanism, 40, 2.5, 1e-6)
        assert epsilon(mechanism.with_noise(found), 40, 1e-6) <= 2.5
        assert epsilon(mechanism.with_noise(found * 0.998), 40, 1e-6) > 2.5


class TestLedger:
    """What a run asks."""

    def test_the_last_round_within_an_epsilon(self):
        ledger = Ledger(poisson(1.0, 0.02), 1e-6)
        target = ledger.epsilon(37)
        assert ledger.rounds_until(target, 100) == 37
        assert ledger.rounds_until(target - 1e-6, 100) == 36
        assert ledger.rounds_until(target, 20) == 20
        assert ledger.rounds_until(1e-3, 100) == 0

    def test_what_is_known_is_not_computed_again(self, monkeypatch):
        ledger = Ledger(poisson(1.0, 0.02), 1e-6)
        found = ledger.epsilon(5)
        monkeypatch.setattr(accounting, "epsilon", None)
        assert ledger.epsilon(5) == found

    def test_it_names_the_accountant(self):
        assert Ledger(poisson(1.0, 0.02), 1e-6).accountant == "pld"
        assert Ledger(poisson(1.0, 0.02), 1e-6, "rdp").accountant == "rdp"
        assert Ledger(without_replacement(1.0, 2, 100), 1e-6).accountant == "rdp"
        assert "Balle" in Ledger(Gaussian(1.0), 1e-6).accountant_name


def test_sampling_amplifies():
    delta, rounds = 1e-6, 50
    plain = epsilon(Gaussian(2.0), rounds, delta)
    assert epsilon(poisson(2.0, 0.1), rounds, delta) < epsilon(poisson(2.0, 0.5), rounds, delta) < plain
    assert epsilon(poisson(2.0, 1.0), rounds, delta) == pytest.approx(plain, rel=2e-3)


def test_sampling_never_hurts_without_replacement():
    everyone = without_replacement(4.0, 1000, 1000)
    assert epsilon(everyone, 10, 1e-6) == pytest.approx(gaussian_epsilon(10 * (2 / 4.0) ** 2 / 2, 1e-6))
    most = dataclasses.replace(everyone, clients_per_round=900)
    assert epsilon(most, 10, 1e-6) <= epsilon(everyone, 10, 1e-6)


def test_pld_is_tighter_than_rdp():
    for noise, q, rounds in ((1.0, 0.01, 1000), (0.6, 0.3, 20), (8.0, 0.5, 100)):
        assert epsilon(poisson(noise, q), rounds, 1e-6, "pld") < epsilon(poisson(noise, q), rounds, 1e-6, "rdp")


def sampled_epsilon(probability, noise, delta):
    """Epsilon of a round of Poisson sampling with little noise, from the densities with a client and without."""

    def log_delta(epsilon):  # above x the density with the client is more than e^epsilon times the other
        x = 0.5 + noise**2 * np.log((np.exp(epsilon) - 1 + probability) / probability)
        log_others = np.log1p(-probability) + special.log_ndtr(-x / noise)
        log_with = np.logaddexp(log_others, np.log(probability) + special.log_ndtr((1 - x) / noise))
        return log_with + np.log1p(-np.exp(epsilon + special.log_ndtr(-x / noise) - log_with))

    return optimize.brentq(lambda epsilon: log_delta(epsilon) - np.log(delta), 1.0, 600.0)


@pytest.mark.parametrize(("probability", "noise"), [(0.3, 0.0635), (0.5, 0.0585), (0.9, 0.0635), (0.1, 0.3)])
def test_epsilon_of_sampling_with_little_noise(probability, noise):
    found = epsilon(Gaussian(noise, "poisson", 1000 * probability, 1000), 1, 1e-4)
    assert 0 <= found - sampled_epsilon(probability, noise, 1e-4) < 0.02


@pytest.mark.parametrize(("rounds", "target"), [(2, 100.0), (5, 200.0)])
def test_large_epsilons_of_few_rounds_have_a_noise(rounds, target):
    mechanism = Gaussian(1.0, "poisson", 100, 1000)
    noise = find_noise_multiplier(mechanism, rounds, target, 1e-4)
    at = [epsilon(mechanism.with_noise(factor * noise), rounds, 1e-4) for factor in (0.998, 1.0)]
    assert at[1] <= target < at[0]


def test_delta_of_a_population():
    assert default_delta(10_000) == pytest.approx(10_000**-1.1)
    assert default_delta(1) <= 0.1


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: epsilon(Gaussian(1.0), 1, 0.0), "privacy.target_delta=0.0: must be above 0 and below 1"),
        (lambda: epsilon(Gaussian(1.0), -1, 0.1), "rounds=-1: must be at least 0"),
        (lambda: epsilon(Gaussian(1.0), 1, 0.1, "x"), "accountant=x: must be one of pld, rdp"),
        (lambda: Ledger(Gaussian(1.0), 2.0), "privacy.target_delta=2.0: must be above"),
        (
            lambda: Ledger(without_replacement(1.0, 2, 9), 0.1, "pld"),
            "privacy.accountant=pld does not cover sampling without",
        ),
        (lambda: find_noise_multiplier(Gaussian(1.0), 1, 0.0, 0.1), "privacy.target_epsilon=0.0: must be above 0"),
        (lambda: find_noise_multiplier(Gaussian(1.0), 0, 1.0, 0.1), "rounds=0: must be at least 1"),
    ],
)
def test_what_means_nothing_is_refused(call, sentence):
    with pytest.raises(UserError, match=sentence):
        call()


def test_an_infinite_epsilon_asks_for_no_noise():
    assert find_noise_multiplier(Gaussian(1.0), 10, math.inf, 1e-5) == 0.0
