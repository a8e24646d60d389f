"""Ensemble distillation on the server (FedDF), also of clients whose models differ in architecture."""

from tff_tx.algorithms.distillation.engine import FedDFEngine, Group, assign_groups
