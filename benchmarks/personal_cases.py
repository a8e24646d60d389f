"""Data sets of `benchmarks.personalization`: who the clients are, which model they train, and what is measured."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any, Callable

import pandas as pd

import tff_tx as ft


@dataclasses.dataclass(frozen=True)
class Case:
    """A data set.

    Attributes:
      parts: From the command line and a directory for files: the kind of task, its `Data`, and arguments of `Model`.
      learning_rate: Of clients, unless the command line has another.
      rounds: The same.
      personal: The personal weights of methods that have some, see `Model`.
      adapters: Arguments of `LoRA`, of methods with adapters.
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
    adapters: dict = dataclasses.field(default_factory=lambda: {"rank": 4})
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


def _plays(flags, directory):
    """The 10 speakers with the most text; of each a quarter of the turns is held out."""
    with open(os.path.join(flags.data, "shakespeare", "plays.txt"), encoding="utf-8") as file:
        turns = file.read().strip().split("\n\n")
    lengths = Counter()
    for turn in turns:
        lengths[turn.partition("\n")[0]] += len(turn)
    chosen = {speaker for speaker, _ in lengths.most_common(10)}
    path = _written(directory, "plays.txt", "\n\n".join(t for t in turns if t.partition("\n")[0] in chosen))
    data = ft.Data(path, data_format="dialogue", test=0.25, split="within_client", max_length=64, max_examples=96)
    sizes = {"n_embd": 64, "n_layer": 2, "n_head": 4, "activation_function": "gelu"}
    config = {**sizes, **dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0)}
    return "causal_lm", data, {"architecture": "gpt2", "tokenizer": "bytes", "config": config}


def _traffic(flags, directory):
    """20 of the sensors, drawn by the seed; of each the last fifth of the week is held out."""
    del directory
    series = {"client_per_column": True, "num_clients": 20, "split": "time", "test": 0.2, "max_examples": 640}
    data = ft.Data(os.path.join(flags.data, "traffic", "los_speed.csv"), **series, context_length=12)
    return "forecasting", data | ft.settings(horizons=(12,)), {"architecture": "patch_transformer"}


def _video_games(flags, directory):
    """The 50 users with the most of the 500 most rated games; of each the last quarter is held out."""
    path = os.path.join(flags.data, "video_games", "interactions.txt")
    table = pd.read_csv(path, sep=" ", names=["user", "item"])
    table = table[table["item"].isin(table["item"].value_counts().index[:500])]
    table = table[table["user"].isin(table["user"].value_counts().index[:50])]
    path = _written(directory, "video_games.csv", table.to_csv(index=False))
    columns = {"client_column": "user", "label_column": "item", "split": "time", "test": 0.25, "max_length": 50}
    dropout = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2}
    return "next_item", ft.Data(path, **columns), {"architecture": "sasrec", "config": dropout}


def _written(directory, name, text):
    path = os.path.join(directory, name)
    if not os.path.exists(path):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    return path


_OTHERS = ("FedProx", "SCAFFOLD", "FedDyn", "FedNova", "FedBN", "FedBABU", "FedRecon", "pFedMe", "IFCA, 4 clusters")
_OTHERS += ("FedAvg, adapters", "FedDPA-T", "FedDPA-F", "FedAvg, fine-tuned", "Reptile, fine-tuned")
_OTHERS += ("Per-FedAvg, fine-tuned", "kNN-Per, 10 neighbors")
CASES = {
    "digits": Case(_digits, learning_rate=5e-3),
    # With all below the pooler frozen there are no norms to train. Methods with adapters compute the activations anew.
    "ag_news": Case(_ag_news, learning_rate=1e-3, adapters={"rank": 4, "targets": "pooler"}, left_out=("FedBN",)),
    "plays": Case(
        _plays,
        learning_rate=5e-3,
        rounds=40,
        # The head is the embedding of bytes: personal is the last block instead.
        personal=r"layers:h_\._1|ln_f",
        left_out=_OTHERS,
        metric="accuracy",
        also="loss",
        batch_size=8,
        clients_per_round=10,
    ),
    "traffic": Case(
        _traffic,
        learning_rate=2e-3,
        rounds=12,
        left_out=_OTHERS,
        metric="mae",
        also="rmse",
        scale=1,
        digits=2,
        batch_size=64,
    ),
    "video_games": Case(
        _video_games,
        learning_rate=1.0,
        # The head is the table of games: personal is the last normalization, whose shift is a vector of the user.
        personal="layers:backbone/norm",
        left_out=_OTHERS,
        metric="hr_at_10",
        also="ndcg_at_10",
        client=ft.SGD,
        batch_size=1,
        algorithm={"server": ft.Adam(3e-3, epsilon=1e-8)},
        clients_per_round=50,
    ),
}
