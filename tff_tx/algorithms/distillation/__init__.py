"""Ensemble distillation on the server (FedDF), also of clients whose models differ in architecture."""

from tff_tx.algorithms.distillation.engine import FedDFEngine, Group, deal
from tff_tx.algorithms.distillation.ensemble import EnsembleDistillation

__all__ = ["EnsembleDistillation", "FedDFEngine", "Group", "deal"]
