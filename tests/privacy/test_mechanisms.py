"""What a mechanism counts as, and what it refuses to be."""

import math

import dp_accounting
import numpy as np
import pytest
from tensorflow_federated.python.aggregators import differential_privacy

from tff_tx.aggregators import dp
from tff_tx.core.errors import UserError
from tff_tx.privacy import (
    AdaptiveClipping,
    ExampleLevelSgd,
    Gaussian,
    LocalGaussian,
    MatrixFactorization,
    Participation,
    TreeAggregation,
    amplification,
    epsilon,
    optimize_banded,
)


class TestAmplification:
    """The sampler decides."""

    @pytest.mark.parametrize(
        ("sampler", "holds"),
        [
            ("poisson", "poisson"),
            ("uniform", "without_replacement"),
            ("by_size", "none"),
            ("min_separation", "none"),
            ("fixed", "none"),
        ],
    )
    def test_by_sampler(self, sampler, holds):
        assert amplification(sampler) == holds
        assert amplification(sampler, holds) == holds
        assert amplification(sampler, "none") == "none"

    @pytest.mark.parametrize(
        ("sampler", "claimed", "remedy"),
        [
            ("uniform", "poisson", "cohort.sampling=poisson, or privacy.amplification=without_replacement"),
            ("by_size", "poisson", "cohort.sampling=poisson, or privacy.amplification=none"),
            ("min_separation", "without_replacement", "cohort.sampling=uniform, or privacy.amplification=none"),
            ("poisson", "without_replacement", "cohort.sampling=uniform, or privacy.amplification=poisson"),
        ],
    )
    def test_what_does_not_hold_is_refused(self, sampler, claimed, remedy):
        with pytest.raises(
            UserError, match=f"privacy.amplification={claimed} does not hold with cohort.sampling={sampler}"
        ) as e:
            amplification(sampler, claimed)
        assert remedy in str(e.value)


class TestEvents:
    """As what a mechanism counts."""

    def test_poisson(self):
        event = Gaussian(1.5, "poisson", 20, 1000).event(7)
        assert event == dp_accounting.SelfComposedDpEvent(
            dp_accounting.PoissonSampledDpEvent(0.02, dp_accounting.GaussianDpEvent(1.5)), 7
        )

    def test_without_replacement_a_client_becomes_another(self):
        event = Gaussian(1.5, "without_replacement", 20, 1000).event(7)
        assert event == dp_accounting.SelfComposedDpEvent(
            dp_accounting.SampledWithoutReplacementDpEvent(1000, 20, dp_accounting.GaussianDpEvent(0.75)), 7
        )

    @pytest.mark.parametrize(("participation", "times"), [(Participation(), 7), (Participation(3), 3)])
    def test_without_sampling(self, participation, times):
        event = Gaussian(1.5, participation=participation).event(7)
        assert event.noise_multiplier == pytest.approx(1.5 / math.sqrt(times))

    def test_local_noise_hides_any_from_any_other(self):
        assert LocalGaussian(3.0, 100, Participation(4)).event(8).noise_multiplier == pytest.approx(1.5 / math.sqrt(2))

    @pytest.mark.parametrize(
        ("mechanism", "noise", "count"),
        [
            # 3 visits with 7 steps of 10 among 20 examples: each example at most 4 times a visit.
            (ExampleLevelSgd(2.0, 20, 10, 7, participation=Participation(2)), 2.0 / math.sqrt(12), 1),
            (ExampleLevelSgd(2.0, 20, 10, 7, microbatch_size=2, participation=Participation(2)), 1 / math.sqrt(12), 1),
            # A batch has everything.
            (ExampleLevelSgd(2.0, 5, 10, 7, "poisson", participation=Participation(2)), 2.0 / math.sqrt(21), 1),
        ],
    )
    def test_examples_by_pass(self, mechanism, noise, count):
        assert mechanism.event(5).noise_multiplier == pytest.approx(noise)

    def test_examples_by_chance(self):
        event = ExampleLevelSgd(2.0, 20, 10, 7, "poisson", participation=Participation(2)).event(5)
        assert event.count == 21
        assert event.event.sampling_probability == 0.5

    def test_correlated_noise(self):
        participation = Participation(4)
        assert TreeAggregation(3.0, None, participation).event(4).noise_multiplier == pytest.approx(3 / math.sqrt(3))
        mechanism = MatrixFactorization(3.0, optimize_banded(12, 4), participation)
        assert mechanism.event(12).noise_multiplier == pytest.approx(3 / math.sqrt(3))
        assert mechanism.event(1).noise_multiplier > 3.0


@pytest.mark.parametrize(
    ("rounds", "participation", "most"),
    [(10, Participation(), 10), (10, Participation(3), 4), (9, Participation(3), 3), (10, Participation(3, 2), 2)],
)
def test_participations_are_counted(rounds, participation, most):
    assert participation.count(rounds) == most


@pytest.mark.parametrize(("noise", "cohort", "count_stddev"), [(1.3, 100.0, 5.0), (0.4, 10.0, 0.5)])
def test_adaptive_clipping_puts_together_what_tff_splits(noise, cohort, count_stddev):
    value_noise, count_stddev = differential_privacy.adaptive_clip_noise_params(noise, cohort, count_stddev)
    assert value_noise > noise
    assert AdaptiveClipping.of_releases(value_noise, count_stddev).noise_multiplier == pytest.approx(noise)
    assert AdaptiveClipping.of_releases(0.0, count_stddev).noise_multiplier == 0.0
    assert dp.split_noise(noise, count_stddev) == pytest.approx(value_noise)


def test_adaptive_clipping_is_accounted_as_one_gaussian():
    sampling = dict(sampling="poisson", clients_per_round=20, population=1000)
    adaptive = AdaptiveClipping.of_releases(1.2, 3.0, **sampling)
    gaussian = Gaussian(adaptive.noise_multiplier, **sampling)
    for rounds in (1, 10):
        assert epsilon(adaptive, rounds, 1e-5) == epsilon(gaussian, rounds, 1e-5)
    assert adaptive.adjacency == gaussian.adjacency
    assert "adaptive clipping" in adaptive.name
    assert "standard deviation 3 " in adaptive.name


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Gaussian(-1.0), "noise_multiplier=-1.0: must be a number, at least 0"),
        (lambda: Gaussian(math.nan), "noise_multiplier=nan: must be"),
        (lambda: Gaussian(1.0, "x"), "sampling=x: must be one of poisson, without_replacement, none"),
        (lambda: Gaussian(1.0, "poisson", 5), "privacy.population=None: must be above 0 for amplification"),
        (lambda: Gaussian(1.0, "poisson", None, 5), "cohort.clients_per_round=None: must be above 0"),
        (lambda: Gaussian(1.0, "poisson", 6, 5), "cohort.clients_per_round=6 is more than privacy.population=5"),
        (lambda: TreeAggregation(1.0, 0), "restart_every=0: must be at least 1"),
        (lambda: Participation(0), "min_separation=0: must be at least 1"),
        (lambda: Participation(1, 0), "max_participations=0: must be at least 1"),
        (lambda: ExampleLevelSgd(1.0, 0), "num_examples=0: must be at least 1"),
        (lambda: ExampleLevelSgd(1.0, 5, sampling="without_replacement"), "must be poisson or none for DP-SGD"),
    ],
)
def test_what_means_nothing_is_refused(build, sentence):
    with pytest.raises(UserError, match=sentence):
        build()


@pytest.mark.parametrize(
    ("mechanism", "expected"),
    [
        (Gaussian(2.0), 2.0 * math.sqrt(9)),
        (LocalGaussian(2.0, 25), 2.0 * 5 * 3),
        (TreeAggregation(2.0, 1), 2.0 * 3),
        # One node of height 3 (with its precision of 2 - 1/8) and a leaf.
        (TreeAggregation(2.0), 2.0 * math.sqrt(1 / (2 - 1 / 8) + 1)),
        (MatrixFactorization(2.0, optimize_banded(9, 1)), 2.0 * 3),
    ],
)
def test_noise_of_the_sum(mechanism, expected):
    np.testing.assert_allclose(mechanism.sum_stddev(9), expected, rtol=1e-12)
