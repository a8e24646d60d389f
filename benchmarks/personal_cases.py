"""Data sets of `benchmarks.personalization`: who the clients are, which model they train, and what is measured."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, Callable

import tff_tx as ft


@dataclasses.dataclass(frozen=True)
class Case:
    """A data set.

    Attributes:
      parts: From the command line and a directory for files: the kind of task, its `Data`, and arguments of `Model`.
      learning_rate: Of clients, unless the command line has another.
      rounds: The same.
      personal: The personal weights of methods that have some, see `Model`.
      left_out: Methods that run only if they are named.
      metric: By which clients are compared; None: as `comparison.judged_by` chooses.
      also: A second metric, of which the table has the mean, as it is.
      scale: Of its figures in the table, as the digits after the point.
      client: Optimizer of clients, of their learning rate.
      batch_size: Of clients.
      algorithm: Further arguments of each method's algorithm.
      clients_per_round: In training.
    """

    parts: Callable[[Any, str], tuple[str | None, Any, dict]]
    learning_rate: float
    rounds: int = 30
    personal: str = "head"
    left_out: Sequence[str] = ()
    metric: str | None = None
    also: str | None = None
    scale: float = 100.0
    digits: int = 1
    client: Callable[[float], Any] = ft.Adam
    batch_size: int = 10
    algorithm: dict = dataclasses.field(default_factory=dict)
    clients_per_round: int = 20


def _digits(flags, directory):
    del directory
    data = ft.Data("digits", clients=ft.Dirichlet(20, alpha=flags.alpha), test=0.25, split="within_client")
    sizes = {"hidden_size": flags.hidden_size, "intermediate_size": 2 * flags.hidden_size}
    return None, data, {"config": {**sizes, "num_hidden_layers": 2, "num_attention_heads": 4}}


def _ag_news(flags, directory):
    """The pooler and the head of a checkpoint whose other layers are frozen; their activations are computed once."""
    del directory
    columns = {"columns": ("label", "title", "text"), "label_column": "label", "text_join": "blank"}
    columns |= {"text_column": ("title", "text"), "data_format": "csv", "test": 0.25, "split": "within_client"}
    path = os.path.join(flags.data, "ag_news", "ag_news_7600.csv")
    data = ft.Data(path, clients=ft.Dirichlet(20, alpha=flags.alpha), **columns)
    model = {"pretrained": flags.pretrained, "trainable": "layers:pooler|classifier", "cache_features": True}
    return "sequence_classification", data, model


ADAPTED = ("FedAvg, adapters", "FedDPA-T", "FedDPA-F")
CASES = {
    "digits": Case(_digits, learning_rate=5e-3),
    # With all below the pooler frozen there are no norms to train; adapters train the layers below.
    "ag_news": Case(_ag_news, learning_rate=1e-3, left_out=("FedBN", *ADAPTED)),
}
