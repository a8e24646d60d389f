"""Apple's pfl-research: federated averaging on its simulated backend.

Started by itself, one process with PyTorch's own threads; by `torch.distributed.run`, several that share out the
cohort, which is how its guide to fast simulations has it.
"""

from __future__ import annotations

import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNTrainHyperParams
from pfl.internal.ops import pytorch_ops
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel

from benchmarks import measure
from benchmarks.peers import parts
from benchmarks.workloads import LEARNING_RATE


class Model(torch.nn.Module):
    """The model with the two methods that pfl asks for; it keeps the losses of the round."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network, self.losses = network, []

    def loss(self, **batch):
        """The loss of a batch."""
        loss = self.network(**batch).loss
        self.losses.append(loss.detach())
        return loss

    def metrics(self, **batch):
        """Nothing: the other contenders do not evaluate either."""
        del batch
        return {}


class Laps(TrainingProcessCallback):
    """Ends a lap of the watch with every round."""

    def __init__(self, watch: measure.Stopwatch, module: Model):
        self._watch, self._module = watch, module

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        del aggregate_metrics, model, central_iteration
        self._watch.lap(measure.Round(measure.mean(self._module.losses)))
        self._module.losses.clear()
        return False, Metrics()


def main() -> None:
    """Runs the rounds and reports them."""
    options = measure.parse(__doc__)
    workload, shared = options.workload, pytorch_ops.distributed
    module = Model(parts.model(workload))
    users = {
        str(client): PyTorchTensorDataset(parts.client_tensors(workload, client), user_id=str(client))
        for client in range(workload.clients)
    }
    model = PyTorchModel(module, torch.optim.SGD, torch.optim.SGD(module.parameters(), lr=1.0))
    # Every user once a round, as minimal reuse deals them.
    data = FederatedDataset(users.__getitem__, get_user_sampler("minimize_reuse", list(users)))
    name = "pfl_research" if shared.world_size == 1 else "pfl_research_distributed"
    watch = measure.Stopwatch(name, options)
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=watch.total_rounds,
            evaluation_frequency=watch.total_rounds,  # in round 0 at least, which is of the warm-up
            train_cohort_size=workload.clients,
            val_cohort_size=None,
        ),
        backend=SimulatedBackend(data, data, postprocessors=[WeightByDatapoints()]),
        model=model,
        model_train_params=NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=LEARNING_RATE, local_batch_size=workload.batch_size
        ),
        callbacks=[Laps(watch, module)],
        send_metrics_to_platform=False,
    )
    if shared.global_rank == 0:
        watch.report()


if __name__ == "__main__":
    main()
