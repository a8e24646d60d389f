"""Predictions for a text are the same alone and in company, for every architecture or it is rejected by name."""

import pytest

from tests.models import architectures
from tff_tx import models, tasks
from tff_tx.core.errors import UserError
from tff_tx.tasks.kind import TextTask

FAST = (("SequenceClassification", "bert"), ("SequenceClassification", "gpt2"))
ONE_HEAD = {architecture: head for head, architecture in reversed(architectures.text_members())}
"""For each architecture one head, as far as that makes no difference."""
SLOW = [*((head, name) for name, head in ONE_HEAD.items()), ("TokenClassification", "xlnet"), ("MaskedLM", "funnel")]


def check(head, architecture):
    found = architectures.dependence(architectures.tiny(head, architecture))
    fault = models.padding_fault(f"TFAutoModelFor{head}", architecture)
    assert (found < 1e-4) == (fault is None), found


@pytest.mark.parametrize(("head", "architecture"), FAST)
def test_padding_is_no_information(head, architecture):
    check(head, architecture)


@pytest.mark.slow
@pytest.mark.parametrize(("head", "architecture"), sorted(set(SLOW) - set(FAST)))
def test_padding_is_no_information_for_any_architecture(head, architecture):
    check(head, architecture)


@pytest.mark.parametrize("kind", ["sequence_classification", "token_classification", "masked_lm"])
def test_an_architecture_that_depends_on_padding_is_rejected(kind):
    definition = tasks.task_kind(kind)
    assert isinstance(definition, TextTask)
    config = architectures.CONFIG_CLASSES["convbert"]()
    with pytest.raises(UserError, match="^convbert: its predictions for a text depend on .* convolutions"):
        definition.check_config(config, {})
    definition.check_config(architectures.CONFIG_CLASSES["bert"](), {})
