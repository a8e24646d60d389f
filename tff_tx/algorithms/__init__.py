"""Algorithms, each a builder from a functional model and `Options` to a `LearningProcess`.

A new one is a file here and a line in `ALGORITHMS`.
"""

from tff_tx.algorithms.fed_avg import build_fed_avg
from tff_tx.algorithms.fed_gkd import GlobalDistillation
from tff_tx.algorithms.fed_prox import build_fed_prox
from tff_tx.algorithms.fed_sgd import build_fed_sgd
from tff_tx.algorithms.local_privacy import ExamplePrivacy, LocalPrivacy
from tff_tx.algorithms.lora import LORA_AGGREGATIONS, build_lora_fed_avg
from tff_tx.algorithms.mime_lite import build_mime_lite
from tff_tx.algorithms.optimizers import (
    OPTIMIZERS,
    SCHEDULES,
    build_optimizer,
    build_schedule,
    schedule_learning_rate,
)
from tff_tx.algorithms.options import Options

ALGORITHMS = {
    "fed_avg": build_fed_avg,
    "fed_prox": build_fed_prox,
    "fed_sgd": build_fed_sgd,
    "mime_lite": build_mime_lite,
}

__all__ = [
    "ALGORITHMS",
    "LORA_AGGREGATIONS",
    "OPTIMIZERS",
    "SCHEDULES",
    "ExamplePrivacy",
    "GlobalDistillation",
    "LocalPrivacy",
    "Options",
    "build_fed_avg",
    "build_fed_prox",
    "build_fed_sgd",
    "build_lora_fed_avg",
    "build_mime_lite",
    "build_optimizer",
    "build_schedule",
    "schedule_learning_rate",
]
