"""What a study says and leaves in the end."""

import os
import types

import numpy as np
import pandas as pd
import pytest

from tff_tx.config import FIELDS, RunConfig
from tff_tx.config.budget import BYTES, COSTS, ROUNDS, Budget
from tff_tx.config.space import Space
from tff_tx.privacy.studies import SELECTION
from tff_tx.run.tuning import report
from tff_tx.run.tuning.brackets import Bracket
from tff_tx.run.tuning.scores import Scores


@pytest.mark.parametrize(
    ("budget", "spent", "method", "sentence"),
    [
        (Budget(10.0), 9.0, None, "90% of the budget of 10 rounds"),
        (Budget(10.0), 11.0, None, "10.0% over the budget of 10 rounds, which was larger before"),
        (Budget(10.0), 11.0, SELECTION, "10.0% over the budget of 10 rounds, as the number of private runs is drawn"),
        (Budget(1e6, BYTES), 1.1e6, None, "10.0% over the budget of 1 MB, as what came last cost more than what came "),
    ],
)
def test_a_study_over_its_budget_says_why(budget, spent, method, sentence):
    """A study in rounds knows what a bracket costs, and can only be over a budget that was larger before."""
    records = types.SimpleNamespace(spent={ROUNDS: spent, BYTES: spent})
    plan = None if method is None else types.SimpleNamespace(method=method)
    study = types.SimpleNamespace(records=records, budget=budget, plan=plan)
    assert report._share_spent(study).startswith(sentence)


@pytest.mark.parametrize(
    ("rungs", "arms", "words"), [((1, 3), 5, "5 arms"), ((3,), 5, "5 arms, all of them whole runs"), ((3,), 1, "1 arm")]
)
def test_arms_that_were_never_compared_early_are_said(rungs, arms, words):
    records = types.SimpleNamespace(brackets=[(Bracket(arms, rungs, 3), [{}] * arms)])
    assert report._number(types.SimpleNamespace(records=records), arms) == words


def test_the_summary_is_to_be_read():
    """Rates to four digits, and no standard error of a single client."""
    table = pd.DataFrame(
        {"client_learning_rate": [0.0005414817848483621], "batch_size": [16], "loss": [0.5], "standard_error": [np.inf]}
    ).assign(clients=1, verdict="best", arm=0)
    study = types.SimpleNamespace(
        records=types.SimpleNamespace(brackets=[(Bracket(1, (3,), 3), [{}])], spent=dict.fromkeys(COSTS, 0.0)),
        arms=types.SimpleNamespace(metric=types.SimpleNamespace(name="loss")),
        space=Space.of({"client_learning_rate": True, "batch_size": [8, 16]}),
        **{"plan": None, "budget": Budget(9.0), "directory": "runs/study"},
    )
    found = report._summary(study, table, 0)
    assert "client_learning_rate=0.0005415, batch_size=16" in found
    assert "loss 0.5, of one client, so that nothing is known of its noise" in found


def test_the_best_arm_so_far_is_the_best_until_the_end_of_the_study():
    """Brackets of two arms for 1 round and one for 2 more, whose whole arms are 0, 2 and 5."""

    def scores(arm, rounds):
        found = {0: 0.5, 2: 0.4, 5: 0.6}.get(arm)
        return None if found is None else Scores(np.array([found, found]), np.ones(2))

    brackets = [(Bracket(2, (1, 3), 2), [{}, {}])] * 3
    records = types.SimpleNamespace(brackets=brackets, scores=scores)
    study = types.SimpleNamespace(records=records, config=RunConfig.of({"run.rounds": 3}))
    assert [(spent, scores.mean) for spent, scores in report._incumbents(study)] == [(4, 0.5), (8, 0.4), (12, 0.4)]


def test_rounds_of_a_plot_are_whole_numbers(monkeypatch):
    """Also of a study of one bracket, whose best arm so far is a single point."""
    scores = Scores(np.array([0.5, 0.6]), np.ones(2))
    records = types.SimpleNamespace(
        brackets=[(Bracket(1, (3,), 3), [{}])], scores=lambda arm, rounds: scores, curve=lambda arm: {3: scores}
    )
    metric = types.SimpleNamespace(name="loss")
    arms = types.SimpleNamespace(metric=metric, shown=float)
    config = RunConfig.of({"run.rounds": 3})
    study = types.SimpleNamespace(records=records, arms=arms, config=config, _values=lambda: [{}])
    drawn = []
    monkeypatch.setattr(report.plots, "save", lambda figure, path: drawn.append(figure))
    report._draw_incumbent(study, "")
    for axes in drawn[0].axes:
        assert all(tick == round(tick) for tick in axes.get_xticks())


def test_numbers_of_the_table_are_numbers():
    """So that a notebook sorts by them; the first arm is the configuration as it is."""
    values = [{}, {"client.batch_size": 8, "client.learning_rate": 0.5, "client.optimizer": "sgd"}]
    scores = [Scores(np.array([loss, loss]), np.ones(2)) for loss in (0.4, 0.3)]
    arms = types.SimpleNamespace(metric=types.SimpleNamespace(name="loss"), shown=float)
    records = types.SimpleNamespace(curve=lambda arm: {3: scores[arm]})
    space = Space.of({"client_learning_rate": True, "batch_size": True, "client_optimizer": True, "lora_rank": True})
    study = types.SimpleNamespace(records=records, arms=arms, config=RunConfig(), space=space, _values=lambda: values)
    table = report._table(study, 1)
    kinds = table.dtypes.map(lambda dtype: dtype.kind)[[FIELDS[path].flag for path in space.domains]]
    assert kinds.to_dict() == {
        "client_learning_rate": "f",
        "batch_size": "i",
        "client_optimizer": "O",
        "lora_rank": "O",
    }
    assert table.iloc[0, :6].to_list() == [1, 0.5, 8, "sgd", "8", 3]


def test_the_best_arm_is_linked_also_in_a_study_whose_copy_has_no_links(tmp_path):
    for number in (0, 1):
        (tmp_path / "arms" / str(number)).mkdir(parents=True)
    link = tmp_path / "best"
    link.mkdir()
    (link / "config.json").write_text("{}")
    for number in (0, 1):
        report._link(str(tmp_path / "arms" / str(number)), str(link))
        assert os.readlink(link) == f"arms/{number}"
    assert len(os.listdir(tmp_path / "arms")) == 2
