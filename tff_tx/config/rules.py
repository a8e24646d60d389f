"""What settings forbid one another: one table, in the order in which it is checked.

Each combination is rejected for a reason that a paper would give. Rules that need what a chosen algorithm, aggregator
or task is capable of, `capability_rules`, come last: only they import it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tff_tx.config import laws
from tff_tx.config.capability_rules import CAPABILITIES
from tff_tx.config.conditions import BelongsTo, Conflict, Derived, Law, Relation, Requires, belong, exclude, section
from tff_tx.config.rules_cohorts import COHORTS, FED_BUFF
from tff_tx.config.rules_data import DATA, SILOS, TABLES
from tff_tx.config.rules_private import CLIENT_PRIVACY, PRIVACY
from tff_tx.config.rules_secure import SECURE
from tff_tx.config.run_config import FIELDS, RunConfig, describe
from tff_tx.core.errors import UserError, setting

_DISTILLS = Derived(
    "algorithm.distillation_weight",
    lambda c: c.algorithm.distills,
    lambda c: "{algorithm.name=}" if c.algorithm.distillation_weight is None else "{algorithm.distillation_weight=}",
)

_MODEL = [
    Conflict("model.pretrained", "model.architecture", "both say which model to start from"),
    Requires("model.revision", "model.pretrained", "it is one of a checkpoint"),
    Conflict(
        "model.frozen_dtype",
        "model.trainable=all",
        "no weight is frozen",
        "remove it, or train a part of the model, as with {model.trainable}=lora",
    ),
    *belong("model.trainable=lora", *section("lora")),
    *(
        Conflict("model.personal", condition, because)
        for condition, because in (
            (_DISTILLS, "the global model lacks a client's own weights, and cannot teach"),
            ("ensemble.enabled=True", "the clients' models are needed whole"),
            ("run.keep_updates", "contributions are judged by the global model, which lacks the clients' own weights"),
            ("canaries.number", "they are looked for in the global model, which lacks the clients' own weights"),
        )
    ),
    Law(
        lambda c: c.model.trainable == "lora" and c.model.personal not in (None, "head"),
        "{model.personal=} cannot be combined with {model.trainable=}: adapters are merged into the published "
        "model; set {model.personal}=head.",
    ),
    *belong("model.cache_features=True", "model.feature_cache_bytes"),
    *(
        Conflict("model.cache_features", condition, *because)
        for condition, *because in (
            (
                "model.trainable=all",
                "there are no frozen weights whose activations could be stored",
                "train the head, upper layers or adapters",
            ),
            ("client.bucket_by_length", "activations have no length to sort by"),
            ("model.gradient_checkpointing", "blocks that are computed once are not computed again"),
            ("engine.name=ray", "the cache is on this machine's disk, not the workers'"),
        )
    ),
]

_LORA_PRODUCTS = [
    *exclude(
        laws.PRODUCTS,
        "it adds up products of clients' A and B, to which this does not apply",
        *laws.AGGREGATES,
        *("compression.upload", "privacy.mechanism"),
    ),
    *exclude(
        "lora.aggregation=stack|svd",
        "it sets A and B, so that the server optimizer would be that of the head alone",
        *("server.optimizer", "server.learning_rate"),
    ),
    *(
        Conflict(c, laws.BUFFERED, "all clients of a round must start from the same A and B")
        for c in (laws.PRODUCTS, laws.RANKS)
    ),
]

_ALGORITHM = [
    Conflict(
        "task.packing",
        laws.EXAMPLE_DP,
        "a conversation more changes which others share an example, and with it several of them",
    ),
    Conflict("task.balance_classes", "task.class_weights", "both weight the classes"),
    Conflict("task.balance_classes", "data.silos", "counts over all training data are not given out by silos"),
    Law(
        lambda c: not all(isinstance(w, (int, float)) and 0 < w < 1e9 for w in c.task.class_weights.values()),
        "{task.class_weights=}: every weight must be a number above 0.",
    ),
    Conflict("client.steps", "client.epochs", "both set how long a client trains"),
    *belong("client.optimizer=sgd", "client.momentum"),
    *belong("client.optimizer=adamw", "client.weight_decay"),
    *belong("server.optimizer=sgd", "server.momentum"),
    *belong("server.optimizer=adagrad|adam|yogi", "server.epsilon"),
    *belong("algorithm.name=fed_prox", "algorithm.proximal_strength"),
    *belong("algorithm.name=fed_rep|fed_babu|fed_recon|fed_dpa_t|fed_dpa_f", "algorithm.personal_epochs"),
    Requires("algorithm.name=fed_rep|fed_babu|fed_recon", "model.personal", "without personal weights it is fed_avg"),
    Conflict(
        "algorithm.name=fed_babu",
        "model.trainable=lora",
        "clients' own models are trained from the published one, into which adapters are merged",
        "train all weights or upper layers",
    ),
    *belong("algorithm.name=ditto|mr_mtl|p_fed_me", "algorithm.personal_strength"),
    *belong("algorithm.name=p_fed_me", "algorithm.moreau_steps"),
    *belong("algorithm.name=apfl|fed_dpa_t|fed_dpa_f", "algorithm.mixing"),
    *belong("algorithm.name=apfl", "algorithm.mixing_rate"),
    Requires(
        "algorithm.name=fed_dpa_t|fed_dpa_f",
        "model.trainable=lora",
        "clients have adapters of their own beside those that all share",
    ),
    *(
        Conflict("algorithm.name=fed_dpa_t|fed_dpa_f", path, "the shared adapters are added to the frozen weights")
        for path in ("model.frozen_dtype", "model.cache_features")
    ),
    *belong("algorithm.name=ifca", "algorithm.clusters", "algorithm.cluster_spread"),
    *belong("algorithm.name=fed_exp", "algorithm.extrapolation_epsilon"),
    *belong("algorithm.name=fed_ex", "algorithm.client_choices"),
    Requires("algorithm.name=fed_exp", "server.optimizer=sgd", "its step size is that of a plain step"),
    *exclude(
        "algorithm.name=fed_exp",
        "its step size compares the norms of updates as clients send them with that of their plain mean",
        *(*laws.AGGREGATES, laws.BUFFERED),
    ),
    Conflict("algorithm.name=fed_ex", "client.schedule!=None|constant", "clients draw their rates"),
    Relation(("algorithm.client_choices",), laws.choices_are_values),
    *belong("algorithm.name=fed_dyn", "algorithm.dynamic_strength"),
    *belong("algorithm.name=per_fed_avg", "algorithm.inner_learning_rate", "algorithm.hessian_step"),
    *belong(_DISTILLS, "algorithm.distillation_temperature", "algorithm.distillation_models"),
    Conflict("client.mixed_precision", "engine.name=tff_native", "TFF's runtime computes the graph as it is"),
    Law(
        lambda c: c.algorithm.warmup_rounds >= c.run.rounds,
        "{algorithm.warmup_rounds=} must be less than {run.rounds=}: lower it.",
    ),
]

_AGGREGATION = [
    *belong(
        "aggregation.aggregator=attention",
        *section("aggregation", "attention_key", "attention_temperature", "attention_step_size", "attention_floor"),
    ),
    *belong("aggregation.aggregator=centered_clipping", "aggregation.centered_clip_norm"),
    *belong("aggregation.aggregator=geometric_median", "aggregation.median_iterations"),
    Requires(
        "aggregation.aggregator=centered_clipping",
        "aggregation.centered_clip_norm",
        "set it to about the norm of an honest update",
    ),
    Conflict(
        "aggregation.attention_key=loss",
        "client.epochs!=None|1",
        "attention uses the loss on examples not trained on yet, and a second epoch trains on each again",
        "set it to 1, or set {client.steps}",
    ),
    Relation(("compression.fraction",), laws.compressor_uses("fraction", "top_k", "random_k")),
    Relation(("compression.rank",), laws.compressor_uses("rank", "low_rank")),
    Conflict("compression.error_feedback=True", "compression.upload=none", "nothing is left out"),
    Relation(("compression.error_feedback", "engine.name"), laws.residuals_stay_with_clients),
]

_ATTACK = [
    *belong("attack.name!=none", "attack.share"),
    Relation(("attack.share", "cohort.clients_per_round"), laws.attackers_are_a_minority),
    *belong("canaries.number", "canaries.repetitions", "canaries.length"),
    Law(
        lambda c: c.canaries.number and not c.canaries.repetitions,
        "{canaries.repetitions} is empty: set at least one number of copies.",
    ),
    Law(
        lambda c: c.canaries.number and c.canaries.length > c.task.max_length,
        "{canaries.length=} is more than {task.max_length=}: lower it.",
    ),
]

_ENGINE = [
    *belong("engine.name=ray", *(path for path in section("engine") if path.startswith("engine.ray_"))),
    *belong("engine.name=federation", *(path for path in section("engine") if path.startswith("engine.federation_"))),
    *belong("engine.federation_transport=flower", "engine.federation_socket"),
    *belong("engine.federation_transport=grpc", "engine.federation_address"),
    *belong("engine.name=federation", "run.participant_evaluation"),
    *belong("engine.name=ray|federation", "data.silos"),
    *(
        Conflict("engine.name=federation", condition, because)
        for condition, because in (
            ("attack.name!=none", "attackers are simulated in federations of one machine"),
            ("run.keep_updates", "participants send sums, not single updates"),
            ("model.cache_features", "activations would be of participants' data"),
        )
    ),
    Law(
        lambda c: c.engine.name == "federation" and not c.data.silos,
        "{engine.name=} needs {data.silos}: the names of the participants.",
    ),
    Law(
        lambda c: c.engine.federation_transport == "flower" and c.engine.federation_silence_seconds < 100,
        "{engine.federation_silence_seconds=} is too short for {engine.federation_transport=}, by which a participant "
        "gives a sign of life every 30 s, and one may be lost: set 100 or more.",
    ),
    Conflict("run.keep_updates", "engine.name=tff_native", "TFF's runtime shows sums, not single updates"),
    Relation(("run.monitor",), laws.something_is_monitored),
]

_ENSEMBLE = [
    *belong("ensemble.enabled=True", *section("ensemble", but=("enabled",))),
    *(
        Conflict("ensemble.enabled=True", condition, because)
        for condition, because in (
            ("compression.upload", "the server learns from models, not from codes"),
            ("compression.download", "groups have models of their own"),
            (laws.LOCAL_DP, "teachers would be noise"),
            (laws.EXAMPLE_DP, "distillation on the server is not covered by the accounting"),
            (laws.PRIVATE, "the server looks at single models"),
            (laws.BUFFERED, "all teachers of a round start from the same model"),
            ("engine.name=ray", "the server needs each group's engine in its own process"),
            (laws.PRODUCTS, "the groups' models are averaged"),
            ("run.keep_updates", "groups have states of their own"),
            ("model.cache_features", "groups have models of their own"),
            ("attack.name!=none", "attackers are simulated in federations of one model"),
            ("canaries.number", "canaries are for federations of one model"),
            *((path, "each group's updates are averaged") for path in laws.AGGREGATES),
            ("run.eval_clients", "all test clients are evaluated"),
        )
    ),
    Law(
        lambda c: c.ensemble.enabled and not (c.data.validation_fraction or c.data.validation_files),
        "ensemble distillation needs public data on the server: set {data.validation_fraction} or "
        "{data.validation_files}; their labels are not used.",
    ),
    Relation(("ensemble.teachers", "engine.name"), laws.teachers_are_seen),
]

RULES = (
    *(*DATA, *TABLES, *SILOS, *_MODEL, *_LORA_PRODUCTS, *_ALGORITHM, *COHORTS, *FED_BUFF, *_AGGREGATION, *SECURE),
    *(*_ATTACK, *PRIVACY, *CLIENT_PRIVACY, *_ENGINE, *_ENSEMBLE),
)
"""What can be checked without importing anything."""


def without_effect(config: RunConfig) -> dict[str, str]:
    """The settings that have no effect by what others are: by path, one of these others."""
    rules = (rule for rule in (*RULES, *CAPABILITIES) if isinstance(rule, BelongsTo))
    drawn = dict.fromkeys(laws.drawn(config), "algorithm.client_choices")
    return drawn | {rule.path: rule.owner.path for rule in rules if not rule.owner.holds(config)}


def check(config: RunConfig, rules: Iterable[Any] = (*RULES, *CAPABILITIES)) -> None:
    """Checks a resolved configuration by all rules, or by `RULES`, which import nothing.

    Raises:
      UserError: With the first that is broken.
    """
    for rule in rules:
        if (problem := rule.problem(config)) is not None:
            raise UserError(problem)


def check_resume(before: RunConfig, now: RunConfig) -> None:
    """Checks that a run can go on with other settings than it began with.

    Raises:
      UserError: If one differs that decides the numbers of the rounds to come, or of those that have been.
    """
    differing = [p for p, f in FIELDS.items() if before.get(p) != now.get(p) and not f.option.may_change]
    if differing:
        shown = ", ".join(f"{setting(p)} was {before.get(p)!r}, is {now.get(p)!r}" for p in differing[:5])
        raise UserError(
            f"{setting('run.directory')} holds a run with other settings ({shown}): use its settings to resume it, or "
            "another directory to start anew."
        )
    if before.run.rounds != now.run.rounds and (depends := laws.depends_on_rounds(now)):
        raise UserError(
            f"{setting('run.rounds')} was {before.run.rounds}, is {now.run.rounds}, and {describe(now, depends)} "
            f"depends on it: rounds that have been run would have been others; resume with {before.run.rounds} "
            "rounds, or start a new run directory."
        )
