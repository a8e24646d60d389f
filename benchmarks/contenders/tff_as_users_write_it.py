"""TFF as its tutorials teach it: the model as a VariableModel, FedAvg with default arguments, the default context."""

from __future__ import annotations

import collections
import contextlib

import psutil
import tensorflow as tf
import tensorflow_federated as tff
import transformers

from benchmarks import measure
from benchmarks.contenders import parts
from benchmarks.workloads import LEARNING_RATE, Workload


class BertModel(tff.learning.models.VariableModel):
    """A Hugging Face model behind TFF's interface for models with variables."""

    def __init__(self, workload: Workload):
        config = transformers.BertConfig(**workload.bert_config)
        self._model = transformers.TFBertForSequenceClassification(config)
        self._model.build_in_name_scope()
        self._num_examples = tf.Variable(0.0, trainable=False)
        self._loss_sum = tf.Variable(0.0, trainable=False)

    @property
    def trainable_variables(self):
        return self._model.trainable_variables

    @property
    def non_trainable_variables(self):
        return self._model.non_trainable_variables

    @property
    def local_variables(self):
        return [self._num_examples, self._loss_sum]

    @property
    def input_spec(self):
        tokens = tf.TensorSpec([None, None], tf.int32)
        x = collections.OrderedDict(attention_mask=tokens, input_ids=tokens)
        return (x, tf.TensorSpec([None], tf.int32))

    @tf.function
    def predict_on_batch(self, x, training=True):
        return self._model(dict(x), training=training).logits

    @tf.function
    def forward_pass(self, batch_input, training=True):
        x, y = batch_input
        logits = self.predict_on_batch(x, training)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits))
        num_examples = tf.shape(y)[0]
        self._num_examples.assign_add(tf.cast(num_examples, tf.float32))
        self._loss_sum.assign_add(loss * tf.cast(num_examples, tf.float32))
        return tff.learning.models.BatchOutput(loss=loss, predictions=logits, num_examples=num_examples)

    @tf.function
    def report_local_unfinalized_metrics(self):
        return collections.OrderedDict(loss=[self._loss_sum, self._num_examples])

    def metric_finalizers(self):
        return collections.OrderedDict(loss=tf.function(lambda sums: sums[0] / sums[1]))

    @tf.function
    def reset_metrics(self):
        self._num_examples.assign(0.0)
        self._loss_sum.assign(0.0)


@contextlib.contextmanager
def tff_as_users_write_it(workload):
    """Gives a function that runs a round of FedAvg."""
    process = tff.learning.algorithms.build_weighted_fed_avg(
        lambda: BertModel(workload),
        client_optimizer_fn=tff.learning.optimizers.build_sgdm(LEARNING_RATE),
        server_optimizer_fn=tff.learning.optimizers.build_sgdm(1.0),
    )
    clients = list(parts.Clients(workload, seeded=False))
    try:
        state = process.initialize()

        def run_round():
            nonlocal state
            output = process.next(state, clients)
            state = output.state
            return parts.loss_of(output)

        yield run_round
    finally:  # the context's worker outlives the program that started it
        for child in psutil.Process().children():
            if "worker_binary" in child.name():
                child.kill()


if __name__ == "__main__":
    measure.main(tff_as_users_write_it)
