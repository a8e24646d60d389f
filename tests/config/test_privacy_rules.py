"""Settings that would void a privacy guarantee, or have no effect on it."""

import pytest

from tests.complaints import problem
from tff_tx.config import RunConfig, check, resolve

NOISE = {"privacy.noise_multiplier": 1.0}
GAUSSIAN = {**NOISE, "privacy.mechanism": "gaussian", "cohort.sampling": "poisson"}
UNIFORM = {**GAUSSIAN, "cohort.sampling": "uniform"}
ADAPTIVE = {**GAUSSIAN, "privacy.mechanism": "adaptive"}
TREE = {**NOISE, "privacy.mechanism": "tree", "cohort.sampling": "min_separation"}
WORKING = {"devices.seconds_per_example": 0.1}
EXAMPLES = {"example_privacy.clip_norm": 2.0, "example_privacy.noise_multiplier": 1.5, "client.epochs": 3}
UPDATES = {"local_privacy.clip_norm": 2.0, "local_privacy.noise_multiplier": 8.0}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        *(
            ({f"privacy.{name}": value}, f"privacy.{name}={value} has no effect with privacy.mechanism=none")
            for name, value in {
                "clip_norm": 1.0,
                "target_epsilon": 1.0,
                "noise_multiplier": 1.0,
                "stop_at_epsilon": 2.0,
                "population": 1000,
                "accountant": "rdp",
                "amplification": "none",
                "metrics": "private",
                "noise_seed": 3,
                "sampling_seed": 3,
            }.items()
        ),
        ({"privacy.target_delta": 1e-5}, "privacy.target_delta=1e-05 has no effect without privacy.mechanism"),
        ({"privacy.mechanism": "gaussian"}, "set exactly one"),
        ({**GAUSSIAN, "privacy.target_epsilon": 1.0}, "set exactly one"),
        ({**GAUSSIAN, "privacy.clip_norm": 0}, "privacy.clip_norm=0.0: must be above 0"),
        ({**GAUSSIAN, "privacy.clip_norm": "inf"}, "privacy.clip_norm=inf: must be at most 3e+38"),
        ({**GAUSSIAN, "privacy.noise_multiplier": -1}, "privacy.noise_multiplier=-1.0: must be at least 0"),
        (
            {**GAUSSIAN, "privacy.metrics": "private", "privacy.metrics_share": 1},
            "privacy.metrics_share=1.0: must be below 1",
        ),
        (
            {**GAUSSIAN, "privacy.clip_quantile": 0.4},
            "privacy.clip_quantile=0.4 has no effect with privacy.mechanism=gaussian: remove it, or set "
            "privacy.mechanism=adaptive",
        ),
        (
            {**GAUSSIAN, "privacy.metrics_share": 0.1},
            "privacy.metrics_share=0.1 has no effect with privacy.metrics=exact",
        ),
        ({**GAUSSIAN, "privacy.restart_rounds": 8}, "or set privacy.mechanism=tree"),
        ({**TREE, "privacy.bands": 8}, "or set privacy.mechanism=banded"),
    ],
)
def test_settings_of_mechanisms(values, sentence):
    assert sentence in problem(values)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        *(
            (
                {**GAUSSIAN, "aggregation.aggregator": name, **more},
                f"privacy.mechanism=gaussian cannot be combined with aggregation.aggregator={name}",
            )
            for name, more in (
                ("krum", {}),
                ("median", {}),
                ("centered_clipping", {"aggregation.centered_clip_norm": 1.0}),
            )
        ),
        ({**GAUSSIAN, "aggregation.clip_norm": "1"}, "cannot be combined with aggregation.clip_norm=1"),
        ({**GAUSSIAN, "aggregation.zeroing_norm": "1"}, "cannot be combined with aggregation.zeroing_norm=1"),
        ({**GAUSSIAN, **UPDATES}, "cannot be combined with local_privacy.clip_norm=2.0"),
        ({**GAUSSIAN, "algorithm.weighted": True}, "a client that counts by its number of examples"),
        (
            {**GAUSSIAN, "algorithm.name": "mime_lite"},
            "privacy.mechanism=gaussian cannot be combined with algorithm.name=mime_lite: it does not hide what "
            "clients send besides their update",
        ),
        ({**UNIFORM, "cohort.buffer_size": 4, **WORKING}, "a client takes part as often as its device is fast"),
        ({**UNIFORM, "cohort.over_selection": 1.3, "devices.dropout_rate": 0.1}, "fast devices displace slow ones"),
        ({**UNIFORM, "devices.availability": "diurnal", **WORKING}, "or set cohort.sampling=poisson"),
        (
            {**GAUSSIAN, "cohort.min_clients": 2},
            "cannot be combined with cohort.min_clients=2: the number of clients would decide what is released",
        ),
        ({**GAUSSIAN, "cohort.max_round_retries": 2}, "cannot be combined with cohort.max_round_retries=2"),
        (
            {**TREE, "cohort.sampling": "poisson"},
            "privacy.mechanism=tree needs cohort.sampling=min_separation (found cohort.sampling=poisson)",
        ),
        (
            {**NOISE, "privacy.mechanism": "banded"},
            "privacy.mechanism=banded needs cohort.sampling=min_separation (found cohort.sampling=uniform)",
        ),
        (
            {**GAUSSIAN, "compression.upload": "top_k"},
            "the error feedback of compression.upload=top_k cannot be combined with privacy.mechanism=gaussian: it "
            "sends what was left out in earlier rounds beyond the clip",
        ),
        ({**ADAPTIVE, "compression.upload": "eden1"}, "needs a fixed clip; choose the mechanism gaussian"),
        ({**GAUSSIAN, "run.keep_updates": True}, "it stores the single updates that the mechanism hides"),
        ({**GAUSSIAN, "data.dataset": "breast_cancer"}, "task.standardize=True adds up exact sums"),
    ],
)
def test_settings_that_would_void_the_guarantee(values, sentence):
    assert sentence in problem(values)


@pytest.mark.parametrize(
    "values",
    [
        {},
        GAUSSIAN,
        ADAPTIVE,
        TREE,
        {**GAUSSIAN, "devices.availability": "diurnal", **WORKING},
        {**GAUSSIAN, "devices.dropout_rate": 0.2, "devices.report_deadline": 60.0, **WORKING},
        {**GAUSSIAN, "algorithm.name": "fed_sgd"},
        {**GAUSSIAN, "algorithm.weighted": False},
        {**TREE, "compression.upload": "eden1"},
        {**GAUSSIAN, "compression.upload": "top_k", "compression.error_feedback": False},
        {**GAUSSIAN, "data.dataset": "breast_cancer", "task.standardize": False},
        UPDATES,
        {**UPDATES, "algorithm.weighted": False},
        EXAMPLES,
        *({**values, "privacy.target_delta": 1e-7} for values in (GAUSSIAN, UPDATES, EXAMPLES)),
    ],
)
def test_settings_that_keep_it(values):
    check(resolve(RunConfig.of(values)))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({**UPDATES, "algorithm.weighted": True}, "a client's number of examples would not be hidden"),
        ({"example_privacy.clip_norm": 1.0}, "example_privacy.clip_norm=1.0 needs example_privacy.noise_multiplier"),
        ({"local_privacy.clip_norm": 1.0}, "local_privacy.clip_norm=1.0 needs local_privacy.noise_multiplier"),
        (
            {"example_privacy.noise_multiplier": 1.0},
            "example_privacy.noise_multiplier=1.0 has no effect without example_privacy.clip_norm",
        ),
        (
            {"local_privacy.noise_multiplier": 1.0},
            "local_privacy.noise_multiplier=1.0 has no effect without local_privacy.clip_norm",
        ),
        (
            {"example_privacy.microbatches": 2},
            "example_privacy.microbatches=2 has no effect without example_privacy.clip_norm",
        ),
        *(
            (
                {**EXAMPLES, "example_privacy.microbatches": number},
                f"example_privacy.microbatches={number} do not part client.batch_size=16 evenly",
            )
            for number in (3, 17, 2**31 - 1)
        ),
        (
            {**EXAMPLES, "algorithm.name": "mime_lite"},
            "example_privacy.clip_norm=2.0 cannot be combined with algorithm.name=mime_lite",
        ),
        (
            {**UPDATES, "algorithm.name": "mime_lite"},
            "local_privacy.clip_norm=2.0 cannot be combined with algorithm.name=mime_lite",
        ),
        ({**EXAMPLES, "example_privacy.clip_norm": "inf"}, "example_privacy.clip_norm=inf: must be at most 3e+38"),
        ({**EXAMPLES, "example_privacy.clip_norm": 0}, "example_privacy.clip_norm=0.0: must be above 0"),
        (
            {**EXAMPLES, "client.epochs": None, "client.steps": 4},
            "example_privacy.clip_norm=2.0 cannot be combined with client.steps=4: an example may be in a batch twice; "
            "set client.epochs",
        ),
        (
            {**UPDATES, "aggregation.aggregator": "attention", "aggregation.attention_key": "loss"},
            "the loss that clients would send is not hidden",
        ),
    ],
)
def test_privacy_inside_of_clients(values, sentence):
    assert sentence in problem(values)


def test_examples_are_hidden_in_parts_of_batches_too():
    """Noise is added once a batch, which `tests.algorithms.client.test_accumulation` shows."""
    check(resolve(RunConfig.of({**EXAMPLES, "client.gradient_accumulation_steps": 2})))
