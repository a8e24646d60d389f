"""What secure aggregation forbids: whatever is no sum, each with its reason."""

import pytest

from tests.complaints import problem
from tff_tx.config import RunConfig, check, resolve

MASKS = {"aggregation.secure": "masks", "data.dataset": "digits", "cohort.clients_per_round": 8}
FEDERATION = {"engine.name": "federation", "data.dataset": "file", "data.files": ("{silo}",), "data.silos": ("a", "b")}
FEDERATION |= {"task.kind": "sequence_classification", "model.architecture": "bert"}


SKELLAM = {"privacy.mechanism": "skellam", "privacy.noise_multiplier": 1.0}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"aggregation.aggregator": "krum"}, "it needs single updates, and a secure sum shows none"),
        ({"aggregation.aggregator": "median"}, "choose one of mean, attention, centered_clipping"),
        ({"compression.upload": "top_k", "compression.error_feedback": False}, "their sum is none of updates"),
        ({"compression.upload": "eden4"}, "choose uniform, stochastic or rotated and their bits"),
        ({"compression.upload": "uniform4", "compression.error_feedback": True}, "leave nothing to be sent later"),
        ({"compression.upload": "uniform4", "aggregation.secure_bits": 16}, "the quantizer sets the bits"),
        ({"run.keep_updates": True}, "it stores the single updates that the sum hides"),
        ({"engine.name": "tff_native"}, "TFF's runtime has no secure sums"),
        ({"algorithm.name": "mime_lite"}, "more than sums of updates, examples and metrics"),
        ({"cohort.sampling": "poisson"}, "the modulus is for a largest cohort"),
        ({"cohort.buffer_size": 2, "devices.seconds_per_example": 1.0}, "masks are bound to one broadcast model"),
        (
            {"privacy.mechanism": "gaussian", "privacy.noise_multiplier": 1.0},
            "rounding to levels may lengthen an update beyond the clip",
        ),
        ({**FEDERATION, "aggregation.secure": "arithmetic"}, "it protects nobody; choose masks or bfv"),
        ({**FEDERATION, "cohort.sampling": "by_size"}, "participants do not tell how many examples their clients have"),
        ({**SKELLAM, "aggregation.secure": "none"}, "needs aggregation.secure other than none"),
        ({**SKELLAM, "privacy.metrics": "private"}, "the server would see the sums to which it adds noise"),
        ({**SKELLAM, "compression.upload": "uniform8"}, "clients send levels of a grid already"),
        ({**SKELLAM, "privacy.amplification": "without_replacement"}, "amplified by no theorem"),
        ({**SKELLAM, "aggregation.secure_bits": 25}, "aggregation.secure_bits=25 is more than 24"),
        ({"aggregation.secure": "bfv", "engine.name": "ray"}, "needs engine.name=local or federation"),
        ({"aggregation.key_holder": "clinic"}, "aggregation.key_holder=clinic has no effect with"),
        ({**FEDERATION, "aggregation.secure": "bfv", "aggregation.key_holder": "a"}, "is among data.silos"),
        ({"aggregation.secure": "bfv", "aggregation.secure_colluding": 0.3}, "aggregation.secure=masks, or a privacy"),
        ({"attack.name": "sign_flip"}, "attackers are simulated by sums in the clear"),
    ],
)
def test_what_is_no_sum_is_refused(values, sentence):
    assert sentence in problem({**MASKS, **values})


@pytest.mark.parametrize(
    "values",
    [
        {"algorithm.weighted": False},
        {"aggregation.aggregator": "attention"},
        {"aggregation.aggregator": "attention", "aggregation.attention_key": "loss", "client.epochs": 1},
        {"aggregation.clip_norm": "adaptive", "aggregation.zeroing_norm": "2.0"},
        {"compression.upload": "rotated4"},
        {"compression.upload": "uniform8"},
        {"algorithm.name": "fed_prox", "algorithm.proximal_strength": 0.1},
        {"engine.name": "ray"},
        SKELLAM,
        {"aggregation.secure": "bfv", "aggregation.secure_dropping": 0.3},
        {**SKELLAM, "privacy.mechanism": "discrete_gaussian", "aggregation.secure": "arithmetic"},
        {**SKELLAM, "aggregation.secure": "arithmetic", "aggregation.secure_dropping": 0.3},
        {**SKELLAM, "privacy.metrics": "withheld", "aggregation.secure_bits": 16},
        {"local_privacy.clip_norm": 1.0, "local_privacy.noise_multiplier": 1.0},
    ],
)
def test_what_is_a_sum_goes_through(values):
    check(resolve(RunConfig.of({**MASKS, **values})))


@pytest.mark.parametrize("name", ["secure_colluding", "secure_dropping", "secure_passive_server", "secure_bits"])
def test_the_protocols_settings_need_it(name):
    values = {"secure_passive_server": True, "secure_bits": 16}
    found = problem({"aggregation." + name: values.get(name, 0.3)})
    assert f"aggregation.{name}" in found
    assert "has no effect" in found
