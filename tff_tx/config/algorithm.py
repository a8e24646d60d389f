"""The federated algorithm: what clients and the server compute in a round."""

from __future__ import annotations

import dataclasses
from typing import Any

from tff_tx.config.option import MOST_MODELS, POSITIVE, Range, Section, option
from tff_tx.config.registries import ALGORITHMS
from tff_tx.config.task import DTYPES

RATE, PRETRAINED_RATE = 2e-3, 1e-4
"""Default client learning rates: in general, and of a pretrained model's own weights with adaptive optimizers."""
RATE_FACTORS = (0.4, 0.63, 1.0, 1.6, 2.5)
"""Of the clients' rate, which those of FedEx draw by default: a rate that is wrong by much can destroy the model."""
OPTIMIZERS = ("sgd", "adam", "adamw", "adagrad", "yogi")
SCHEDULES = ("constant", "linear", "cosine", "inverse_sqrt")
TEACHERS = ("clients", "groups")


@dataclasses.dataclass(frozen=True)
class AlgorithmConfig(Section, name="algorithm"):
    """Algorithm."""

    name: str = option("fed_avg", "Federated algorithm.", flag="algorithm", choices=ALGORITHMS)
    weighted: bool | None = option(
        None, "Weights clients by their number of examples; default: yes, but not in a private run."
    )
    warmup_rounds: int = option(0, "Rounds over which the learning rates rise.", least=0)
    proximal_strength: float = option(
        0.1, "FedProx: mu of the proximal term mu/2 |w - w_t|^2.", least=0.0, search=Range(1e-3, 1.0, log=True)
    )
    distillation_weight: float | None = option(
        None,
        "FedGKD: gamma/2 * KL(global || local) is added to the client loss; default: 0.2, the paper's, with fed_gkd, "
        "else 0.",
        least=0.0,
        search=Range(0.02, 2.0, log=True),
    )
    distillation_temperature: float = option(1.0, "FedGKD: temperature that divides both models' logits.", above=0.0)
    distillation_models: int = option(
        1,
        "FedGKD: the teacher averages this many of the last global models; with more than 1 it is sent along.",
        least=1,
        most=MOST_MODELS,
    )
    personal_epochs: int = option(
        1,
        "FedRep: passes over a client's batches that train {model.personal}, before one that trains the rest. "
        "FedRecon: the same, from nothing in each round. FedBABU, FedDPA-F: passes that train a client's own model "
        "when it is evaluated. FedDPA-T: passes that train a client's own adapter, before one that trains the shared "
        "one.",
        least=0,
    )
    personal_strength: float | None = option(
        None,
        "Ditto, MR-MTL, pFedMe: lambda of the term lambda/2 |v - w|^2 that pulls a client's own model towards the "
        "shared one; default: 0.1, for pFedMe 15.",
        least=0.0,
    )
    moreau_steps: int = option(5, "pFedMe: steps on each batch by which a client's own model is found.", least=1)
    mixing: float = option(
        0.5,
        "APFL: share of a client's own weights in its model, at first. FedDPA: share of its own adapter beside the "
        "shared one.",
        least=0.0,
        most=1.0,
    )
    mixing_rate: float = option(0.01, "APFL: learning rate of that share.", least=0.0)
    clusters: int = option(
        2, "IFCA: number of models, of which each client trains the best one for it.", least=1, most=MOST_MODELS
    )
    cluster_spread: float = option(
        0.1,
        "IFCA: noise by which the models differ from the first one at the start, in units of a weight's root mean "
        "square.",
        least=0.0,
    )

    @property
    def own_strength(self) -> float:
        """Lambda of Ditto, MR-MTL and pFedMe."""
        if self.personal_strength is None:
            return 15.0 if self.name == "p_fed_me" else 0.1
        return self.personal_strength

    @property
    def num_models(self) -> int:
        """Models that the server has."""
        return self.clusters if self.name == "ifca" else 1

    extrapolation_epsilon: float = option(
        1e-3, "FedExP: added to the squared norm of the mean update.", least=0.0, search=Range(1e-4, 1e-1, log=True)
    )
    client_choices: dict[str, Any] = option(
        {},
        "FedEx: values that clients draw from, as JSON with lists of {client.learning_rate}, {client.momentum}, "
        "{client.weight_decay}, {client.clip_norm}, {client.epochs}, {client.steps}, {model.dropout} or "
        '{lora.learning_rate_factor}: {"client_learning_rate": [0.001, 0.01]}; of several, all combinations. Default: '
        f"the learning rate times {', '.join(f'{factor:g}' for factor in RATE_FACTORS)}.",
    )
    dynamic_strength: float = option(0.1, "FedDyn: alpha of the clients' regularization; 0: FedAvg.", least=0.0)
    inner_learning_rate: float = option(
        0.01, "Per-FedAvg: alpha, the rate of the step after which a client's loss is judged.", least=0.0
    )
    hessian_step: float | None = option(
        None, "Per-FedAvg: delta of the Hessian-free variant (HF); default: first order (FO).", above=0.0
    )

    @property
    def distillation_strength(self) -> float:
        """Gamma of FedGKD; 0: no distillation."""
        if self.distillation_weight is None:
            return 0.2 if self.name == "fed_gkd" else 0.0
        return self.distillation_weight

    @property
    def distills(self) -> bool:
        """Whether the global model teaches the clients'."""
        return self.distillation_strength > 0


@dataclasses.dataclass(frozen=True)
class ClientConfig(Section, name="client"):
    """Local training."""

    batch_size: int = option(16, "Examples per batch.", least=1, most=2**20, stated=True, search=(8, 16, 32, 64))
    epochs: int | None = option(
        None,
        "Local epochs per round; default: 1, where {client.steps} says nothing else.",
        flag="local_epochs",
        least=1,
        search=Range(1, 8, log=True),
        stated=True,
    )
    steps: int | None = option(
        None,
        "Local batches per round, instead of {client.epochs}; of more examples, the next round draws others. Default "
        "for stdlib: 16.",
        flag="local_steps",
        least=1,
        search=Range(1, 64, log=True),
        stated=True,
    )
    max_examples: int | None = option(
        None,
        "Maximum number of examples per local epoch; of more, the next epoch draws others, until all have been drawn.",
        least=1,
        stated=True,
    )
    gradient_accumulation_steps: int = option(
        1, "Parts in which a batch is computed, one after another, before the optimizer's step.", least=1
    )
    bucket_by_length: bool = option(False, "Batches examples of similar length, to compute less padding.")
    optimizer: str = option(
        "adam", "Client optimizer.", flag="client_optimizer", choices=OPTIMIZERS, stated=True, search=OPTIMIZERS
    )
    learning_rate: float | None = option(
        None,
        "Client learning rate. Default: 0.002, or 0.0001 for the weights of {model.pretrained} themselves (all or "
        "layers:RE of {model.trainable}; for upper layers alone set 0.001), unless the optimizer is sgd.",
        flag="client_learning_rate",
        least=0.0,
        stated=True,
        search=Range(1e-5, 1.0, log=True),
    )
    momentum: float = option(
        0.0, "Client momentum, for sgd.", flag="client_momentum", least=0.0, most=1.0, search=Range(0.0, 0.95)
    )
    weight_decay: float = option(
        0.01,
        "Client weight decay, for adamw.",
        flag="client_weight_decay",
        least=0.0,
        search=Range(1e-4, 0.3, log=True),
    )
    clip_norm: float | None = option(
        None,
        "L2 norm to which clients clip the gradients of a batch.",
        flag="client_clip_norm",
        formerly=("clip_norm",),
        above=0.0,
        search=Range(0.1, 10.0, log=True),
    )
    schedule: str | None = option(
        None,
        "Client learning rate by round, after the warm-up; default: constant.",
        flag="client_schedule",
        choices=SCHEDULES,
        search=SCHEDULES,
    )
    mixed_precision: str = option("float32", "dtype of client matrix multiplications.", choices=DTYPES)

    @property
    def num_epochs(self) -> int:
        """Local epochs per round, where `steps` is None."""
        return self.epochs or 1

    @property
    def examples_per_pass(self) -> int | None:
        """Most examples of a client that a pass over its data draws in a round; None: all."""
        limits = [self.max_examples, self.steps and self.steps * self.batch_size]
        return min((limit for limit in limits if limit is not None), default=None)

    @property
    def num_passes(self) -> int:
        """Passes over a client's data in a round, if each draws `examples_per_pass`."""
        if self.steps is None:
            return self.num_epochs
        return -(-self.steps * self.batch_size // self.examples_per_pass)

    def num_examples(self, available: int) -> int:
        """Number of examples processed per round (with repetition) by a client that holds `available`."""
        if self.steps is not None:
            return self.steps * self.batch_size
        return self.num_epochs * min(available, self.max_examples or available)


@dataclasses.dataclass(frozen=True)
class ServerConfig(Section, name="server", prefix="server_"):
    """Server optimizer."""

    optimizer: str = option(
        "sgd",
        "Server optimizer; sgd with rate 1 is FedAvg, with momentum FedAvgM, adagrad FedAdagrad, adam FedAdam, yogi "
        "FedYogi.",
        choices=OPTIMIZERS,
        stated=True,
        search=OPTIMIZERS,
    )
    learning_rate: float = option(
        1.0, "Server learning rate.", least=0.0, stated=True, search=Range(0.1, 3.0, log=True)
    )
    momentum: float = option(0.0, "Server momentum, for sgd.", least=0.0, most=1.0, stated=True, search=Range(0.0, 0.9))
    epsilon: float = option(
        1e-3, "Server adaptivity (tau), for adagrad, adam and yogi.", least=0.0, search=Range(1e-5, 0.1, log=True)
    )
    schedule: str | None = option(
        None, "Server learning rate by round; default: constant.", choices=SCHEDULES, search=SCHEDULES
    )


@dataclasses.dataclass(frozen=True)
class EnsembleConfig(Section, name="ensemble", prefix="ensemble_"):
    """Ensemble distillation on the server (FedDF)."""

    enabled: bool = option(
        False,
        "After each round the model learns from its clients' predictions on the validation split (FedDF).",
        flag="ensemble_distillation",
    )
    groups: tuple[str, ...] = option(
        (),
        'A group of clients with a model of its own, as JSON: {"name": "small", "architecture": "distilbert", '
        '"model_config": {"dim": 128}}, or with "pretrained"; repeated. Default: one group with the model of the other '
        "settings.",
        flag="group",
        repeated=True,
    )
    steps: int = option(100, "Distillation steps on the server per round; 0: none.", least=0)
    batch_size: int = option(64, "Public examples per distillation step.", least=1, most=2**20)
    learning_rate: float = option(
        1e-3, "Adam's rate in the first distillation step of a round; decays to 0.", **POSITIVE
    )
    teachers: str = option(
        "clients",
        "Models whose mean logits are learned: those of the round's clients (FedDF), or those of the groups, for which "
        "the server sees averages only.",
        flag="teachers",
        choices=TEACHERS,
    )
