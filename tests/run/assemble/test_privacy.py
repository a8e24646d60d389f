"""The noise of a private run, from its plan to the aggregate."""

import math

import numpy as np
import pytest

from tests.aggregators import echo
from tests.privacy.plans import ADAPTIVE, GAUSSIAN, TREE, plan
from tff_tx.aggregators import dp
from tff_tx.config import RunConfig
from tff_tx.run.assemble import aggregation as assemble
from tff_tx.runtime import LocalEngine


def first_noise(found, size=20_000):
    """The noise of the mean in a first round without clients."""
    parts = assemble.private_parts(found)
    assert parts["weighted"] is False
    with LocalEngine(echo.process(parts["aggregator"], size)) as engine:
        ((noise,),) = [echo.aggregates(engine, [[]])]
    return noise


@pytest.mark.parametrize(
    ("values", "deviation"),
    [
        (GAUSSIAN, 0.3 / 5),
        ({**GAUSSIAN, "compression.upload": "eden1"}, 0.3 / 5),
        ({**GAUSSIAN, "privacy.clip_norm": 2.0, "privacy.population": 10_000}, 2 / 5 / 100),
        ({**GAUSSIAN, "privacy.metrics": "withheld"}, 0.3 / 5),
        # A fiftieth of the budget is the metrics': z' = z / sqrt(0.98).
        ({**GAUSSIAN, "privacy.metrics": "private"}, 0.3 / 5 / math.sqrt(0.98)),
        # And of the rest (2 * 3)^-2 the count's.
        ({**ADAPTIVE, "privacy.clip_count_stddev": 3.0}, 0.3 / 5 / math.sqrt(1 - 1 / 36)),
        (TREE, 0.3 / 5),
        ({**TREE, "privacy.mechanism": "banded", "privacy.bands": 1}, 0.3 / 5),
    ],
)
def test_the_noise_of_a_round_is_the_accounted_one(values, deviation):
    noise = first_noise(plan({**values, "privacy.noise_seed": 1}))
    assert noise.std() == pytest.approx(deviation, rel=5 / np.sqrt(2 * len(noise)))


@pytest.mark.slow
def test_seeds_repeat_noise_and_nothing_else_does():
    seeded = [first_noise(plan({**GAUSSIAN, "privacy.noise_seed": seed}), 50) for seed in (1, 1, 2)]
    unseeded = [first_noise(plan(GAUSSIAN), 50) for _ in range(2)]
    np.testing.assert_array_equal(seeded[0], seeded[1])
    assert not np.array_equal(seeded[0], seeded[2])
    assert not np.array_equal(*unseeded)


@pytest.mark.parametrize(
    ("metrics", "kind"),
    [("exact", type(None)), ("private", dp.PrivateMetricsFactory), ("withheld", dp.WithheldMetricsFactory)],
)
def test_metrics_are_as_private_as_they_are_set(metrics, kind):
    parts = assemble.private_parts(plan({**GAUSSIAN, "privacy.metrics": metrics}))
    assert type(parts["metrics_aggregator"]) is kind


def test_checkpoints_hold_the_noise_of_correlated_mechanisms():
    sizes = {
        name: assemble.noise_state_bytes(RunConfig.of({"privacy.mechanism": name, "run.rounds": 30}), 100)
        for name in ("none", "gaussian", "tree", "banded")
    }
    assert sizes == {"none": 0, "gaussian": 0, "tree": 700, "banded": 3200}
