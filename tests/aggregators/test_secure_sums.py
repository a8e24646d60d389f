"""Aggregators by secure sums: the results of those in the clear, within the rounding of the grid."""

import collections
import functools

import numpy as np
import pytest
import tensorflow_federated as tff

from tests.aggregators import secure_rounds
from tff_tx import aggregators
from tff_tx.aggregators import AttentionFactory, FigureSumFactory, GridSumFactory, SecureAttentionFactory, SecureSums
from tff_tx.runtime import MOST_CLIENTS

VALUE = tff.to_type(collections.OrderedDict(a=tff.TensorType(np.float32, [6]), b=tff.TensorType(np.float32, [2, 2])))
WEIGHT = tff.to_type(np.float32)
LOSS = tff.to_type(collections.OrderedDict(weight=np.float32, loss=np.float32))
CLIENTS = 5


def cohort(seed, scale=0.05, loss=False):
    rng = np.random.default_rng(seed)
    shapes = (("a", [6]), ("b", [2, 2]))
    return [
        (
            collections.OrderedDict((n, (scale * rng.normal(size=s)).astype(np.float32)) for n, s in shapes),
            collections.OrderedDict(weight=np.float32(i + 1), loss=np.float32(0.1 * i)) if loss else np.float32(i + 1),
        )
        for i in range(CLIENTS)
    ]


def sums(bits=24, **grid):
    return SecureSums(GridSumFactory(bits, CLIENTS, **grid), FigureSumFactory())


@functools.cache
def centered(secure):
    found = sums()
    inner = (aggregators.secure_mean(found, True), found.figures) if secure else ()
    return aggregators.centered_clipping_factory(0.1, *inner)


def layered(secure, *norms):
    found = sums()
    counts = found.figures if secure else None
    layers = [layer(norm, counts) for layer, norm in zip((aggregators.zeroing, aggregators.clipping), norms)]
    return aggregators.stack(*layers, aggregators.secure_mean(found, True) if secure else aggregators.mean_factory())


PAIRS = {
    "weighted mean": lambda s: aggregators.secure_mean(sums(), True) if s else aggregators.mean_factory(),
    "unweighted mean": lambda s: (
        aggregators.secure_mean(sums(), False) if s else tff.aggregators.UnweightedMeanFactory()
    ),
    "nearest level": lambda s: (
        aggregators.secure_mean(sums(stochastic=False), True) if s else aggregators.mean_factory()
    ),
    "rotated": lambda s: aggregators.secure_mean(sums(rotate=True), True) if s else aggregators.mean_factory(),
    "fixed norms": lambda s: layered(s, 0.08, 0.1),
    "adaptive norms": lambda s: layered(s, None, None),
    "centred clipping": centered,
    "attention": lambda s: (
        SecureAttentionFactory(AttentionFactory(temperature=0.1), sums()) if s else AttentionFactory(temperature=0.1)
    ),
    "attention with a floor": lambda s: (
        SecureAttentionFactory(AttentionFactory(floor=0.3, step_size=0.5), sums())
        if s
        else AttentionFactory(floor=0.3, step_size=0.5)
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
def test_results_are_those_in_the_clear(name):
    rounds = [cohort(seed) for seed in range(3)]
    secure, form = secure_rounds.run(PAIRS[name](True), VALUE, WEIGHT, rounds)
    clear, _ = secure_rounds.run(PAIRS[name](False), VALUE, WEIGHT, rounds)
    assert form.moduli
    # The first round's grid is coarse, as nobody knows yet how large updates are, or how attentive clients.
    for found, expected, near in zip(secure, clear, (0.1 if "attention" in name else 1e-3, 1e-5, 1e-5)):
        for a, b in zip(found, expected):
            np.testing.assert_allclose(a, b, atol=near)


def test_attention_by_loss_is_a_sum_too():
    rounds = [cohort(seed, loss=True) for seed in range(2)]
    attention = AttentionFactory("loss", temperature=0.3)
    secure, _ = secure_rounds.run(SecureAttentionFactory(attention, sums()), VALUE, LOSS, rounds)
    clear, _ = secure_rounds.run(attention, VALUE, LOSS, rounds)
    np.testing.assert_allclose(secure[1][0], clear[1][0], atol=1e-5)


def test_a_grid_of_few_bits_rounds_without_bias_and_wraps_never():
    def everybody(value):
        same = collections.OrderedDict(a=np.full(6, value, np.float32), b=np.full([2, 2], -value, np.float32))
        return [(same, np.float32(1))] * CLIENTS

    # All are cut to the first bound, 16, which is where a sum would wrap around.
    found, _ = secure_rounds.run(GridSumFactory(8, CLIENTS), VALUE, WEIGHT, [everybody(40.0), *[everybody(1.0)] * 30])
    assert found[0][0].tolist() == [16.0 * CLIENTS] * 6
    assert found[0][1].tolist() == [[-16.0 * CLIENTS] * 2] * 2
    step = 2.0 / ((2**7 - 1) // CLIENTS)  # the bound is twice what all of them have
    late = np.array([result[0] for result in found[4:]])
    assert np.abs(late - CLIENTS).max() <= step * CLIENTS
    assert abs(late.mean() - CLIENTS) < step * CLIENTS**0.5 / late.size**0.5 * 4


def test_figures_are_exact_and_of_any_type():
    kinds = collections.OrderedDict(count=np.int32, loss=np.float32, histogram=tff.TensorType(np.float32, [2]))
    figures = tff.to_type(kinds)
    clients = []
    for i in range(3):
        named = {"count": np.int32(2**29 - i), "loss": np.float32(-0.5 * i), "histogram": np.float32([i, np.nan])}
        clients.append((collections.OrderedDict(named), np.float32(1)))
    ((count, loss, histogram),), form = secure_rounds.run(FigureSumFactory(), figures, WEIGHT, [clients])
    assert form.moduli == (2**62,) * 4  # and how many were cut
    assert count == 3 * 2**29 - 3
    assert loss == -1.5
    assert histogram.tolist() == [3.0, 0.0]


def test_a_sum_with_a_figure_that_was_cut_is_no_number():
    """As squares of large labels are: a root mean square of an eighth of what it is looks like a good one."""
    kinds = tff.to_type(collections.OrderedDict(squares=np.float64, absolute=np.float64, examples=np.int64))
    named = {"squares": np.float64(1e10), "absolute": np.float64(1e5), "examples": np.int64(7)}
    small, large = (
        (collections.OrderedDict(named, squares=np.float64(squares)), np.float32(1)) for squares in (1e5, 1e10)
    )
    found, _ = secure_rounds.run(FigureSumFactory(), kinds, WEIGHT, [[small, small], [small, large, small]])
    assert found[0] == [2e5, 2e5, 14]
    assert np.isnan(found[1][0])
    assert found[1][1:] == [3e5, 21]


def test_bits_and_maxima_of_slots_become_moduli_that_hold_the_sum():
    class Slots(tff.aggregators.UnweightedAggregationFactory):
        def create(self, value_type):
            @tff.federated_computation
            def initialize():
                return tff.federated_value((), tff.SERVER)

            @tff.federated_computation(initialize.type_signature.result, tff.FederatedType(value_type, tff.CLIENTS))
            def next_fn(state, value):
                by_bits = tff.federated_secure_sum_bitwidth(value, 5)
                by_maximum = tff.federated_secure_sum(value, 9)
                modular = tff.backends.mapreduce.federated_secure_modular_sum(value, 7)
                result = tff.federated_zip((by_bits, by_maximum, modular))
                return tff.templates.MeasuredProcessOutput(state, result, tff.federated_value((), tff.SERVER))

            return tff.templates.AggregationProcess(initialize, next_fn)

    clients = [(np.int32(9), np.float32(1))] * 4
    (found,), form = secure_rounds.run(Slots(), tff.to_type(np.int32), WEIGHT, [clients])
    assert found == [36, 36, 36 % 7]
    assert form.moduli == (2**5 * MOST_CLIENTS, 2 ** (9 * MOST_CLIENTS).bit_length(), 7)


@pytest.mark.parametrize("bits", [1, 31])
def test_bits_out_of_range_are_refused(bits):
    with pytest.raises(ValueError, match=f"bits={bits}: must be 2 to 30"):
        GridSumFactory(bits, CLIENTS)


@pytest.mark.parametrize(("clients", "least"), [(2, 3), (3, 3), (4, 4), (200, 9)])
def test_bits_that_hold_no_sum_are_refused_with_those_that_do(clients, least):
    GridSumFactory(least, clients)
    with pytest.raises(ValueError, match=f"a sum of {clients} clients needs at least {least} bits"):
        GridSumFactory(least - 1, clients)
