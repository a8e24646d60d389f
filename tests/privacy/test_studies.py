"""Privacy of studies: what many runs cost together, and which way is cheaper."""

import math

import pytest
from dp_accounting import GaussianDpEvent
from dp_accounting.pld import PLDAccountant

from tff_tx.config import RunConfig
from tff_tx.core.errors import UserError
from tff_tx.privacy import build_plan, studies
from tff_tx.privacy.accounting import epsilon

SETTINGS = {
    "privacy.mechanism": "gaussian",
    "privacy.target_epsilon": 4.0,
    "privacy.population": 10_000,
    "privacy.accountant": "rdp",
    "cohort.sampling": "poisson",
    "cohort.clients_per_round": 10,
    "run.rounds": 20,
}


def plan(**more):
    return build_plan(RunConfig.of({**SETTINGS, **more}), 1000, 500)


@pytest.mark.slow
@pytest.mark.parametrize(("total", "method"), [(30, studies.COMPOSITION), (2000, studies.SELECTION)])
def test_the_cheaper_way_is_chosen_and_keeps_the_epsilon(total, method):
    run = plan()
    found = studies.study_plan(run, total, 4.0)
    mechanism = run.ledger.mechanism.with_noise(found.noise_multiplier)
    assert found.method == method
    assert found.noise_multiplier == min(found.by_method.values()) > run.noise_multiplier
    composed = epsilon(mechanism, total, found.delta, "rdp")
    selected = studies.selection_epsilon(mechanism, 20, total / 20, found.delta)
    spent, other = (composed, selected) if method == studies.COMPOSITION else (selected, composed)
    assert 3.8 < spent <= 4.0 < other
    assert all(f"{noise:.4g}" in found.describe() for noise in found.by_method.values())
    assert found.method in found.statement()


def test_without_a_target_the_noise_is_that_of_the_run():
    found = studies.study_plan(plan(**{"privacy.target_epsilon": None, "privacy.noise_multiplier": 1.0}), 100, None)
    assert found.noise_multiplier == 1.0
    assert found.epsilon > epsilon(plan().ledger.mechanism.with_noise(1.0), 20, found.delta, "rdp")


def test_selection_is_that_of_dp_accounting_and_needs_poisson_sampling():
    mechanism = plan().ledger.mechanism.with_noise(2.0)
    several = [studies.selection_epsilon(mechanism, 20, runs, 1e-5) for runs in (1.5, 10, 100)]
    assert epsilon(mechanism, 20, 1e-5, "rdp") < several[0] < several[1] < several[2]
    uniform = plan(**{"cohort.sampling": "uniform"}).ledger.mechanism
    assert studies.selection_epsilon(uniform, 20, 10, 1e-5) == math.inf


@pytest.mark.parametrize("mechanism", ["gaussian", "adaptive"])
def test_each_arm_begins_the_turns_of_a_sampler_anew(mechanism):
    """A client is once in a run of 5 rounds with a separation of 100, and may be in each of 8 such runs."""
    turns = {"privacy.mechanism": mechanism, "cohort.sampling": "min_separation", "run.rounds": 5}
    run = plan(**turns)
    assert run.ledger.mechanism.participation.count(5) == run.ledger.mechanism.participation.count(40) == 1
    found = studies.study_plan(run, 40, 4.0)
    in_each = GaussianDpEvent(found.noise_multiplier / math.sqrt(8))
    assert PLDAccountant().compose(in_each).get_epsilon(found.delta) <= 4.0
    as_it_is = studies.study_plan(run, 40, None)
    once = PLDAccountant().compose(GaussianDpEvent(as_it_is.noise_multiplier / math.sqrt(8)))
    assert as_it_is.epsilon >= once.get_epsilon(found.delta) > 4.0


def test_correlated_noise_is_rejected():
    tree = plan(**{"privacy.mechanism": "tree", "cohort.sampling": "min_separation"})
    with pytest.raises(UserError, match="choose gaussian or adaptive"):
        studies.study_plan(tree, 100, 4.0)
