"""Comparisons of arms that know their noise, on a synthetic table of scores."""

import numpy as np
import pytest

from tff_tx.config.task import ModelConfig
from tff_tx.run.tuning.brackets import Bracket, least_rounds, next_bracket
from tff_tx.run.tuning.scores import Scores, race

ARMS, CLIENTS = 27, 240


def table(rng):
    """Scores float64 [arms, clients]: quality of the arm, difficulty of the client, and noise of both together."""
    quality = rng.permutation(np.linspace(0.0, 1.0, ARMS))
    difficulty = rng.normal(0, 6.0, CLIENTS)
    return quality, quality[:, None] + difficulty + rng.normal(0, 0.7, (ARMS, CLIENTS))


def plain(scores, rng, clients):
    """Halving that ranks each arm on a few clients of its own."""
    arms = list(range(ARMS))
    while len(arms) > 1:
        means = {a: scores[a, rng.choice(CLIENTS, clients, replace=False)].mean() for a in arms}
        arms = sorted(arms, key=means.get)[: len(arms) // 3]
    return arms[0]


def ours(scores, clients):
    arms, asked = list(range(ARMS)), 0

    def score(arm, count):
        nonlocal asked
        asked = max(asked, count)
        return Scores(scores[arm, :count], np.ones(count))

    while len(arms) > 1:
        arms = race(arms, len(arms) // 3, score, clients, CLIENTS)
    return arms[0], asked


def test_plain_halving_with_few_clients_is_near_random_search_and_racing_is_not():
    regret = {"random": [], "plain": [], "ours": []}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        quality, scores = table(rng)
        found, asked = ours(scores, 3)
        assert 3 < asked <= CLIENTS  # it has noticed that 3 are too few
        for name, arm in (("random", 0), ("plain", plain(scores, rng, 3)), ("ours", found)):
            regret[name].append(quality[arm])
    mean = {name: np.mean(values) for name, values in regret.items()}
    assert mean["random"] == pytest.approx(0.5, abs=0.1)
    assert mean["plain"] > 0.6 * mean["random"]
    assert mean["ours"] < 0.15 * mean["random"]


def test_standard_errors_are_those_of_repeated_samples_of_clients():
    rng, means, errors = np.random.default_rng(1), [], []
    for _ in range(2000):
        weights = rng.integers(1, 20, 40).astype(float)
        scores = Scores(rng.normal(1.0, 0.5, 40), weights)
        means.append(scores.mean)
        errors.append(scores.standard_error)
    assert np.mean(means) == pytest.approx(1.0, abs=0.01)
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.05)


def test_arms_within_the_noise_are_not_called_different_and_diverged_arms_lose():
    rng = np.random.default_rng(2)
    one = Scores(rng.normal(size=50), np.ones(50))
    other = Scores(one.values + rng.normal(0, 1, 50), np.ones(50))
    worse = Scores(one.values + 0.2 + rng.normal(0, 0.05, 50), np.ones(50))  # of which each client is sure
    diverged = Scores(np.full(1, np.inf), np.ones(1))
    assert not one.beats(other)
    assert not other.beats(one)
    assert one.beats(worse)
    assert not worse.beats(one)
    assert one.beats(diverged)
    assert not diverged.beats(one)
    assert not Scores(one.values[:1], np.ones(1)).beats(worse)  # of a single client


@pytest.mark.parametrize("rounds", [1, 2, 9, 27, 30, 100])
@pytest.mark.parametrize("times", [1.0, 1.5, 4.0, 16.0])
def test_brackets_fit_into_the_budget_and_end_with_whole_runs(rounds, times):
    left, number, arms, least = times * rounds, 0, 0, least_rounds(ModelConfig(), rounds)
    while (bracket := next_bracket(number, rounds, 3, left, least)) is not None:
        assert bracket.rungs[-1] == rounds
        assert list(bracket.rungs) == sorted(set(bracket.rungs))
        assert bracket.rungs[0] >= 1
        left, number, arms = left - bracket.rounds, number + 1, arms + bracket.arms
        assert left >= 0
        assert number < 100
    assert arms >= 1
    assert times < 4 or rounds < 9 or arms > times  # more configurations than whole runs
    assert next_bracket(0, rounds, 3, 0.9 * rounds, least) is None


def test_what_does_not_suffice_for_the_next_bracket_is_spent_on_another():
    """Rounds may cost more than those before: a study would have ended with half of its budget."""
    assert next_bracket(1, 27, 3, 36, least=3) == Bracket(2, (9, 27), 3)
    assert next_bracket(1, 27, 3, 35, least=3) == Bracket(3, (3, 9, 27), 3)
    assert next_bracket(1, 27, 3, 29, least=3) == Bracket(1, (27,), 3)
    assert next_bracket(1, 27, 3, 26, least=3) is None


def test_there_is_no_bracket_of_whole_runs_where_arms_can_be_compared():
    left, brackets = 200, []
    while (bracket := next_bracket(len(brackets), 12, 3, left, least=3)) is not None:
        brackets.append(bracket)
        left -= bracket.rounds
    assert sum(bracket.arms for bracket in brackets) == 30
    assert all(bracket.rungs == (4, 12) for bracket in brackets)


def test_arms_are_not_compared_before_the_least_rounds():
    assert next_bracket(0, 27, 3, 1000, least=1).rungs == (1, 3, 9, 27)
    assert next_bracket(0, 27, 3, 1000, least=3).rungs == (3, 9, 27)
    assert next_bracket(0, 12, 3, 1000, least=3).rungs == (4, 12)
    assert next_bracket(0, 27, 3, 1000, least=4).rungs == (9, 27)
    assert next_bracket(0, 27, 3, 1000, least=28).rungs == (27,)
    assert [least_rounds(ModelConfig(), rounds) for rounds in (300, 81, 36, 27, 12, 6, 2)] == [75, 21, 9, 9, 4, 2, 1]


@pytest.mark.parametrize(
    ("trainable", "least"), [("all", 9), ("lora", 9), ("bias", 9), ("head", 1), ("layers:pooler|classifier", 1)]
)
def test_upper_layers_of_a_pretrained_model_are_compared_at_once(trainable, least):
    assert least_rounds(ModelConfig(pretrained="x", trainable=trainable), 27) == least
    assert least_rounds(ModelConfig(trainable=trainable), 27) == 9


def test_arms_are_compared_on_the_clients_that_both_were_scored_on():
    rng = np.random.default_rng(2)
    values, weights = rng.normal(0.0, 1.0, 40), np.ones(40)
    worse = Scores(values + 1 + 0.1 * rng.normal(size=40), weights)
    few = Scores(values[:20], weights[:20])
    assert few.beats(worse)
    assert not worse.beats(few)
