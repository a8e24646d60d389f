"""Algorithms and client transforms that are defined outside of the package, each in a few lines."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests import tiny
from tests.algorithms.test_algorithms import assert_close, clients, options, plain, start
from tff_tx.algorithms import Algorithm, ClientTransform, build_process, capabilities, chain, client
from tff_tx.algorithms.fed_avg import FED_AVG, client_update
from tff_tx.core.errors import UserError
from tff_tx.runtime import LocalEngine

STEP = 0.01


def build_sign_fed_avg(model, options):
    """FedAvg whose server goes by the sign of the mean update: w_{t+1} = w_t - STEP sign(mean of u_k)."""
    averaging = client.build_server_update(model, options)
    mean_type = averaging.next.type_signature.parameter[2].member

    @tff.tensorflow.computation(mean_type)
    def sign(mean):
        return tf.nest.map_structure(lambda m: STEP * tf.sign(m), mean)

    @tff.federated_computation(averaging.next.type_signature.parameter)
    def next_fn(state, weights, update):
        return averaging.next(state, weights, tff.federated_map(sign, update))

    return client.compose(
        model,
        options,
        client_work=client.build_client_work(model, options, client_update),
        server_update=tff.learning.templates.FinalizerProcess(averaging.initialize, next_fn),
    )


SIGN_FED_AVG = Algorithm("sign_fed_avg", "SignFedAvg", "", build_sign_fed_avg, capabilities.ALL)


@dataclasses.dataclass(frozen=True)
class L2(ClientTransform):
    """Adds lambda/2 |w|^2 to the client's loss."""

    strength: float

    def direction(self, context, trained, gradients):
        return tuple(g + self.strength * w for g, w in zip(gradients, trained))


def train(algorithm, opts, rounds=2, data=None):
    return tiny.weights_of(tiny.run_rounds(engine_of(algorithm, opts), data or clients(), rounds).state)


@functools.cache
def engine_of(algorithm, opts):
    return LocalEngine(build_process(algorithm, tiny.linear_model(), opts), threads=2)


def test_an_algorithm_of_ones_own_trains():
    """The first round goes STEP along the signs of FedAvg's, the second as far again."""
    mean = [w - w0 for w, w0 in zip(tiny.weights_of(plain(1).state), start())]
    one, two = (train(SIGN_FED_AVG, options(), rounds) for rounds in (1, 2))
    assert_close([w - w0 for w, w0 in zip(one, start())], [STEP * np.sign(m) for m in mean])
    for before, after in zip(one, two):
        np.testing.assert_allclose(np.abs(after - before), STEP, rtol=1e-4)


def test_a_transform_of_ones_own_trains():
    """One step on all examples: the gradient's, and the decay's."""
    whole = clients(batch_size=100)
    without = train(FED_AVG, options(), 1, whole)
    decayed = train(FED_AVG, options(transforms=chain(L2(0.5))), 1, whole)
    assert_close(decayed, [w - 0.1 * 0.5 * w0 for w, w0 in zip(without, start())])


def test_what_its_record_lacks_is_rejected():
    limited = dataclasses.replace(SIGN_FED_AVG, capabilities=capabilities.ALL - {capabilities.CLIENT_TRANSFORMS})
    with pytest.raises(UserError, match="L2 cannot be combined with SignFedAvg: its client step is no chain"):
        train(limited, options(transforms=chain(L2(0.5))))
