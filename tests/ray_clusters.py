"""Ray clusters of several nodes on one machine, and what runs on them."""

from __future__ import annotations

import collections
import time

import numpy as np
import psutil
import tensorflow as tf
import tensorflow_federated as tff

from tests import tiny
from tff_tx import algorithms

GOOD, NOT_FINITE, ENDLESS = range(3)
"""Kinds of clients."""

_SECONDS = 120


def wait_until(condition, what):
    """Waits for something to become true, and gives it."""
    deadline = time.monotonic() + _SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {_SECONDS} s: {what}"
        time.sleep(0.1)
    return found


def wait_for_workers(cluster, number):
    """Waits until so many workers of a `RayCluster` are up."""

    def there():
        cluster.refresh()
        return len(cluster.ready()) >= number

    wait_until(there, f"{number} workers")


@tff.tensorflow.computation(collections.OrderedDict(kind=np.int32, seed=np.int64))
def client_batches(client):
    """What a client has: 12 examples; a poisoned one has infinities among them, or never comes to an end."""
    seed = tf.stack([client["seed"], 0])
    x = tf.random.stateless_normal([12, 5], seed)
    x = tf.where(tf.equal(client["kind"], NOT_FINITE), np.inf, x)
    y = tf.random.stateless_uniform([12], seed, 0, 3, tf.int32)
    endless = tf.data.Dataset.range(np.iinfo(np.int64).max).filter(lambda i: i < 0).map(lambda _: (x[0], y[0]))
    examples = tf.data.Dataset.from_tensor_slices((x, y)).concatenate(
        endless.take(tf.where(tf.equal(client["kind"], ENDLESS), tf.constant(-1, tf.int64), 0))
    )
    seeds = tf.data.Dataset.range(1000).map(lambda i: tf.stack([i, i]))
    return tf.data.Dataset.zip((examples.batch(5), seeds)).map(
        lambda xy, s: (collections.OrderedDict(x=xy[0], seed=s), xy[1])
    )


def process(frozen=False):
    """FedAvg of a linear model over `clients`."""
    options = algorithms.Options(
        client_optimizer_fn=lambda rate: algorithms.build_optimizer("sgd", rate),
        server_optimizer=algorithms.build_optimizer("sgd", 1.0, momentum=0.9),
    )
    return tff.simulation.compose_dataset_computation_with_learning_process(
        client_batches, algorithms.build_fed_avg(tiny.linear_model(frozen=frozen), options)
    )


def clients(number, **kinds):
    """A cohort; `kinds` has the positions of those that are not good, as `p3=ENDLESS`."""
    return [collections.OrderedDict(kind=np.int32(kinds.get(f"p{i}", GOOD)), seed=np.int64(i)) for i in range(number)]


def node_of(silo):
    """Ray's id of the node that this is called on."""
    import ray

    return ray.get_runtime_context().get_node_id()


def workers():
    """Processes of this project's workers whose raylets this process has started."""
    return [p for p in psutil.Process().children(recursive=True) if "ray::Worker" in _title(p)]


def _title(process):
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
