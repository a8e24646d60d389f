"""Two clients whose losses are a/2 (w - b)^2, of one weight: whatever an algorithm does is a line of NumPy."""

import collections

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx import algorithms, cohorts
from tff_tx.runtime import LocalEngine, RetainedState, process_state

CURVATURE, MINIMUM, STEPS = (1.0, 4.0), (-1.0, 3.0), (3, 5)
"""a, b and the number of batches of each client."""
OPTIMUM = float(np.average(MINIMUM, weights=CURVATURE))
"""Of the mean loss."""
RATE = 0.1


def gradient(k, w):
    return CURVATURE[k] * (w - MINIMUM[k])


@tf.function(autograph=False)
def predict(weights, x, training):
    del training
    (w,), _ = weights
    return x["ab"][:, 0] / 2 * (w - x["ab"][:, 1]) ** 2


@tf.function(autograph=False)
def loss(output, label, sample_weight=None):
    return tf.reduce_mean(output)


@tf.function(autograph=False)
def no_examples():
    return collections.OrderedDict(examples=0.0)


@tf.function(autograph=False)
def count(state, labels, batch_output, sample_weight=None):
    return collections.OrderedDict(examples=state["examples"] + tf.cast(batch_output.num_examples, tf.float32))


@tf.function(autograph=False)
def finalize(state):
    return state


def model():
    """A functional model of one weight, 0 at first; an example is (a, b)."""
    spec = collections.OrderedDict(ab=tf.TensorSpec([None, 2]), seed=tf.TensorSpec([2], tf.int64))
    return tff.learning.models.FunctionalModel(
        initial_weights=((np.zeros([1], np.float32),), ()),
        predict_on_batch_fn=predict,
        loss_fn=loss,
        metrics_fns=(no_examples, count, finalize),
        input_spec=(spec, tf.TensorSpec([None])),
    )


def options(momentum=0.0, weighted=False, server_rate=1.0, **fields):
    return algorithms.Options(
        client_optimizer_fn=lambda rate: algorithms.build_optimizer("sgd", rate, momentum=momentum),
        server_optimizer=algorithms.build_optimizer("sgd", server_rate),
        client_learning_rate=RATE,
        weighted=weighted,
        num_clients=2,
        clients_per_round=2,
        **fields,
    )


def run(name, opts, directory, rounds, steps=STEPS):
    """The weight after each of the rounds, given by their clients; float64 [rounds]."""
    algorithm = algorithms.ALGORITHMS[name]

    @tff.tensorflow.computation(collections.OrderedDict(client_id=np.str_))
    def batches(client):
        k = tf.strings.to_number(client["client_id"], tf.int32)
        example = tf.gather(tf.constant(list(zip(CURVATURE, MINIMUM))), k)[None]
        x = collections.OrderedDict(ab=example, seed=tf.zeros([2], tf.int64))
        number = tf.gather(tf.constant(steps, tf.int64), k)
        return tf.data.Dataset.from_tensors((x, tf.zeros([1]))).repeat(number)

    process = tff.simulation.compose_dataset_computation_with_learning_process(batches, algorithm.build(model(), opts))
    hooks = [RetainedState(cohorts.ClientStore(str(directory), 10))] if algorithm.client_state else []
    found = []
    with LocalEngine(process, hooks=hooks) as engine:
        state = engine.initialize()
        for clients in rounds:
            state = engine.run_round(state, [collections.OrderedDict(client_id=str(k).encode()) for k in clients]).state
            found.append(process_state(state).global_model_weights.trainable[0][0])
    return np.array(found, np.float64)
