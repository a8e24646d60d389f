"""What contenders in TensorFlow share: the model, the clients' data, our process and the plain training loop."""

from __future__ import annotations

import collections
import gc
from collections.abc import Sequence
from typing import Callable

import tensorflow as tf
import tensorflow_federated as tff
import tf_keras

import programs
from benchmarks import measure
from benchmarks.workloads import LEARNING_RATE, Workload
from tff_tx import algorithms, models
from tff_tx.config.run import EngineConfig
from tff_tx.runtime.internals.stacks import without_stacks

gc.freeze()  # as a program does once it has imported everything
gc.set_threshold(*programs.usual_gc_threshold)


def keras_model(workload: Workload) -> tf_keras.Model:
    """The model, built."""
    return models.from_config("TFAutoModelForSequenceClassification", "bert", workload.bert_config)


def texts_spec() -> collections.OrderedDict:
    """Of a batch of texts, with the seed of dropout."""
    length = [None, None]
    return collections.OrderedDict(
        attention_mask=tf.TensorSpec(length, tf.int32),
        input_ids=tf.TensorSpec(length, tf.int32),
        seed=tf.TensorSpec([2], tf.int64),
    )


def process(
    workload: Workload, trainable: str = "all", lora: models.Lora | None = None, **options
) -> tff.learning.templates.LearningProcess:
    """FedAvg as this project builds it, with clients given as datasets.

    Args:
      workload: The model's size.
      trainable: As in `functional_model`.
      lora: The same.
      **options: More of `algorithms.Options`.
    """
    model = models.functional_model(
        keras_model(workload), models.classification(), texts_spec(), trainable=trainable, lora=lora
    )
    options = algorithms.Options(
        client_optimizer_fn=lambda rate: algorithms.build_optimizer("sgd", rate),
        server_optimizer=algorithms.build_optimizer("sgd", 1.0),
        client_learning_rate=LEARNING_RATE,
        **options,
    )
    with without_stacks():  # as a run's
        return algorithms.build_fed_avg(model, options)


def threads() -> int:
    """As many as `programs.train` uses by default."""
    return EngineConfig().num_threads


class Clients(Sequence):
    """The clients' datasets, made when asked for: what a cohort takes in memory is then the engine's doing.

    Args:
      workload: Whose batches.
      seeded: Whether the inputs have the seed that this project's models take.
    """

    def __init__(self, workload: Workload, seeded: bool = True):
        self._workload, self._seeded = workload, seeded

    def __len__(self):
        return self._workload.clients

    def __getitem__(self, client):
        if not 0 <= client < len(self):
            raise IndexError(client)
        x, y = self._workload.client_batches(client)
        if not self._seeded:
            del x["seed"]
        return tf.data.Dataset.from_tensor_slices((x, y))


def loss_of(output: tff.learning.templates.LearningProcessOutput) -> measure.Round:
    """The round as its metrics tell it."""
    return measure.Round(output.metrics["client_work"]["train"]["loss"])


def training_loop(workload: Workload) -> Callable[[int], tf.Tensor]:
    """One training loop over the Keras model as it is, without clients or server.

    Returns:
      A function that trains on the batches of a client and gives their losses.
    """
    model = keras_model(workload)
    optimizer = tf_keras.optimizers.SGD(LEARNING_RATE)
    loss_fn = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True).logits)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return loss

    def batches(client):
        x, y = workload.client_batches(client)
        return [
            ({name: tf.constant(x[name][i]) for name in ("attention_mask", "input_ids")}, tf.constant(y[i]))
            for i in range(workload.batches)
        ]

    data = [batches(client) for client in range(workload.clients)]
    return lambda client: [step(x, y) for x, y in data[client]]
