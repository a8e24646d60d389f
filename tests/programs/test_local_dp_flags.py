"""The flags of privacy inside of the client and of canaries: what they build, account for, and refuse."""

import math

import pytest

from programs import canary_flags, data_flags, local_dp_flags, model_flags, training_flags  # noqa: F401
from tests.analysis.auditing.gaussian import gaussian_epsilon
from tff_tx.core.errors import UserError

EXAMPLES = ("--example_dp_clip_norm=2", "--example_dp_noise_multiplier=1.5", "--local_epochs=3")
UPDATES = ("--noweighted", "--local_dp_clip_norm=2", "--local_dp_noise_multiplier=8")


def test_updates_are_accounted_as_replaced_in_every_round(parse):
    parse(*UPDATES)
    accounts = local_dp_flags.accounts([5] * 100, training_flags.local_training())
    delta = 100**-1.1
    for rounds in (1, 9):
        expected = gaussian_epsilon(8 / (2 * math.sqrt(rounds)), delta)
        assert accounts.figures(rounds) == {"privacy/epsilon": pytest.approx(expected, rel=1e-4)}
    assert accounts.config() == {"clients": {"noise_multiplier": 8, "delta": delta}}
    assert "replace-one client" in accounts.statements(9)["Privacy of clients"]


def test_examples_are_accounted_as_used_once_a_pass(parse):
    parse(*EXAMPLES)
    accounts = local_dp_flags.accounts([50, 40], training_flags.local_training())
    expected = gaussian_epsilon(1.5 / math.sqrt(4 * 3), 40**-1.1)
    assert accounts.figures(4) == {"privacy/example_epsilon": pytest.approx(expected, rel=1e-4)}
    assert "one of the 40 examples" in accounts.statements(4)["Privacy of examples"]


def test_an_example_moves_a_microbatch_by_twice_the_clip(parse):
    parse(*EXAMPLES, "--batch_size=8", "--microbatches=4")
    accounts = local_dp_flags.accounts([50, 40], training_flags.local_training())
    expected = gaussian_epsilon(1.5 / (2 * math.sqrt(3)), 40**-1.1)
    assert accounts.figures(1) == {"privacy/example_epsilon": pytest.approx(expected, rel=1e-4)}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (UPDATES[1:], "add --noweighted"),
        (("--example_dp_clip_norm=1",), "--example_dp_clip_norm=1.0 needs --example_dp_noise_multiplier"),
        (("--example_dp_noise_multiplier=1",), "in units of --example_dp_clip_norm"),
        (("--microbatches=2",), "--microbatches=2 parts batches"),
        ((*EXAMPLES, "--microbatches=5"), "5 microbatches do not part a batch of 16"),
        ((*EXAMPLES, "--algorithm=fed_sgd"), "choose fed_avg or fed_prox"),
        ((*EXAMPLES, "--example_dp_clip_norm=inf"), "infinite clip"),
        ((*EXAMPLES, "--example_dp_clip_norm=0"), "clip of 0.0 would stop"),
        ((*EXAMPLES[:2], "--local_steps=4"), "may be in a batch twice: set --local_epochs"),
    ],
)
def test_what_means_nothing_or_is_not_private_is_refused(parse, line, told):
    parse(*line)
    with pytest.raises(UserError, match=told):
        training_flags.check()


@pytest.mark.parametrize(
    ("line", "kind", "told"),
    [
        ((), "image_classification", "texts for causal_lm or masked_lm"),
        (("--canary_repetitions=1,x",), "causal_lm", "--canary_repetitions=1,x"),
        (("--canary_repetitions=0",), "causal_lm", "--canary_repetitions=0"),
        (("--canary_length=65",), "masked_lm", "--canary_length=65 is more than --max_length=64"),
    ],
)
def test_canaries_that_cannot_be_are_refused(parse, line, kind, told):
    parse("--canaries=5", *line)
    with pytest.raises(UserError, match=told):
        canary_flags.check(kind)
