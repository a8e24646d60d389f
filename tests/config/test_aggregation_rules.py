"""What the settings of aggregation, compression and attacks forbid each other."""

import re

import pytest

from tests.complaints import problem
from tff_tx.config import RunConfig, check, resolve
from tff_tx.core.errors import UserError

MEAN, KRUM, BULYAN = ({"aggregation.aggregator": name} for name in ("mean", "krum", "bulyan"))
ATTENTION, CENTERED = ({"aggregation.aggregator": name} for name in ("attention", "centered_clipping"))
BY_LOSS = {**ATTENTION, "aggregation.attention_key": "loss"}
TOP_K = {"compression.upload": "top_k"}
BUFFERED = {"cohort.buffer_size": 2, "devices.seconds_per_example": 1.0}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {**MEAN, "aggregation.assumed_attackers": 0.1},
            "aggregation.assumed_attackers=0.1 has no effect with aggregation.aggregator=mean: remove it, or set "
            "aggregation.aggregator=trimmed_mean or krum",
        ),
        (
            {**KRUM, "aggregation.attention_floor": 0.5},
            "aggregation.attention_floor=0.5 has no effect with aggregation.aggregator=krum",
        ),
        (
            {**KRUM, "aggregation.median_iterations": 3},
            "aggregation.median_iterations=3 has no effect with aggregation.aggregator=krum",
        ),
        (
            {**BULYAN, "aggregation.assumed_attackers": 0.25},
            "aggregation.aggregator=bulyan withstands less than 0.25 of the clients; lower it",
        ),
        (
            BULYAN,
            "aggregation.aggregator=bulyan withstands 1 attackers (aggregation.assumed_attackers=0.2) among 7 clients "
            "or more (found cohort.clients_per_round=5): raise that, or lower aggregation.assumed_attackers",
        ),
        (
            {**KRUM, "aggregation.assumed_attackers": 0.45},
            "withstands 2 attackers (aggregation.assumed_attackers=0.45) among 7 clients or more",
        ),
        (
            {**MEAN, "aggregation.aggregator": "trimmed_mean", "aggregation.assumed_attackers": 0.5},
            "aggregation.assumed_attackers=0.5: must be below 0.5",
        ),
        (CENTERED, "aggregation.aggregator=centered_clipping needs aggregation.centered_clip_norm"),
        ({**CENTERED, "aggregation.centered_clip_norm": 0}, "aggregation.centered_clip_norm=0.0: must be above 0"),
        (
            {**ATTENTION, "aggregation.attention_temperature": 0},
            "aggregation.attention_temperature=0.0: must be above 0",
        ),
        (
            {**ATTENTION, "aggregation.attention_step_size": "inf"},
            "aggregation.attention_step_size=inf: must be at most 3e+38",
        ),
        ({**BY_LOSS, "client.epochs": 2}, "aggregation.attention_key=loss cannot be combined with client.epochs=2"),
        ({"aggregation.clip_norm": "much"}, "aggregation.clip_norm=much: must be adaptive or a norm above 0"),
        ({"aggregation.zeroing_norm": "-1"}, "aggregation.zeroing_norm=-1: must be adaptive or a norm above 0"),
        ({"aggregation.aggregator": "mode"}, "aggregation.aggregator=mode: must be one of mean, attention"),
    ],
)
def test_aggregators(values, sentence):
    assert sentence in problem(values)


@pytest.mark.parametrize(
    "values",
    [
        {**KRUM, "cohort.clients_per_round": 4},
        {**KRUM, "aggregation.assumed_attackers": 0.45, "cohort.clients_per_round": 21},
        {**BULYAN, "cohort.clients_per_round": 7},
        {**CENTERED, "aggregation.centered_clip_norm": 1.0},
        BY_LOSS,
        {"aggregation.clip_norm": "adaptive", "aggregation.zeroing_norm": "2.5"},
    ],
)
def test_aggregators_that_fit(values):
    check(resolve(RunConfig.of(values)))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"compression.fraction": 0.1},
            "compression.fraction=0.1 has no effect with compression.upload=none: remove it, or choose top_k or "
            "random_k",
        ),
        (
            {"compression.upload": "eden1", "compression.rank": 3},
            "compression.rank=3 has no effect with compression.upload=eden1",
        ),
        ({**TOP_K, "compression.fraction": 0}, "compression.fraction=0.0: must be above 0"),
        (
            {"compression.error_feedback": True},
            "compression.error_feedback=True cannot be combined with compression.upload=none: nothing is left out",
        ),
        (
            {**TOP_K, "engine.name": "tff_native"},
            "the error feedback of compression.upload=top_k needs engine.name=local",
        ),
        (
            {**TOP_K, "aggregation.aggregator": "median"},
            "the error feedback of compression.upload=top_k cannot be combined with aggregation.aggregator=median",
        ),
        (
            {"compression.upload": "uniform2", "compression.error_feedback": True, "algorithm.name": "mime_lite"},
            "compression.error_feedback=True cannot be combined with algorithm.name=mime_lite",
        ),
        (
            {**TOP_K, "algorithm.name": "mime_lite"},
            "the error feedback of compression.upload=top_k cannot be combined with algorithm.name=mime_lite",
        ),
    ],
)
def test_compression(values, sentence):
    assert sentence in problem(values)


@pytest.mark.parametrize(
    "values",
    [
        TOP_K,
        {**TOP_K, "compression.error_feedback": False, "aggregation.aggregator": "median"},
        {"compression.download": "top_k", "compression.fraction": 0.1},
        {**BUFFERED, "compression.upload": "eden1"},
        {**BUFFERED, "compression.download": "uniform8"},
        {**BUFFERED, "engine.name": "ray"},
    ],
)
def test_compression_that_fits(values):
    check(resolve(RunConfig.of(values)))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"attack.share": 0.1}, "attack.share=0.1 has no effect with attack.name=none"),
        (
            {"attack.name": "sign_flip", "attack.noise": 1.0},
            "attack.noise=1.0 has no effect with attack.name=sign_flip: remove it, or set attack.name=gaussian or "
            "free_rider",
        ),
        (
            {"attack.name": "sign_flip", "algorithm.name": "mime_lite"},
            "attack.name=sign_flip cannot be combined with algorithm.name=mime_lite",
        ),
        (
            {"attack.name": "little_is_enough", "attack.share": 0.6},
            "attack.share=0.6 of cohort.clients_per_round=5 are 3: lower it, or set attack.scale",
        ),
        ({"attack.name": "label_flip"}, "attack.name=label_flip cannot be combined with task.kind=causal_lm"),
        ({"attack.name": "backdoor"}, "attack.name=backdoor cannot be combined with task.kind=causal_lm"),
        (
            {"attack.name": "model_replacement"},
            "attack.name=model_replacement cannot be combined with task.kind=causal_lm",
        ),
        (
            {"canaries.number": 5, "data.dataset": "digits"},
            "canaries.number=5 cannot be combined with task.kind=image_classification: canaries are texts",
        ),
        ({"canaries.number": 5, "canaries.length": 65}, "canaries.length=65 is more than task.max_length=64: lower it"),
    ],
)
def test_attacks_and_canaries(values, sentence):
    assert sentence in problem(values)


def test_messages_name_settings_by_their_flags_where_flags_are_used():
    with pytest.raises(UserError) as error:
        check(resolve(RunConfig.of(BULYAN)))
    shown = error.value.describe(lambda path: f"<{path}>")
    assert re.search("<aggregation.aggregator>=bulyan .* <cohort.clients_per_round>=5", shown)
