"""Accumulated gradients are those of the batch as a whole."""

import collections
import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests import tiny
from tests.algorithms.test_algorithms import assert_close, clients, options, plain, run
from tff_tx import models
from tff_tx.aggregators import AttentionFactory
from tff_tx.algorithms import accumulate, chain, distill, dp_sgd, proximal
from tff_tx.algorithms.client import accumulation
from tff_tx.core.errors import UserError


def test_parts_are_the_batch_with_seeds_of_their_own():
    x = collections.OrderedDict(x=np.arange(7), seed=[3, 4], lora_rank=2)
    batch = tf.data.Dataset.from_generator(
        lambda: iter([(x, 10 + np.arange(7))]),
        output_signature=(
            collections.OrderedDict(
                x=tf.TensorSpec([None], tf.int32),
                seed=tf.TensorSpec([2], tf.int64),
                lora_rank=tf.TensorSpec([], tf.int32),
            ),
            tf.TensorSpec([None], tf.int32),
        ),
    )
    parts = list(accumulation.in_parts(batch, 3))
    assert [x["x"].numpy().tolist() for x, _, _ in parts] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [y.numpy().tolist() for _, y, _ in parts] == [[10, 11, 12], [13, 14, 15], [16]]
    assert [bool(ends) for *_, ends in parts] == [False, False, True]
    assert len({tuple(x["seed"].numpy()) for x, _, _ in parts}) == 3
    assert all(x["lora_rank"] == 2 for x, _, _ in parts)
    assert [len(y) for _, y, _ in accumulation.in_parts(batch, 20)] == [1] * 7


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 3, 50])
def test_a_run_equals_one_without(number):
    """Of clients whose batches, and whose last ones above all, are no multiples of the parts."""
    output = run("fed_avg", options(transforms=chain(accumulate(number))), clients())
    assert_close(tiny.weights_of(output.state), tiny.weights_of(plain().state))
    ours, whole = (o.metrics["client_work"]["train"] for o in (output, plain()))
    assert ours["loss"] == pytest.approx(whole["loss"], rel=1e-5)
    assert (ours["num_examples"], ours["accuracy"]) == (whole["num_examples"], whole["accuracy"])


@pytest.mark.slow
def test_the_optimizer_takes_one_step_a_batch():
    """What it clips is the gradient of the batch, and the proximal term counts once."""

    def final(*more):
        opts = options(clip_norm=0.2, rate=1.0, transforms=chain(proximal(0.3), *more))
        return tiny.weights_of(run("fed_prox", opts, clients()).state)

    assert_close(final(accumulate(3)), final(), 1e-5)


@pytest.mark.slow
def test_the_loss_that_clients_count_by_is_that_of_batches():
    def final(**fields):
        attention = AttentionFactory(key="loss", temperature=0.3)
        return tiny.weights_of(
            run("fed_avg", options(sends_loss=True, aggregator=attention, **fields), clients()).state
        )

    assert_close(final(transforms=chain(accumulate(2))), final(), 1e-5)


@functools.cache
def tokens():
    """A model that labels tokens, and a client with very unequal numbers of labelled tokens a text."""
    inner = tf_keras.Sequential([tf_keras.layers.Input([None, 3]), tf_keras.layers.Dense(4)])
    inner.layers[-1].set_weights([np.linspace(-1, 1, 12).reshape(3, 4), np.zeros(4)])
    spec = collections.OrderedDict(inputs=tf.TensorSpec([None, None, 3]))
    model = models.functional_model(inner, models.language_modeling("causal_lm"), spec)
    rng = np.random.default_rng(3)
    x, labels = rng.normal(size=[6, 5, 3]).astype(np.float32), rng.integers(0, 4, [6, 5]).astype(np.int32)
    for row, labelled in enumerate([5, 1, 0, 0, 4, 2]):  # a part of two may have none at all
        labels[row, labelled:] = models.IGNORED
    data = tf.data.Dataset.from_tensor_slices((collections.OrderedDict(inputs=x), labels)).batch(6)
    return model, [data.map(lambda x, y: (collections.OrderedDict(x), y))]


@pytest.mark.slow
@pytest.mark.parametrize("distilled", [False, True])
def test_parts_count_by_what_the_loss_averages_over(distilled):
    model, data = tokens()
    more = [distill(3.0)] if distilled else []
    whole = run("fed_avg", options(rate=1.0, transforms=chain(*more)), data, model=model)
    parts = run("fed_avg", options(rate=1.0, transforms=chain(*more, accumulate(3))), data, model=model)
    assert_close(tiny.weights_of(parts.state), tiny.weights_of(whole.state))
    moved = [np.abs(a - b).max() for a, b in zip(tiny.weights_of(whole.state), model.initial_weights[0])]
    assert min(moved) > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fed_sgd", pytest.param("mime_lite", marks=pytest.mark.slow)])
def test_other_algorithms_accumulate_too(name):
    model, data = tokens()
    whole = run(name, options(rate=1.0, momentum=0.9), data, model=model)
    parts = run(name, options(rate=1.0, momentum=0.9, transforms=chain(accumulate(3))), data, model=model)
    assert_close(tiny.weights_of(parts.state), tiny.weights_of(whole.state))


@pytest.mark.slow
@pytest.mark.parametrize("microbatches", [pytest.param(4, marks=pytest.mark.slow), 2])
def test_clipped_sums_of_parts_add_up(microbatches):
    """DP-SGD without noise; parts never cut through a microbatch."""
    private = dp_sgd(0.3, 0.0, 4, microbatches)
    whole = run("fed_avg", options(transforms=chain(private)), clients())
    parts = run("fed_avg", options(transforms=chain(private, accumulate(3))), clients())
    assert_close(tiny.weights_of(parts.state), tiny.weights_of(whole.state))


@pytest.mark.slow
def test_noise_is_added_once_a_batch():
    """Its standard deviation is that of one draw, whatever the number of parts."""
    model = tiny.linear_model((1000,), 4)
    data = [tiny.batches(*tiny.client_data(8, 1000, 4), 8)]

    def final(sigma):
        opts = options(rate=1.0, transforms=chain(dp_sgd(2.0, sigma, 8), accumulate(4)))
        return tiny.weights_of(run("fed_avg", opts, data, rounds=1, model=model).state)[0]

    noise = (final(1.5) - final(0.0)).ravel() * 8
    assert np.std(noise) == pytest.approx(1.5 * 2.0, rel=4 / np.sqrt(2 * noise.size))


def test_steps_below_one_are_rejected():
    with pytest.raises(UserError, match="gradient_accumulation_steps=0: must be at least 1"):
        accumulate(0)
