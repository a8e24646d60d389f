"""Aggregation and compression as configurations build them."""

import numpy as np
import psutil
import pytest
import tensorflow_federated as tff

from tests import updates
from tests.aggregators import reference
from tff_tx.aggregators import compression
from tff_tx.config import RunConfig
from tff_tx.config.aggregation import COMPRESSORS, CompressionConfig
from tff_tx.core.errors import UserError
from tff_tx.run.assemble import aggregation
from tff_tx.runtime import LocalEngine


def build(**values):
    """The parts for settings: `name` of aggregation, `section__name` of another section."""
    return aggregation.build_aggregation(config(**values))


def config(**values):
    paths = {name: name.replace("__", ".") if "__" in name else f"aggregation.{name}" for name in values}
    return RunConfig.of({paths[name]: value for name, value in values.items()})


def test_by_default_the_algorithms_own_aggregator():
    nothing = dict.fromkeys(("aggregator", "distributor_fn", "figures_sum"))
    assert build() == {"weighted": True, "sends_loss": False, **nothing}
    assert aggregation.compressed_sum(config()) is None
    assert aggregation.engine_compressor(config()) is None
    assert aggregation.payload_encoder(config()) is None
    assert aggregation.client_state_bytes(config(), 1000, 0, 10, 5) == 0


def clipped(x, norm):
    return x / np.maximum(1, np.linalg.norm(x, axis=1, keepdims=True) / norm)


def zeroed(x, norm):
    return np.where(np.abs(x).max(1, keepdims=True) > norm, 0.0, x)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"aggregator": "median", "clip_norm": "2"}, lambda x, w: reference.median(clipped(x, 2), w)),
        ({"zeroing_norm": "2.5"}, lambda x, w: reference.mean(zeroed(x, 2.5), w)),
        ({"zeroing_norm": "2.5", "clip_norm": "2"}, lambda x, w: reference.mean(clipped(zeroed(x, 2.5), 2), w)),
        ({"aggregator": "trimmed_mean", "assumed_attackers": 0.3}, lambda x, w: reference.trimmed_mean(x, w, 2)),
        (
            {"aggregator": "attention", "attention_temperature": 0.3, "attention_floor": 0.5},
            lambda x, w: reference.attention(x, w, updates.LAYERS, temperature=0.3, floor=0.5),
        ),
        ({"aggregator": "geometric_median", "median_iterations": 3}, lambda x, w: reference.geometric_median(x, w, 3)),
        (
            {"aggregator": "centered_clipping", "centered_clip_norm": 2.0},
            lambda x, w: reference.centered_clipping([(x, w)], 2),
        ),
    ],
)
def test_settings_build_the_stack_that_they_name(rng, values, wanted):
    parts = build(**values, cohort__clients_per_round=7)
    assert parts["sends_loss"] is False
    x, w = rng.normal(size=[7, updates.SIZE]).astype(np.float32), np.arange(1, 8)
    with LocalEngine(updates.build_process(parts["aggregator"]), threads=1) as engine:
        found, _, _ = updates.aggregate(engine, updates.clients(x, w))
    np.testing.assert_allclose(found, wanted(x.astype(np.float64), w), atol=1e-5)


def test_adaptive_norms_are_estimated():
    process = build(clip_norm="adaptive", zeroing_norm="adaptive")["aggregator"].create(
        tff.TensorType(np.float32, [2]), tff.TensorType(np.float32)
    )
    measured = dict(tff.structure.iter_elements(process.next.type_signature.result.measurements.member))
    assert {"zeroing", "zeroing_norm"} <= set(measured)


def test_attention_by_loss_makes_clients_send_it():
    assert build(aggregator="attention", attention_key="loss")["sends_loss"] is True


@pytest.mark.parametrize(
    ("values", "weighted"),
    [
        ({}, True),
        ({"algorithm__weighted": False}, False),
        ({"privacy__mechanism": "gaussian"}, False),
        ({"local_privacy__clip_norm": 1.0}, False),
        ({"example_privacy__clip_norm": 1.0}, True),
    ],
)
def test_clients_count_by_their_examples_unless_their_updates_are_private(values, weighted):
    assert aggregation.is_weighted(config(**values)) is weighted
    assert build(**values)["weighted"] is weighted


def test_more_updates_than_memory_are_rejected():
    median = config(aggregator="median", cohort__clients_per_round=100)
    aggregation.check_memory(median, 1000)
    with pytest.raises(UserError, match="aggregation.aggregator=median holds the updates of all clients of a round"):
        aggregation.check_memory(median, psutil.virtual_memory().total // 400)
    aggregation.check_memory(config(aggregator="attention"), psutil.virtual_memory().total)


@pytest.mark.parametrize("name", [n for n in COMPRESSORS if n not in CompressionConfig.BIASED])
def test_quantizers_make_a_mean_of_codes(name):
    weighted, equal = (build(compression__upload=name, algorithm__weighted=w)["aggregator"] for w in (True, False))
    assert isinstance(weighted, tff.aggregators.MeanFactory)
    assert isinstance(equal, tff.aggregators.UnweightedMeanFactory)


def test_robust_aggregators_get_what_is_decoded():
    parts = build(compression__upload="eden1", aggregator="median")
    assert isinstance(parts["aggregator"], compression.WeightedCompressedFactory)


def test_biased_compressors_have_error_feedback_by_default():
    feedback = config(compression__upload="top_k", run__rounds=2)
    assert aggregation.build_aggregation(feedback)["aggregator"] is None
    assert isinstance(aggregation.engine_compressor(feedback), compression.TopK)
    assert aggregation.client_state_bytes(feedback, 1000, 0, 516, 5) == 1000 * (10 + 105)
    assert aggregation.client_state_bytes(feedback, 1000, 0, 6, 5) == 1000 * (6 + 105)
    assert aggregation.client_state_bytes(feedback, 1000, 10, 6, 5) == 1010 * (6 + 105)
    without = config(compression__upload="top_k", compression__error_feedback=False)
    assert aggregation.build_aggregation(without)["aggregator"] is not None
    assert aggregation.engine_compressor(without) is None
    assert aggregation.client_state_bytes(without, 1000, 0, 516, 5) == 0


@pytest.mark.parametrize("direction", ["upload", "download"])
def test_bytes_are_measured_with_compression_in_either_direction(direction):
    compressed = config(**{f"compression__{direction}": "uniform8"})
    assert aggregation.payload_encoder(compressed) is compression.encode
    has_distributor = aggregation.build_aggregation(compressed)["distributor_fn"] is not None
    assert has_distributor == (direction == "download")
