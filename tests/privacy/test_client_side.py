"""Ledgers of privacy inside of the client."""

import math

import pytest

from tests.analysis.auditing.gaussian import gaussian_epsilon
from tff_tx.config import RunConfig
from tff_tx.core.errors import UserError
from tff_tx.privacy import build_client_side_ledgers

UPDATES = {"local_privacy.clip_norm": 2.0, "local_privacy.noise_multiplier": 8.0}
EXAMPLES = {"example_privacy.clip_norm": 2.0, "example_privacy.noise_multiplier": 1.5, "client.epochs": 3}


def ledgers(values, sizes):
    return build_client_side_ledgers(RunConfig.of(values), sizes)


def test_nothing_is_private_by_default():
    found = ledgers({}, [5])
    assert (found.figures(3), found.config(), found.statements(3)) == ({}, {}, {})


def test_updates_are_accounted_as_replaced_in_every_round():
    found = ledgers(UPDATES, [5] * 100)
    delta = 100**-1.1
    for rounds in (1, 9):
        expected = gaussian_epsilon(8 / (2 * math.sqrt(rounds)), delta)
        assert found.figures(rounds) == {"privacy/epsilon": pytest.approx(expected, rel=1e-4)}
    assert found.config() == {"clients": {"noise_multiplier": 8, "delta": delta}}
    assert "replace-one client" in found.statements(9)["Privacy of clients"]


def test_examples_are_accounted_as_used_once_a_pass():
    found = ledgers(EXAMPLES, [50, 40])
    expected = gaussian_epsilon(1.5 / math.sqrt(4 * 3), 1e-5)
    assert found.figures(4) == {"privacy/example_epsilon": pytest.approx(expected, rel=1e-4)}
    assert "one of the 40 examples" in found.statements(4)["Privacy of examples"]


def test_an_example_moves_a_microbatch_by_twice_the_clip():
    found = ledgers({**EXAMPLES, "client.batch_size": 8, "example_privacy.microbatches": 4}, [50, 40])
    expected = gaussian_epsilon(1.5 / (2 * math.sqrt(3)), 1e-5)
    assert found.figures(1) == {"privacy/example_epsilon": pytest.approx(expected, rel=1e-4)}


@pytest.mark.parametrize(("sizes", "most"), [([1, 8], 1e-5), ([8] * 100_000, 800_000**-1)])
def test_delta_of_examples_would_publish_none_of_all(sizes, most):
    """A delta of the smallest client's examples alone is 0.1, at which one in ten might be published."""
    assert ledgers(EXAMPLES, sizes).examples.delta <= most


def test_delta_may_be_given():
    for name, values in (("clients", UPDATES), ("examples", EXAMPLES)):
        assert ledgers({**values, "privacy.target_delta": 1e-7}, [50, 40]).config()[name]["delta"] == 1e-7
        with pytest.raises(UserError, match=rf"privacy.target_delta=0.6 is more than one over the \d+ {name}"):
            ledgers({**values, "privacy.target_delta": 0.6}, [50, 40])


@pytest.mark.parametrize(
    ("kind", "unit"),
    [
        ("sequence_classification", "one record of the data"),
        ("causal_lm", "a block of a client's joined texts, and no whole text: what is in k of them has k times"),
        ("forecasting", "a window of a series, and no record: windows overlap, and what is in k of them"),
        ("question_answering", "a question with a window of its context"),
    ],
)
def test_the_statement_says_what_an_example_is(kind, unit):
    stated = ledgers({**EXAMPLES, "task.kind": kind}, [50, 40]).statements(4)["Privacy of examples"]
    assert f"of a client (the smallest client, where they differ); an example is {unit}" in stated
