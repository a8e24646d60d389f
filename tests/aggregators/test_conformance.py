"""What every aggregator has to do, alone and in a stack: one test for all of them.

A new one is a line in `MEMBERS`; a new wrapper one in `WRAPPERS`. Registered ones are built by their records.
"""

import collections
import dataclasses
import functools
from typing import Any, Callable

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests import updates
from tests.aggregators import reference, registered
from tff_tx import aggregators
from tff_tx.aggregators import compression, dp
from tff_tx.config.registries import AGGREGATORS
from tff_tx.run.checkpoints import Checkpoints
from tff_tx.runtime import LocalEngine, NativeEngine
from tff_tx.runtime import form as form_lib


@dataclasses.dataclass(frozen=True)
class Member:
    """An aggregator and what it promises.

    Attributes:
      create: Gives the factory.
      reference: (x float64 [n, d], weights [n]) -> [d], of the first round; None where it is random.
      weight_type: What clients send beside their update.
      ignores_weight_0: Whether a client of weight 0 changes nothing.
      ignores_not_finite: Whether an update with NaN or infinities changes nothing, where no engine leaves it out.
      zero_if_empty: Whether the aggregate of no clients is 0.
      by_vector: Whether it would do the same with the update as one vector, as concatenation makes it.
      tolerance: Of the comparison with the reference.
    """

    create: Callable[[], Any]
    reference: Any = None
    weight_type: Any = updates.WEIGHT
    ignores_weight_0: bool = True
    ignores_not_finite: bool = True
    zero_if_empty: bool = True
    by_vector: bool = True
    tolerance: float = 2e-5


def _shortened(x, norm):
    return x / np.maximum(1.0, np.linalg.norm(x, axis=1, keepdims=True) / norm)


LOSSES = np.linspace(0.5, 2.5, 11)

MEMBERS = {
    "mean": Member(functools.partial(registered.build, "mean"), reference.mean, ignores_not_finite=False),
    "tff unweighted mean": Member(
        tff.aggregators.UnweightedMeanFactory,
        lambda x, w: x.mean(0),
        ignores_weight_0=False,
        ignores_not_finite=False,
        zero_if_empty=False,
    ),
    "attention": Member(
        lambda: registered.build("attention", attention_temperature=0.5, attention_step_size=1.2),
        functools.partial(reference.attention, layers=updates.LAYERS, temperature=0.5, step_size=1.2),
        by_vector=False,
    ),
    "attention with a floor": Member(
        lambda: registered.build("attention", attention_temperature=0.2, attention_floor=0.3),
        functools.partial(reference.attention, layers=updates.LAYERS, temperature=0.2, floor=0.3),
        by_vector=False,
    ),
    "attention by loss": Member(
        lambda: registered.build("attention", attention_key="loss", attention_temperature=0.7),
        lambda x, w: reference.attention(x, w, updates.LAYERS, temperature=0.7, losses=LOSSES[: len(x)]),
        weight_type=updates.SCORED,
    ),
    "median": Member(functools.partial(registered.build, "median"), reference.median),
    "trimmed_mean": Member(
        functools.partial(registered.build, "trimmed_mean"), lambda x, w: reference.trimmed_mean(x, w, len(x) // 5)
    ),
    "krum": Member(functools.partial(registered.build, "krum"), lambda x, w: reference.krum(x, w, len(x) // 5)),
    "multi_krum": Member(
        functools.partial(registered.build, "multi_krum"),
        lambda x, w: reference.krum(x, w, len(x) // 5, m=len(x) - len(x) // 5),
    ),
    "bulyan": Member(
        functools.partial(registered.build, "bulyan"),
        lambda x, w: reference.bulyan(x, w, min(len(x) // 5, max(0, (len(x) - 3) // 4))),
    ),
    "geometric_median": Member(
        functools.partial(registered.build, "geometric_median"),
        functools.partial(reference.geometric_median, iterations=32),
    ),
    "centered_clipping": Member(
        lambda: registered.build("centered_clipping", centered_clip_norm=4.0),
        lambda x, w: reference.centered_clipping([(x, w)], 4.0),
        ignores_not_finite=False,
    ),
    "private mean without noise": Member(
        lambda: dp.fixed_clip_aggregator(2.0, 11), lambda x, w: _shortened(x, 2.0).sum(0) / 11, ignores_weight_0=False
    ),
    "private mean": Member(
        lambda: dp.adaptive_clip_aggregator(0.1, 0.1, 11, dp.noise_key(1), initial_clip=2.0),
        ignores_weight_0=False,
        zero_if_empty=False,
    ),
    "mean of codes": Member(
        lambda: tff.aggregators.MeanFactory(
            compression.CompressedSumFactory(compression.build_compressor("uniform8")), no_nan_division=True
        )
    ),
    "private mean of codes": Member(lambda: _private_mean_of_codes("uniform8"), ignores_weight_0=False),
    "krum of codes": Member(
        lambda: compression.WeightedCompressedFactory(
            compression.build_compressor("rotated4"), registered.build("krum")
        )
    ),
}


def _private_mean_of_codes(name):
    decoded_sum = compression.CompressedSumFactory(
        compression.build_compressor(name), finalize=lambda value: dp.clip_to_norm(value, 2.0)[0]
    )
    return dp.fixed_clip_aggregator(2.0, 11, sum_factory=decoded_sum)


SLOW = (
    *("attention with a floor", "trimmed_mean", "multi_krum"),
    *("tff unweighted mean", "private mean of codes", "krum of codes"),
)
"""Members close to another one; only the slow suite tests them."""

WRAPPED = ("attention by loss", "krum")
"""Members that the fast suite puts into all wrappers; the slow suite does so with every member."""

WRAPPERS = {
    "clipping": aggregators.clipping(1e6),
    "zeroing": aggregators.zeroing(1e6),
    "adaptive clipping": aggregators.clipping(),
    "adaptive zeroing": aggregators.zeroing(),
    "concatenation": tff.aggregators.concat_factory,
}
"""None of them touches the updates of the tests, but adaptive clipping, which starts at a norm of 1."""


@dataclasses.dataclass
class Compiled:
    """A member, compiled once."""

    name: str

    def __post_init__(self):
        self.member = MEMBERS[self.name]
        self.factory = self.member.create()
        self.factory.create = functools.cache(self.factory.create)  # that of the process is looked at, too
        self.process = updates.build_process(self.factory, self.member.weight_type)
        self.local = LocalEngine(self.process, threads=2)

    @functools.cached_property
    def native(self):
        return NativeEngine(self.process)

    @functools.cached_property
    def parts(self):
        form = form_lib.RoundForm.of(self.process)
        parts = {p: form.graph(p).whole() for p in ("prepare", "work", "zero", "accumulate", "merge", "report")}
        return parts, form.type_signature("report").result

    def clients(self, x, weights):
        losses = LOSSES[: len(x)] if isinstance(self.member.weight_type, dict) else None
        return updates.clients(x, weights, losses)

    def contributions(self, x, weights):
        """The leaves that the clients of a first round send."""
        state_type = self.process.initialize.type_signature.result.member
        broadcast = self.parts[0]["prepare"](*form_lib.flatten(self.local.initialize(), state_type))
        return [self.parts[0]["work"](tf.data.experimental.to_variant(c), *broadcast) for c in self.clients(x, weights)]

    def accumulated(self, contributions, start=None):
        total = self.parts[0]["zero"]() if start is None else start
        for contribution in contributions:
            total = self.parts[0]["accumulate"](*total, *contribution)
        return total

    def report(self, total):
        return [np.asarray(leaf) for leaf in self.parts[0]["report"](*total)]

    def close(self):
        self.local.close()
        if "native" in self.__dict__:
            self.native.close()


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in MEMBERS],
)
def compiled(request, compiled_once):
    """All tests of a member run before those of the next, on what was compiled for it."""
    compiled = Compiled(request.param)
    yield compiled
    compiled.close()


@pytest.fixture
def x(rng):
    """Eleven updates, one of them far off."""
    x = rng.normal(size=[11, updates.SIZE]).astype(np.float32)
    x[4] *= 5.0
    return x


WEIGHTS = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5], np.float32)


def test_every_registered_aggregator_is_a_member():
    assert set(AGGREGATORS) <= set(MEMBERS)


def assert_close(found, wanted, tolerance=2e-5):
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


def test_types(compiled):
    """The aggregate is of the update's type, the state stays of its own, and a bare tensor will do for an update."""
    factory, weight_type = compiled.factory, tff.to_type(compiled.member.weight_type)
    value_types = [
        tff.to_type(updates.structure(lambda shape: tff.TensorType(np.float32, shape))),
        tff.TensorType(np.float32, [3]),
    ]
    for value_type in value_types:
        weighted = isinstance(factory, tff.aggregators.WeightedAggregationFactory)
        process = factory.create(value_type, weight_type) if weighted else factory.create(value_type)
        assert process.is_weighted == weighted
        output = process.next.type_signature.result
        assert output.result.is_assignable_from(tff.FederatedType(value_type, tff.SERVER))
        assert process.initialize.type_signature.result.is_assignable_from(output.state)


def test_engines_agree_with_each_other_and_with_numpy(compiled, x):
    local, measured, _ = updates.aggregate(compiled.local, compiled.clients(x, WEIGHTS))
    if compiled.member.reference is not None:
        wanted = compiled.member.reference(x.astype(np.float64), WEIGHTS.astype(np.float64))
        assert_close(local, wanted, compiled.member.tolerance)
    native, measured_there, _ = updates.aggregate(compiled.native, compiled.clients(x, WEIGHTS))
    assert_close(native, local)
    tf.nest.map_structure(assert_close, measured_there, measured)


def test_only_the_ratio_of_weights_counts(compiled, x):
    once, _, _ = updates.aggregate(compiled.local, compiled.clients(x, WEIGHTS))
    tenfold, _, _ = updates.aggregate(compiled.local, compiled.clients(x, 10 * WEIGHTS))
    assert_close(tenfold, once)


def test_equal_weights_are_no_weights(compiled, x):
    if compiled.member.reference is None:
        pytest.skip("it is random")
    found, _, _ = updates.aggregate(compiled.local, compiled.clients(x, np.ones(11)))
    assert_close(found, compiled.member.reference(x.astype(np.float64), np.ones(11)), compiled.member.tolerance)


def test_clients_of_weight_0_change_nothing(compiled, x):
    if not compiled.member.ignores_weight_0:
        pytest.skip("it counts clients equally")
    wanted, _, _ = updates.aggregate(compiled.local, compiled.clients(x[:9], WEIGHTS[:9]))
    weights = np.concatenate([WEIGHTS[:9], [0, 0]])
    found, _, _ = updates.aggregate(compiled.local, compiled.clients(x, weights))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("number", [0, 2])
def test_the_aggregate_of_nobody_is_0(compiled, x, number):
    """No clients, and clients of weight 0 alone."""
    if not compiled.member.zero_if_empty:
        pytest.skip("it is noise, or not a number, with which the server leaves its model as it is")
    if number and not compiled.member.ignores_weight_0:
        pytest.skip("it counts clients equally")
    total = compiled.accumulated(compiled.contributions(x[:number], np.zeros(number)))
    assert all(np.all(np.isfinite(leaf)) for leaf in compiled.report(total))
    if number:
        found, _, _ = updates.aggregate(compiled.local, compiled.clients(x[:number], np.zeros(number)))
        np.testing.assert_array_equal(found, np.zeros(updates.SIZE))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_updates_that_are_not_finite_change_nothing(compiled, x, bad):
    """The local engine leaves the client out, whatever the aggregator; most aggregators do so themselves."""
    wanted, _, _ = updates.aggregate(compiled.local, compiled.clients(np.delete(x, 10, 0), WEIGHTS[:10]))
    x[10, 3] = bad
    found, _, _ = updates.aggregate(compiled.local, compiled.clients(x, WEIGHTS))
    assert np.all(np.isfinite(found))
    if compiled.member.reference is not None and compiled.member.ignores_not_finite:
        np.testing.assert_array_equal(found, wanted)
        total = compiled.accumulated(compiled.contributions(x, WEIGHTS))
        same = compiled.report(compiled.accumulated(compiled.contributions(x[:10], WEIGHTS[:10])))
        tf.nest.map_structure(np.testing.assert_array_equal, compiled.report(total), same)


def test_merging_is_associative_and_does_what_adding_one_by_one_does(compiled, x):
    sent = compiled.contributions(x, WEIGHTS)
    a, b, c = (compiled.accumulated(part) for part in (sent[:3], sent[3:4], sent[4:]))
    merge, zero = compiled.parts[0]["merge"], compiled.parts[0]["zero"]()
    wanted = compiled.report(compiled.accumulated(sent))
    for total in (
        merge(*merge(*a, *b), *c),
        merge(*a, *merge(*b, *c)),
        compiled.accumulated(sent[4:], merge(*a, *b)),
        merge(*zero, *compiled.accumulated(sent)),
        merge(*compiled.accumulated(sent), *zero),
    ):
        tf.nest.map_structure(assert_close, compiled.report(total), wanted)


def test_a_saved_state_goes_on_the_same(compiled, x, tmp_path):
    _, _, state = updates.aggregate(compiled.local, compiled.clients(x, WEIGHTS))
    Checkpoints(str(tmp_path)).save(state, 1)
    loaded, round_num = Checkpoints(str(tmp_path)).load_latest(compiled.local.initialize())
    assert round_num == 1
    wanted, measured, _ = updates.aggregate(compiled.local, compiled.clients(x[::-1], WEIGHTS), state)
    found, measured_there, _ = updates.aggregate(compiled.local, compiled.clients(x[::-1], WEIGHTS), loaded)
    np.testing.assert_array_equal(found, wanted)
    tf.nest.map_structure(np.testing.assert_array_equal, measured_there, measured)


def check_in_every_wrapper_at_once(compiled, x):
    """Clipping to norm 1, where adaptive clipping starts, is all that happens to the updates on the way."""
    factory = compiled.factory
    process = updates.build_process(aggregators.stack(*WRAPPERS.values(), factory), compiled.member.weight_type)
    with LocalEngine(process, threads=2) as engine:
        found, measured, _ = updates.aggregate(engine, compiled.clients(x, WEIGHTS))
    assert np.all(np.isfinite(found))
    assert set(measured) >= {"clipping", "clipping_norm", "clipped_count"}
    if compiled.member.reference is not None and compiled.member.by_vector:
        short = _shortened(x.astype(np.float64), 1.0)
        wanted = compiled.member.reference(short, WEIGHTS.astype(np.float64))
        assert_close(found, wanted, compiled.member.tolerance)


def test_in_every_wrapper_at_once(compiled, x):
    if compiled.name not in WRAPPED:
        pytest.skip("the slow suite wraps every member")
    check_in_every_wrapper_at_once(compiled, x)


@pytest.mark.slow
def test_all_members_in_every_wrapper_at_once(compiled, x):
    check_in_every_wrapper_at_once(compiled, x)


def test_the_state_of_no_member_holds_updates(compiled):
    """A robust rule's buffer lives within a round: checkpoints do not grow with the cohort."""
    state = compiled.local.initialize()
    size = sum(np.size(leaf) for leaf in tf.nest.flatten(state.aggregator))
    assert size <= 2 * updates.SIZE + 10
    assert isinstance(state.aggregator, (tuple, list, collections.OrderedDict))
