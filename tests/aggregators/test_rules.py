"""What single aggregators promise besides: limits, many columns, attackers kept out, mistakes refused."""

import collections
import functools
import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests import updates
from tests.aggregators import reference, registered
from tff_tx import aggregators
from tff_tx.aggregators import gathering
from tff_tx.config.registries import AGGREGATORS
from tff_tx.runtime import LocalEngine

WEIGHTS = np.array([3, 1, 4, 1, 5, 9, 2, 6], np.float32)


pytestmark = pytest.mark.usefixtures("compiled_once")

build_process = functools.cache(updates.build_process)


def aggregate(factory, rounds, weight_type=updates.WEIGHT):
    """The aggregates of rounds of (x, weights), one after another."""
    found, state = [], None
    weight_type = tff.to_type(weight_type)
    with LocalEngine(build_process(factory, weight_type), threads=2) as engine:
        for arguments in rounds:
            result, measured, state = updates.aggregate(engine, updates.clients(*arguments), state)
            found.append((result, measured))
    return found


@pytest.fixture
def x(rng):
    return rng.normal(size=[8, updates.SIZE]).astype(np.float32)


def test_attention_at_infinite_temperature_is_fed_avg(x):
    [(found, measured)] = aggregate(aggregators.AttentionFactory(temperature=math.inf), [(x, WEIGHTS)])
    np.testing.assert_allclose(found, reference.mean(x, WEIGHTS), atol=1e-6)
    assert measured["effective_clients"] == pytest.approx(WEIGHTS.sum() ** 2 / (WEIGHTS**2).sum(), rel=1e-5)


def test_attention_with_a_floor_of_1_is_fed_avg(x):
    [(found, _)] = aggregate(aggregators.AttentionFactory(temperature=0.01, floor=1.0), [(x, WEIGHTS)])
    np.testing.assert_allclose(found, reference.mean(x, WEIGHTS), atol=1e-6)


def test_attention_does_not_overflow(x):
    """Scores of 1e4 / 1e-3, in rising, falling and equal order: the exponential of none of them is a float."""
    factory = aggregators.AttentionFactory(temperature=1e-3)
    x *= np.array([1, 1e1, 1e2, 1e4, 1e3, 1, 1e4, 1e-3])[:, None].astype(np.float32)
    x[6] = -x[3]
    [(found, measured)] = aggregate(factory, [(x, np.ones(8))])
    np.testing.assert_array_equal(found, np.zeros(updates.SIZE))  # the two furthest, halves of each
    assert measured["effective_clients"] == 2


def test_attention_by_loss_counts_clients_that_learn_for_more(x):
    losses = np.array([0.1, 5, 5, 5, 5, 5, 5, 5])
    factory = aggregators.AttentionFactory(key="loss", temperature=0.1)
    without = np.array([np.nan, *losses[1:]])
    rounds = [(x, WEIGHTS, losses), (x, WEIGHTS, without)]
    [(found, _), (other, measured)] = aggregate(factory, rounds, weight_type=updates.SCORED)
    np.testing.assert_allclose(found, x[0], atol=1e-6)
    np.testing.assert_allclose(other, reference.mean(x[1:], WEIGHTS[1:]), atol=1e-6)
    assert measured["clients"] == 7


def test_centered_clipping_remembers_its_center(x):
    rounds = [(x, WEIGHTS), (x + 1, WEIGHTS), (x[::-1].copy(), WEIGHTS)]
    found = aggregate(aggregators.centered_clipping_factory(2.0), rounds)
    for i, (result, _) in enumerate(found):
        np.testing.assert_allclose(result, reference.centered_clipping(rounds[: i + 1], 2.0), atol=1e-5)


def test_centered_clipping_over_an_unweighted_mean(x):
    factory = aggregators.centered_clipping_factory(2.0, tff.aggregators.UnweightedMeanFactory())
    [(found, _)] = aggregate(factory, [(x, WEIGHTS)])
    np.testing.assert_allclose(found, reference.centered_clipping([(x, np.ones(8))], 2.0), atol=1e-5)


def test_the_geometric_median_is_where_the_sum_of_distances_is_least(x, rng):
    [(found, _)] = aggregate(aggregators.geometric_median_factory(iterations=200), [(x, WEIGHTS)])
    least = reference.sum_of_distances(found, x, WEIGHTS)
    for step in 0.01 * rng.normal(size=[50, updates.SIZE]):
        assert reference.sum_of_distances(found + step, x, WEIGHTS) > least


ROBUST = [
    "median",
    pytest.param("trimmed_mean", marks=pytest.mark.slow),
    "krum",
    pytest.param("multi_krum", marks=pytest.mark.slow),
    "bulyan",
    "geometric_median",
]


@pytest.fixture(scope="module")
def averaged():
    """Computes the weighted mean of updates."""
    with LocalEngine(updates.build_process(aggregators.mean_factory()), threads=2) as engine:
        yield lambda *arguments: updates.aggregate(engine, updates.clients(*arguments))[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ROBUST)
def test_an_attacker_of_any_size_and_weight_is_kept_out(name, x, averaged):
    """The result stays where the honest ones are, which that of the mean does not. 1e30 squared is no float32."""
    x[2] = 1e30
    weights = np.ones(8)
    [(found, _)] = aggregate(registered.build(name), [(x, weights)])
    assert np.linalg.norm(found) <= np.linalg.norm(np.delete(x, 2, 0), axis=1).max()
    assert np.linalg.norm(averaged(x, weights).astype(np.float64)) > 1e29


def parts_of(factory, num_columns):
    """zero, append and report of the accumulator, for updates that are one vector."""
    matrix = gathering._Matrix(tf.TensorSpec([num_columns]), factory._max_clients, factory._rule)
    spec = collections.OrderedDict(
        blocks=[tf.TensorSpec([None, num_columns])] * matrix._num_blocks, weights=tf.TensorSpec([None])
    )

    def graph(fn, *specs):
        return tf.function(fn, autograph=False, input_signature=specs)

    def append(total, value, weight):
        return matrix.append(total, {"value": value, "weight": weight})

    return (
        graph(matrix.zero),
        graph(append, spec, tf.TensorSpec([num_columns]), tf.TensorSpec([])),
        graph(matrix.report, spec),
    )


@pytest.mark.parametrize("name", ROBUST)
def test_many_columns_are_taken_in_chunks(name, rng, monkeypatch):
    """Five chunks, the last not full."""
    monkeypatch.setattr(gathering, "_COLUMNS", 1000)
    x = rng.normal(size=[13, 4321]).astype(np.float32)
    factory = registered.build(name)
    zero, append, report = parts_of(factory, 4321)
    total = zero()
    for row in x:
        total = append(total, tf.constant(row), tf.constant(1.0))
    found = report(total)["result"].numpy()
    wanted = {
        "median": reference.median(x, None),
        "trimmed_mean": reference.trimmed_mean(x, None, 2),
        "krum": reference.krum(x, None, 2),
        "multi_krum": reference.krum(x, None, 2, m=11),
        "bulyan": reference.bulyan(x.astype(np.float64), None, 2),
        "geometric_median": reference.geometric_median(x.astype(np.float64), np.ones(13), 32),
    }[name]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_round_of_more_clients_than_are_held_fails_with_the_reason(x):
    factory = aggregators.median_factory(max_clients=5)
    [(found, _)] = aggregate(factory, [(x[:5], WEIGHTS[:5])])
    np.testing.assert_allclose(found, np.median(x[:5], axis=0), atol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than the 5 clients"):
        aggregate(factory, [(x[:6], WEIGHTS[:6])])


def test_a_row_is_copied_a_logarithm_of_times():
    """Blocks that do not change are handed on, not copied: 64 rows cost less than 64 * 8 rows of copying."""
    zero, append, _ = parts_of(aggregators.median_factory(max_clients=127), 3)
    total, copied = zero(), 0
    for i in range(64):
        before = [block.shape[0] for block in total["blocks"]]
        total = append(total, tf.fill([3], float(i)), tf.constant(1.0))
        after = [block.shape[0] for block in total["blocks"]]
        copied += sum(n for n, m in zip(after, before) if n != m)
    assert [block.shape[0] for block in total["blocks"]] == [0, 0, 0, 0, 0, 0, 64]
    np.testing.assert_array_equal(total["blocks"][6][:, 0], np.arange(64))
    assert copied <= 64 * 7


@pytest.mark.parametrize(
    ("create", "sentence"),
    [
        (lambda: aggregators.AttentionFactory(temperature=0.0), "temperature=0.0: must be above 0"),
        (lambda: aggregators.AttentionFactory(key="name"), "key='name': must be one of"),
        (lambda: aggregators.AttentionFactory(floor=1.5), "floor=1.5: must be from 0 to 1"),
        (lambda: aggregators.AttentionFactory(step_size=-1.0), "step_size=-1.0: must be above 0"),
        (lambda: aggregators.trimmed_mean_factory(0.5), "attacker_share=0.5"),
        (lambda: aggregators.bulyan_factory(0.25), "attacker_share=0.25"),
        (lambda: aggregators.krum_factory(-0.1), "attacker_share=-0.1"),
        (lambda: aggregators.geometric_median_factory(iterations=0), "iterations=0"),
        (lambda: aggregators.centered_clipping_factory(0.0), "radius=0.0"),
        (lambda: aggregators.median_factory(max_clients=0), "max_clients=0"),
        (lambda: aggregators.clipping(0.0), "norm=0.0"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(create, sentence):
    with pytest.raises(ValueError, match=sentence.replace(".", r"\.")):
        create()


def test_updates_that_are_not_floats_are_refused():
    with pytest.raises(TypeError, match="updates are floats, and this one has int32"):
        aggregators.median_factory().create(tff.TensorType(np.int32, [3]), tff.TensorType(np.float32))


def test_a_stack_ends_with_a_factory():
    with pytest.raises(TypeError, match="the last layer of a stack"):
        aggregators.stack(aggregators.clipping(1.0), aggregators.zeroing())


def test_a_stack_is_passed_from_left_to_right(x):
    """Zeroing at 0.5 leaves nothing of these updates, unless they are clipped to a norm of 0.1 before."""
    clip, zero = aggregators.clipping(0.1), aggregators.zeroing(0.5)
    [(clipped_first, _)] = aggregate(aggregators.stack(clip, zero, aggregators.mean_factory()), [(x, WEIGHTS)])
    [(zeroed_first, _)] = aggregate(aggregators.stack(zero, clip, aggregators.mean_factory()), [(x, WEIGHTS)])
    short = 0.1 * x / np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(clipped_first, reference.mean(short, WEIGHTS), atol=1e-6)
    np.testing.assert_array_equal(zeroed_first, np.zeros(updates.SIZE))


@pytest.mark.parametrize(("name", "record"), AGGREGATORS.items())
def test_records_hold_all_updates_exactly_where_their_factory_gathers_them(name, record):
    factory = registered.build(name, **({"centered_clip_norm": 1.0} if name == "centered_clipping" else {}))
    assert record.needs_all_updates == isinstance(factory, aggregators.GatheringFactory)


def test_a_record_of_a_robust_rule_has_a_breakdown_point():
    with pytest.raises(ValueError, match="least_clients needs a breakdown"):
        aggregators.Aggregator(lambda settings, cohort: None, least_clients=lambda f: 2 * f + 1)
