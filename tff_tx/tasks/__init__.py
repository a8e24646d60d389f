"""Tasks: what is learned from whose data, checked to fit together."""

from tff_tx.tasks.create import ModelSpec, create_task
from tff_tx.tasks.features import FeatureCache
from tff_tx.tasks.federated_task import FederatedTask, build_objective, client_arguments
from tff_tx.tasks.preprocessing import KINDS, LocalTraining, Preprocessing

__all__ = [
    "KINDS",
    "FeatureCache",
    "FederatedTask",
    "LocalTraining",
    "ModelSpec",
    "Preprocessing",
    "build_objective",
    "client_arguments",
    "create_task",
]
