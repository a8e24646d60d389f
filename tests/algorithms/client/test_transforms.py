"""Laws of chains, and of the algorithms whose client step is one: against TFF's own builders, bit for bit."""

import itertools

import numpy as np
import pytest
import tensorflow_federated as tff

from tests import tiny
from tests.algorithms.test_algorithms import assert_close, clients, engine_of, options, run
from tff_tx import algorithms
from tff_tx.aggregators import AttentionFactory
from tff_tx.aggregators.dp import WithheldMetricsFactory
from tff_tx.algorithms import accumulate, chain, client, distill, dp_sgd, local_dp, proximal
from tff_tx.algorithms.fed_avg import client_update
from tff_tx.core.errors import UserError
from tff_tx.runtime import LocalEngine

REDUCE = {"loop_implementation": tff.learning.LoopImplementation.DATASET_REDUCE}
SCHEDULE = algorithms.build_schedule("cosine", 0.2, 1, 6)


def train(process):
    with LocalEngine(process, threads=2) as engine:
        return train_in(engine)


def train_in(engine):
    output = tiny.run_rounds(engine, clients(), 3)
    return tiny.weights_of(output.state), output.metrics["client_work"]["train"], engine.traffic()


def equal(left, right):
    """Weights to the bit, metrics, and traffic."""
    assert_close(left[0], right[0], tolerance=0)
    assert left[1] == right[1]
    assert left[2] == right[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "weighted"),
    [
        ("sgd", True),
        ("sgd", False),
        ("adam", True),
        ("adam", False),
    ],
)
def test_an_empty_chain_is_tffs_fed_avg(name, weighted):
    opts, model = options(client=name, weighted=weighted), tiny.linear_model(dropout=0.3)
    ours = train(client.compose(model, opts, client.build_client_work(model, opts, client_update)))
    tffs = train_in(engine_of("fed_avg", opts, model))
    assert_close(ours[0], tffs[0], tolerance=0)
    assert ours[1] == tffs[1]


@pytest.mark.slow
def test_fed_sgd_is_tffs():
    model = tiny.linear_model(dropout=0.3)
    tffs = tff.learning.algorithms.build_fed_sgd(model, algorithms.build_optimizer("sgd", 0.3), **REDUCE)
    equal(train_in(engine_of("fed_sgd", options(server_rate=0.3), model)), train(tffs))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("sgd", None),
        ("adamw", None),
        ("sgd", SCHEDULE),
        ("adamw", SCHEDULE),
    ],
)
def test_mime_lite_is_tffs(name, schedule):
    model = tiny.linear_model(dropout=0.3)
    opts = options(client=name, momentum=0.9, client_schedule=schedule)
    build, rate = tff.learning.algorithms.build_weighted_mime_lite, ()
    if schedule is not None:
        build, rate = tff.learning.algorithms.build_mime_lite_with_optimizer_schedule, (schedule,)
    tffs = build(model, *rate, opts.client_optimizer, opts.server_optimizer, **REDUCE)
    equal(train(algorithms.build_mime_lite(model, opts)), train(tffs))


@pytest.mark.slow
def test_transforms_with_different_hooks_commute():
    parts = proximal(0.3), distill(2.0, models=2), dp_sgd(0.5, 0.5, 4), local_dp(0.5, 1.0)
    left, right = (
        run("fed_avg", options(weighted=False, transforms=chain(*order)), clients()) for order in (parts, parts[::-1])
    )
    assert_close(tiny.weights_of(left.state), tiny.weights_of(right.state), tolerance=0)


def test_transforms_that_change_nothing_are_left_out():
    assert chain(proximal(0.0), distill(0.0), accumulate(1)) == ()
    assert chain(accumulate(2), proximal(0.0)) == (accumulate(2),)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("two", "one"),
    [
        ((proximal(0.2), proximal(0.3)), proximal(0.5)),
        ((distill(1.0, models=2), distill(2.0, models=2)), distill(3.0, models=2)),
    ],
    ids=["proximal", "distill"],
)
def test_terms_of_several_transforms_add_up(two, one):
    """Two proximal terms are one of their sum; two distillations one of the sum of their weights."""
    left, right = (run("fed_avg", options(transforms=chain(*c)), clients(), rounds=3) for c in (two, (one,)))
    assert_close(tiny.weights_of(left.state), tiny.weights_of(right.state))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fed_avg", "fed_sgd"])
def test_dp_sgd_without_noise_that_never_clips_is_plain(name):
    data = clients(sizes=(8, 12, 4))
    private = options(transforms=chain(dp_sgd(1e6, 0.0, 4)))
    outputs = run(name, private, data), run(name, options(), data)
    assert_close(*(tiny.weights_of(output.state) for output in outputs))


@pytest.mark.parametrize(
    "two", [(accumulate(2), accumulate(3)), (dp_sgd(1.0, 0.0, 4), dp_sgd(2.0, 0.0, 4))], ids=["parts", "gradients"]
)
def test_two_of_a_hook_that_is_one_at_most_are_rejected(two):
    with pytest.raises(UserError, match="cannot be in one chain"):
        chain(*two)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["fed_sgd", *(pytest.param(name, marks=pytest.mark.slow) for name in ("fed_avg", "mime_lite"))]
)
def test_the_loss_that_clients_count_by_is_sent_by_all(name):
    """With an infinite temperature attention is the mean; with a low one it prefers a client."""

    def final(**fields):
        return tiny.weights_of(run(name, options(momentum=0.9, **fields), clients()).state)

    even, uneven = (
        final(sends_loss=True, aggregator=AttentionFactory(key="loss", temperature=t)) for t in (np.inf, 0.05)
    )
    assert_close(even, final())
    assert np.abs(even[0] - uneven[0]).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["mime_lite", *(pytest.param(name, marks=pytest.mark.slow) for name in ("fed_avg", "fed_sgd"))]
)
def test_an_aggregator_of_metrics_may_withhold_them(name):
    withheld = run(name, options(metrics_aggregator=WithheldMetricsFactory()), clients())
    shown = run(name, options(), clients())
    assert "loss" not in withheld.metrics["client_work"]["train"]
    assert_close(tiny.weights_of(withheld.state), tiny.weights_of(shown.state), tolerance=0)


def test_clients_of_fed_sgd_may_count_equally():
    alone = [tiny.weights_of(run("fed_sgd", options(), [data], rounds=1).state) for data in clients()]
    mean = [np.mean(parts, 0) for parts in zip(*alone)]
    assert_close(tiny.weights_of(run("fed_sgd", options(weighted=False), clients(), rounds=1).state), mean)


def test_an_update_of_fed_sgd_that_is_not_finite_does_not_count():
    x, y = tiny.client_data(6, seed=9)
    broken = tiny.batches(np.full_like(x, np.nan), y, 4)
    with_broken, without = (run("fed_sgd", options(), data) for data in ([*clients(), broken], clients()))
    assert_close(tiny.weights_of(with_broken.state), tiny.weights_of(without.state))
    train = (output.metrics["client_work"]["train"] for output in (with_broken, without))
    assert next(train)["num_examples"] == next(train)["num_examples"]


SCHEDULED = {"client_schedule": SCHEDULE}
REJECTED = {
    "fed_sgd": [SCHEDULED, {"transforms": (proximal(0.1),)}, {"transforms": (distill(0.1),)}],
    "mime_lite": [
        {"transforms": (dp_sgd(1.0, 1.0, 4),)},
        {"transforms": (local_dp(1.0),), "weighted": False},
        {"wrap_client_work": lambda work: work},
    ],
    "fed_avg": [
        {"transforms": (local_dp(1.0),)},
        {"transforms": (local_dp(1.0),), "weighted": False, "sends_loss": True},
    ],
}


@pytest.mark.parametrize(
    ("name", "fields"), list(itertools.chain(*([(n, f) for f in fields] for n, fields in REJECTED.items())))
)
def test_what_does_not_fit_an_algorithm_is_rejected(name, fields):
    """By its record alone, and by its builder."""
    opts = options(**fields)
    record, model = algorithms.ALGORITHMS[name], tiny.linear_model()
    for build in (lambda: algorithms.check(record, opts, model), lambda: record.build(model, opts)):
        with pytest.raises(UserError):
            build()


def test_every_reason_is_of_a_capability():
    for _, algorithm in algorithms.ALGORITHMS.items():
        assert algorithm.capabilities <= algorithms.capabilities.ALL
        for capability in algorithms.capabilities.ALL - algorithm.capabilities:
            with pytest.raises(UserError, match=f"this cannot be combined with {algorithm.title}: "):
                algorithm.require(capability, "this")
