"""What a study says in the end."""

import types

import pytest

from tff_tx.config.budget import BYTES, ROUNDS, Budget
from tff_tx.privacy.studies import SELECTION
from tff_tx.run.tuning import report


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
