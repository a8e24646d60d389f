"""Membership inference and exposure, against definitions computed by brute force."""

import numpy as np
import pytest

from tff_tx.analysis import auditing


def test_auc_is_the_chance_that_a_member_scores_higher(rng):
    members, others = rng.normal(0.0, 1.0, 300), rng.normal(0.7, 1.0, 200)
    attack = auditing.threshold_attack(members, others)
    pairs = (members[:, None] < others).mean() + 0.5 * (members[:, None] == others).mean()
    assert attack.auc == pytest.approx(pairs, abs=1e-12)
    thresholds = np.concatenate([members, others])
    gaps = [(members <= t).mean() - (others <= t).mean() for t in thresholds]
    assert attack.advantage == pytest.approx(max(gaps), abs=1e-12)
    at_ten = max((members <= t).mean() for t in thresholds if (others <= t).mean() <= 0.1)
    assert attack.true_positive_rates[0.1] == pytest.approx(at_ten, abs=1e-12)


def test_the_aucs_standard_error_is_what_repetition_shows(rng):
    attacks = [auditing.threshold_attack(rng.normal(0, 1, 100), rng.normal(0.5, 1, 80)) for _ in range(300)]
    spread = np.std([a.auc for a in attacks])
    assert np.mean([a.standard_error for a in attacks]) == pytest.approx(spread, rel=0.15)


def test_a_trained_attacker_sees_what_the_loss_does_not(rng):
    """Members differ in a sum of two figures, of which the first says little."""
    others = rng.normal(size=[400, 2])
    first = rng.normal(size=400)
    members = np.stack([first, 2.0 - first + 0.3 * rng.normal(size=400)], 1)
    assert auditing.threshold_attack(members[:, 0], others[:, 0]).auc < 0.6
    assert auditing.trained_attack(members, others).auc > 0.85


def test_a_trained_attacker_finds_nothing_in_noise(rng):
    attack = auditing.trained_attack(rng.normal(size=[300, 4]), rng.normal(size=[300, 4]))
    assert abs(attack.auc - 0.5) < 4 * attack.standard_error


def test_examples_that_a_trained_attacker_cannot_tell_apart_count_half(rng):
    """Many examples of a converged model have the same loss: their order in the arrays says nothing of them."""
    alike = auditing.trained_attack(np.ones([40, 4]), np.ones([40, 4]))
    assert (alike.auc, alike.advantage) == (0.5, 0.0)
    members, others = (np.where(rng.random([2000, 1]) < share, 0.0, 1.0) for share in (0.9, 0.6))
    exact = 0.5 + (members == 0).mean() / 2 - (others == 0).mean() / 2  # of a figure with two values
    assert auditing.trained_attack(members, others).auc == pytest.approx(exact, abs=0.01)
    assert auditing.trained_attack(others, members).auc == pytest.approx(exact, abs=0.01)


def test_exposure_is_the_definition():
    references = [5.0, 1.0, 3.0, 2.0, 4.0, 6.0, 7.0, 8.0]
    found = auditing.exposure_by_rank([0.5, 1.5, 4.5, 9.0], references)
    np.testing.assert_allclose(found, np.log2(8) - np.log2([1, 2, 5, 8]))


def test_exposure_of_what_was_not_trained_on_is_an_exponential_variable(rng):
    """-log2 of a uniform rank: 1.44 bits in the mean."""
    found = auditing.exposure_by_rank(rng.normal(size=4000), rng.normal(size=1000))
    assert found.mean() == pytest.approx(1 / np.log(2), rel=0.08)


def test_nothing_to_compare_is_refused():
    with pytest.raises(ValueError, match="0 members"):
        auditing.threshold_attack([], [1.0])
