"""FedProx (Li et al. 2020)."""

from __future__ import annotations

import tensorflow_federated as tff

from tff_tx.algorithms.fed_avg import build_fed_avg
from tff_tx.algorithms.local_training import build_local_training_process
from tff_tx.algorithms.options import Options


def build_fed_prox(
    model: tff.learning.models.FunctionalModel, options: Options
) -> tff.learning.templates.LearningProcess:
    """Builds FedProx: FedAvg whose clients stay close to the server's model w_t.

    They minimize F_k(w) + mu/2 |w - w_t|^2, https://arxiv.org/abs/1812.06127, Algorithm 2; mu is
    `options.proximal_strength`, and 0 gives FedAvg. Not over TFF's builder, see `local_training`.
    """
    if options.proximal_strength == 0:
        return build_fed_avg(model, options)
    return build_local_training_process(model, options)
