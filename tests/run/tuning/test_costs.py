"""What brackets will cost, against sums by hand."""

import math
import types

import numpy as np
import pytest

from tff_tx.config.budget import BYTES, CLIENT_SECONDS, ROUNDS, SECONDS, Budget
from tff_tx.run.tuning.brackets import Bracket
from tff_tx.run.tuning.costs import Costs
from tff_tx.run.tuning.records import Records
from tff_tx.run.tuning.scores import Scores

BRACKET = Bracket(3, (4, 12), 3)  # 3 arms for 4 rounds and one for 8 more, scored by 2 and then by 6 clients
PER_CLIENT = {CLIENT_SECONDS: 5.0, BYTES: 100.0}
EVERYONE = 10


def costs(records, cost, amount=1000.0):
    def cost_of_scores(first, end):
        return {unit: (end - first) * each for unit, each in PER_CLIENT.items()}

    arms = types.SimpleNamespace(clients=[f"client {n}" for n in range(EVERYONE)], cost_of_scores=cost_of_scores)
    return Costs(Budget(amount, cost), records, arms, first_clients=2)


def train(records, arm, rounds, more):
    """Rounds of 7 client-seconds, 40 bytes, and 3 seconds."""
    records.train(arm, rounds, {ROUNDS: more, CLIENT_SECONDS: 7.0 * more, BYTES: 40.0 * more, SECONDS: 3.0 * more})


def score(records, arm, rounds, clients, new):
    """Each client takes 1.5 seconds."""
    cost = {unit: new * each for unit, each in PER_CLIENT.items()} | {SECONDS: 1.5 * new}
    records.score(arm, rounds, Scores(np.zeros(clients), np.ones(clients)), cost)


@pytest.fixture
def probed(tmp_path):
    """Records of the first arm's first rung."""
    records = Records(str(tmp_path))
    train(records, 0, 4, 4)
    score(records, 0, 4, 2, 2)
    return records


@pytest.mark.parametrize(
    ("cost", "per_round", "per_client"), [(CLIENT_SECONDS, 7, 5), (BYTES, 40, 100), (SECONDS, 3, 1.5)]
)
def test_a_bracket_costs_its_rounds_and_all_that_score_its_arms(probed, cost, per_round, per_client):
    found = costs(probed, cost)
    assert found.left() == 1000  # what is spent is a part of the bracket that will be begun
    assert found.of(BRACKET) == pytest.approx(20 * per_round + (3 * 2 + EVERYONE) * per_client)
    assert found.of(Bracket(2, (12,), 3)) == pytest.approx(24 * per_round + 2 * EVERYONE * per_client)


def test_arms_that_were_close_or_are_not_scored_by_all_clients_cost_more(probed):
    probed.begin(BRACKET, [{}, {}, {}])
    for arm in (1, 2):
        train(probed, arm, 4, 4)
        score(probed, arm, 4, 2, 2)
    score(probed, 1, 4, 5, 3)  # 9 clients in place of 6
    train(probed, 0, 12, 8)
    score(probed, 0, 12, 6, 6)
    found = costs(probed, CLIENT_SECONDS)
    assert found.left() == pytest.approx(1000 - 20 * 7 - (9 + 6) * 5 - (EVERYONE - 6) * 5)
    assert found.of(BRACKET) == pytest.approx(20 * 7 + (3 * 2 * 9 / 6 + EVERYONE) * 5)


def test_an_arm_that_has_diverged_shows_nothing_of_what_evaluations_take(probed):
    before = costs(probed, SECONDS).of(BRACKET)
    probed.score(1, 4, Scores(np.full(2, np.inf), np.ones(2)), {SECONDS: 0.001})
    assert costs(probed, SECONDS).of(BRACKET) == before


def test_of_time_arms_and_evaluations_also_cost_what_traces_them(tmp_path):
    """An arm takes 10 seconds more each time it goes on, and the first evaluation 20 more than its client."""
    records = Records(str(tmp_path))
    records.train(0, 4, {ROUNDS: 4, CLIENT_SECONDS: 28.0, BYTES: 160.0, SECONDS: 10 + 4 * 3.0}, start=10.0)
    for clients, seconds in ((1, 20 + 1.5), (2, 1.5)):
        weights = np.ones(clients)
        records.score(0, 4, Scores(np.zeros(clients), weights), {**PER_CLIENT, SECONDS: seconds})
    starts = (3 + 1) * 10 + (3 + 1) * 20 / 2
    assert costs(records, SECONDS).of(BRACKET) == pytest.approx(20 * 3 + (3 * 2 + EVERYONE) * 1.5 + starts)
    assert costs(records, CLIENT_SECONDS).of(BRACKET) == pytest.approx(20 * 7 + (3 * 2 + EVERYONE) * 5)
    assert costs(Records(str(tmp_path)), SECONDS).of(BRACKET) == costs(records, SECONDS).of(BRACKET)


def test_of_a_budget_in_rounds_scores_are_free(tmp_path):
    records = Records(str(tmp_path))
    found = costs(records, ROUNDS, 40)
    assert (found.left(), found.of(BRACKET)) == (40, 20)
    records.begin(BRACKET, [{}, {}, {}])
    train(records, 0, 4, 4)
    score(records, 0, 4, 2, 2)
    assert found.left() == 36


def test_what_a_study_has_cost_is_read_again(probed, tmp_path):
    score(probed, 0, 4, 5, 3)
    again = Records(str(tmp_path))
    assert again.spent == probed.spent
    assert again.spent[CLIENT_SECONDS] == pytest.approx(4 * 7 + 5 * 5)
    assert (again.evaluations, again.training[ROUNDS]) == ([(2, 3.0), (3, 4.5)], 4)
    assert math.isclose(again.scoring[SECONDS], 7.5)
