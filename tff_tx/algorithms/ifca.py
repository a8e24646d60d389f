"""IFCA (Ghosh et al. 2020), the same as HypCluster (Mansour et al. 2020)."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.algorithms import capabilities, client, fed_avg
from tff_tx.algorithms.algorithm import Algorithm, check
from tff_tx.algorithms.options import Options


@dataclasses.dataclass(frozen=True)
class Clusters:
    """Several models as one, each of whose trainable weights has a leading dimension: the cluster.

    They begin around the weights of the model, the first of them with these: with a pretrained model this is the warm
    start without which all clients gather in one cluster.

    Attributes:
      model: The model that each cluster has.
      number: Of clusters.
      spread: Standard deviation of the noise on the other clusters' weights, in units of a weight's root mean square.
    """

    model: tff.learning.models.FunctionalModel
    number: int
    spread: float

    @property
    def initial_weights(self) -> tuple[tuple, tuple]:
        """(trainable, each [clusters, ...], others)."""
        trainable, others = self.model.initial_weights
        return tuple(self._around(i, tf.convert_to_tensor(w)) for i, w in enumerate(trainable)), others

    def _around(self, i, weight):
        noise = tf.random.stateless_normal([self.number - 1, *weight.shape], [self.number, i], dtype=weight.dtype)
        noise *= self.spread * tf.sqrt(tf.reduce_mean(weight**2))
        return tf.concat([weight[tf.newaxis], weight[tf.newaxis] + noise], axis=0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


def models_of(weights: Any) -> list[Any]:
    """The `ModelWeights` of each cluster, of those of all."""
    number = len(weights.trainable[0])
    part = tff.learning.models.ModelWeights
    return [part(tuple(w[k] for w in weights.trainable), tuple(weights.non_trainable)) for k in range(number)]


def client_update(one: client.Client, batches: tf.data.Dataset, rate: tf.Tensor) -> tuple:
    """The client's part of IFCA, of models w_1, ..., w_K.

    j = argmin_k l(w_k; its batches); w <- w_j; for each batch b: w <- w - eta grad l(w; b); send w_j - w for j, and 0
    for all others.
    """
    model, frozen = one.context.model.model, one.context.frozen
    models = [tuple(w[k] for w in one.server) for k in range(one.context.model.number)]

    def add(losses, batch):
        x, y = batch
        outputs = [model.predict_on_batch((trained, frozen), x, training=False) for trained in models]
        examples = tf.cast(tf.shape(outputs[0])[0], tf.float32)
        return losses + examples * tf.stack([model.loss(output, y) for output in outputs])

    chosen = tf.argmin(batches.reduce(tf.zeros(len(models)), add))
    context = one.context._replace(model=model, server=tuple(tf.gather(w, chosen) for w in one.server))
    result, metrics = fed_avg.client_update(dataclasses.replace(one, context=context), batches, rate)
    is_chosen = tf.one_hot(chosen, len(models))
    update = tuple(tf.tensordot(tf.cast(is_chosen, u.dtype), u, axes=0) for u in result.update)
    return tff.learning.templates.ClientResult(update, result.update_weight), metrics


def build_ifca(model: tff.learning.models.FunctionalModel, options: Options) -> tff.learning.templates.LearningProcess:
    """Builds IFCA: the server has several models, and each client trains that which has the least loss on its data.

    https://arxiv.org/abs/2006.04088, Algorithm 1, option I, with the update of local steps in the gradient's place:
    w_k <- ServerOpt(w_k, sum over the clients of k of n_i/n u_i), where n counts the examples of all clients. So what a
    client sends is a sum's term, and the server does not learn who is in which cluster where sums are secure: as
    option II, a mean of each cluster, would have it, the server's rate is the number of clusters if these are alike.
    With one cluster it is FedAvg. https://arxiv.org/abs/2002.10619 has the same as HypCluster.

    Raises:
      UserError: If options do not fit together.
    """
    check(IFCA, options, model)
    clusters = Clusters(model, options.clusters, options.cluster_spread)
    work = client.build_client_work(clusters, options, client_update)
    return client.compose(clusters, options, client_work=work)


IFCA = Algorithm(
    name="ifca",
    title="IFCA",
    paper="https://arxiv.org/abs/2006.04088",
    build=build_ifca,
    capabilities=capabilities.ALL
    - {
        *(capabilities.ONE_MODEL, capabilities.ONE_UPDATE, capabilities.SENDS_MODEL, capabilities.SENDS_LOSS),
        *(capabilities.EXAMPLE_DP, capabilities.PERSONAL_WEIGHTS, capabilities.LORA_PRODUCTS),
    },
    own_model="chosen",
    models_fn=models_of,
)
