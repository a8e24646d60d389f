"""What settings forbid one another: one table, in the order in which it is checked.

Each combination is rejected for a reason that a paper would give. Rules that need what a chosen algorithm, aggregator
or task is capable of, `capability_rules`, come last: only they import it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tff_tx.config import laws
from tff_tx.config.capability_rules import CAPABILITIES
from tff_tx.config.clients import ADAPTIVE_SAMPLERS
from tff_tx.config.conditions import BelongsTo, Conflict, Derived, Law, Relation, Requires, belong, section
from tff_tx.config.rules_secure import SECURE
from tff_tx.config.run_config import FIELDS, RunConfig, describe
from tff_tx.core.errors import UserError, setting

_DISTILLS = Derived("algorithm.distillation_weight", lambda c: c.algorithm.distills)
_ADAPTIVE = f"cohort.sampling={'|'.join(ADAPTIVE_SAMPLERS)}"
_AGGREGATES = ("aggregation.aggregator", "aggregation.clip_norm", "aggregation.zeroing_norm")


def _exclude(first, because, *paths, remedy=Conflict.remedy) -> list[Conflict]:
    return [Conflict(first, path, because, remedy) for path in paths]


def _distinct(path) -> Law:
    return Law(lambda c: len(set(c.get(path))) < len(c.get(path)), f"{{{path}=}} has a name twice: name each once.")


DATA = (
    Requires("data.dataset=file", "data.files", "there is nothing else to train on"),
    *belong(
        "data.dataset=file",
        *section("data", "files", "validation_files", "test_files", "silos", "numeric_columns", "categorical_columns"),
        *section("data", "encoding", "delimiter", "on_bad_rows", "client_per_column"),
    ),
    *belong("data.numeric_columns", "data.missing_numbers"),
    Conflict("data.client_per_column", "data.client_column", "both say who the clients are"),
    Law(
        lambda c: not laws.is_encoding(c.data.encoding),
        "{data.encoding=}: must be an encoding that Python knows, such as utf-8, cp1252 or utf-16.",
    ),
    Law(
        lambda c: not (c.data.delimiter in (None, "tab", "\\t") or re.fullmatch(r'[^"\r\n]', c.data.delimiter)),
        "{data.delimiter=}: must be one character other than a quote, or tab.",
    ),
    *(
        Conflict(
            "data.silos",
            f"data.{part}_fraction",
            "held-out data would be taken from the silos, where nobody else reads them",
            f"remove it, and name held-out files of the coordinator in {{data.{part}_files}}",
        )
        for part in ("validation", "test")
    ),
    *(
        Law(
            lambda c, path=f"data.{part}_fraction": c.get(path) > 1 and c.get(path) % 1,
            f"{{data.{part}_fraction=}} must be a fraction between 0 and 1, or a whole number: give for instance 0.1.",
        )
        for part in ("validation", "test")
    ),
    Relation(("data.numeric_columns", "data.categorical_columns"), laws.columns_are_distinct),
    Law(
        lambda c: c.get("data.text_join") is not None and len(c.get("data.text_column")) < 2,
        "{data.text_join=} has no effect with one column in {data.text_column}: remove it.",
    ),
    Law(
        lambda c: c.get("data.text_join") == "pair" and len(c.get("data.text_column")) != 2,
        "{data.text_join=} needs two columns, not {data.text_column=}: name two, or join them otherwise.",
    ),
    *belong("data.split=time", "data.borders"),
    *(
        Law(
            lambda c, path=f"data.{part}_fraction": c.data.borders and c.is_set(path) and c.get(path),
            f"{{data.borders=}} and {{data.{part}_fraction=}} both say what is held out: remove one of them.",
        )
        for part in ("validation", "test")
    ),
    Law(
        lambda c: c.data.borders and (len(c.data.borders) != 3 or not c.data.borders[0]),
        "{data.borders=} must be three numbers of records, for training at least 1.",
    ),
    _distinct("data.label_names"),
    _distinct("data.label_columns"),
    Conflict("data.label_columns", "data.label_separator", "columns of 0 and 1 have nothing to separate"),
    Conflict("data.label_names", "data.label_file", "both name the labels"),
    Relation(("data.categories", "data.categorical_columns"), laws.categories_are_lists),
    _distinct("data.silos"),
)
"""Rules of the section `data` alone."""

_TABLES = [
    Requires(
        "task.series_protocol=standardized",
        "data.split=time",
        "the deviations are those of the records of a client before",
    ),
    *belong("task.kind=forecasting", "task.series_protocol"),
    *(
        Conflict(
            "task.series_protocol=standardized", f"data.{part}_files", "the deviations are those of the same client"
        )
        for part in ("validation", "test")
    ),
    Conflict(
        "data.missing_numbers=mean",
        "task.standardize=False",
        "means are known where columns are standardized",
        "refuse missing numbers, or standardize",
    ),
]

_SILOS = [
    Law(
        lambda c: c.data.silos and c.engine.name != "federation" and c.engine.ray_address is None,
        "{data.silos=} needs {engine.ray_address}: the silos' nodes must have joined that cluster.",
    ),
    Conflict("data.silos", "canaries.number", "canaries are clients of no silo"),
]

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
    *_exclude(
        laws.PRODUCTS,
        "it adds up products of clients' A and B, to which this does not apply",
        *_AGGREGATES,
        *("compression.upload", "privacy.mechanism"),
    ),
    *_exclude(
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
    *belong("algorithm.name=fed_rep|fed_babu|fed_recon", "algorithm.personal_epochs"),
    Requires("algorithm.name=fed_rep|fed_babu|fed_recon", "model.personal", "without personal weights it is fed_avg"),
    Conflict(
        "algorithm.name=fed_babu",
        "model.trainable=lora",
        "clients' own models are trained from the published one, into which adapters are merged",
        "train all weights or upper layers",
    ),
    *belong("algorithm.name=ditto|mr_mtl|p_fed_me", "algorithm.personal_strength"),
    *belong("algorithm.name=p_fed_me", "algorithm.moreau_steps"),
    *belong("algorithm.name=apfl", "algorithm.mixing", "algorithm.mixing_rate"),
    *belong("algorithm.name=ifca", "algorithm.clusters", "algorithm.cluster_spread"),
    *belong("algorithm.name=fed_exp", "algorithm.extrapolation_epsilon"),
    *belong("algorithm.name=fed_ex", "algorithm.client_choices"),
    Requires("algorithm.name=fed_exp", "server.optimizer=sgd", "its step size is that of a plain step"),
    Conflict("algorithm.name=fed_ex", "client.schedule", "clients draw their rates"),
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

_NO_TIME = (
    "has no effect while clients take no time: set {devices.seconds_per_example} or {devices.bytes_per_second}, or "
    "remove it."
)

_COHORTS = [
    Requires("cohort.sampling=fixed", "cohort.cohorts", "it replays them"),
    *belong("cohort.sampling=fixed", "cohort.cohorts"),
    *belong("cohort.sampling=min_separation", "cohort.min_separation"),
    Relation(("cohort.min_clients", "cohort.clients_per_round", "cohort.buffer_size"), laws.enough_report),
    *belong(_ADAPTIVE, "cohort.fairness_floor"),
    *(
        Conflict(_ADAPTIVE, condition, because, "sample with uniform")
        for condition, because in (
            ("privacy.mechanism!=none", "its accounting assumes cohorts that do not depend on clients' data"),
            (laws.LOCAL_DP, "the losses that it goes by are not hidden"),
            (laws.EXAMPLE_DP, "the losses that it goes by are not hidden"),
            (laws.SECURE, "it goes by the loss of each client, and a secure sum shows none"),
            ("engine.name=tff_native|federation", "the server sees sums, not the loss of each client"),
            ("ensemble.enabled=True", "groups have losses of models of their own"),
        )
    ),
    Conflict("cohort.sampling=poisson", "cohort.over_selection", "every sampled client counts"),
    Conflict("cohort.sampling=fixed", "cohort.max_round_retries", "a round has one recorded cohort"),
    Conflict("cohort.sampling=fixed", "devices.availability", "the recorded clients were available"),
    *belong("devices.seconds_per_example", "devices.speed_spread"),
    Law(
        lambda c: c.is_set("devices.report_deadline") and not c.devices.takes_time,
        f"{{devices.report_deadline=}} {_NO_TIME}",
    ),
    Law(
        lambda c: c.is_set("devices.availability") and not (c.devices.takes_time or c.devices.round_overhead_seconds),
        f"{{devices.availability=}} {_NO_TIME}",
    ),
    Law(
        lambda c: c.is_set("cohort.over_selection") and not (c.devices.takes_time or c.devices.dropout_rate),
        "{cohort.over_selection=} has no effect while no client is late or vanishes: set {devices.dropout_rate} or "
        "{devices.seconds_per_example}, or remove it.",
    ),
]

_FED_BUFF = [
    *belong(laws.BUFFERED, *section("cohort", "concurrency", "staleness_exponent", "max_staleness")),
    Conflict(laws.BUFFERED, "engine.name=tff_native", "TFF's runtime starts all clients from one model"),
    Conflict(
        laws.BUFFERED,
        f"cohort.sampling=poisson|fixed|min_separation|{'|'.join(ADAPTIVE_SAMPLERS)}",
        "these draw whole rounds, and FedBuff starts clients one by one",
        "sample with uniform or by_size",
    ),
    *(
        Conflict(laws.BUFFERED, path, reason, "remove it")
        for path, reason in (
            ("cohort.over_selection", "the server never waits for a slow client"),
            (
                "devices.report_deadline",
                "the server never waits; reports that are too old exceed {cohort.max_staleness}",
            ),
            ("devices.round_overhead_seconds", "the server updates while clients work"),
            ("cohort.max_round_retries", "there are no other reports to retry a round with"),
        )
    ),
    Law(
        lambda c: c.cohort.is_buffered and not c.devices.takes_time,
        "{cohort.buffer_size=} needs clients that take time: set {devices.seconds_per_example} (and "
        "{devices.speed_spread}) or {devices.bytes_per_second}.",
    ),
    Law(
        lambda c: c.cohort.is_buffered and c.compression.upload != "none" and c.engine.name != "local",
        "{compression.upload=} and {cohort.buffer_size=} need {engine.name}=local (found {engine.name:value}): stale "
        "updates are scaled after they are decoded, and workers of a cluster add codes up; remove one of them.",
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

_PRIVACY = [
    *belong(
        laws.PRIVATE,
        *section(
            "privacy",
            *("clip_norm", "metrics", "noise_seed", "sampling_seed", "noise_multiplier", "target_epsilon"),
            *("stop_at_epsilon", "population", "accountant", "amplification"),
        ),
    ),
    *belong(Derived("privacy.mechanism", laws.is_private), "privacy.target_delta"),
    *belong(
        "privacy.mechanism=adaptive", *section("privacy", "clip_quantile", "clip_learning_rate", "clip_count_stddev")
    ),
    *belong("privacy.mechanism=tree", "privacy.restart_rounds"),
    *belong("privacy.mechanism=banded", "privacy.bands"),
    Conflict("privacy.sampling_seed", "cohort.sampling=fixed", "recorded cohorts are replayed, not drawn"),
    *belong("privacy.metrics=private", "privacy.metrics_share", "privacy.metrics_loss_bound"),
    laws.NOISE_OR_EPSILON,
    Conflict(
        laws.PRIVATE, laws.LOCAL_DP, "clients would be protected twice, by their own noise and by that of the sum"
    ),
    *_exclude(laws.PRIVATE, "the accounting covers its own clip and mean alone", *_AGGREGATES),
    Conflict(
        laws.PRIVATE,
        "algorithm.weighted=True",
        "a client that counts by its number of examples may count without bound",
        "remove it",
    ),
    Conflict(
        "privacy.mechanism=adaptive",
        "compression.upload",
        "the server clips once more what it decodes as it adds up, which needs a fixed clip",
        "choose the mechanism gaussian, or remove it",
    ),
    Conflict(
        laws.FEEDBACK,
        laws.PRIVATE,
        "it sends what was left out in earlier rounds beyond the clip",
        "set {compression.error_feedback} to false",
    ),
    Conflict(
        laws.PRIVATE, laws.BUFFERED, "a client takes part as often as its device is fast, which is not accounted for"
    ),
    Conflict(
        laws.PRIVATE,
        "cohort.over_selection",
        "fast devices displace slow ones, so that cohorts are not sampled as the accounting assumes",
    ),
    Law(
        lambda c: c.privacy.enabled and c.devices.availability != "always" and c.cohort.sampling != "poisson",
        "{devices.availability=} cannot be combined with {privacy.mechanism=} and {cohort.sampling=}: cohorts come "
        "from fewer clients than the accounting assumes; remove it, or set {cohort.sampling}=poisson.",
    ),
    *_exclude(
        laws.PRIVATE,
        "the number of clients would decide what is released; a private round counts however many report",
        *("cohort.min_clients", "cohort.max_round_retries"),
        remedy="remove it",
    ),
    Requires(
        "privacy.mechanism=tree|banded",
        "cohort.sampling=min_separation",
        "correlated noise is accounted by the number of rounds between a client's turns",
    ),
    Conflict(laws.PRIVATE, "run.keep_updates", "it stores the single updates that the mechanism hides"),
]

_CLIENT_PRIVACY = [
    *belong(laws.LOCAL_DP, "local_privacy.noise_multiplier"),
    *belong(laws.EXAMPLE_DP, *section("example_privacy", "noise_multiplier", "microbatches")),
    Requires(laws.LOCAL_DP, "local_privacy.noise_multiplier", "set it; 0 clips without noise"),
    Requires(laws.EXAMPLE_DP, "example_privacy.noise_multiplier", "set it; 0 clips without noise"),
    Law(
        lambda c: c.client.batch_size % (c.example_privacy.microbatches or 1) != 0,
        "{example_privacy.microbatches=} do not part {client.batch_size=} evenly: choose a divisor of it.",
    ),
    Conflict(
        laws.LOCAL_DP, "algorithm.weighted=True", "a client's number of examples would not be hidden", "remove it"
    ),
    Conflict(laws.LOCAL_DP, "aggregation.attention_key=loss", "the loss that clients would send is not hidden"),
    Conflict(
        laws.EXAMPLE_DP,
        "client.steps",
        "an example may be in a batch twice",
        "set {client.epochs}, and {client.max_examples} to make rounds short",
    ),
]

_ENGINE = [
    *belong("engine.name=ray", *(path for path in section("engine") if path.startswith("engine.ray_"))),
    *belong("engine.name=federation", *(path for path in section("engine") if path.startswith("engine.federation_"))),
    *belong("engine.name=federation", "run.participant_evaluation"),
    *belong("engine.name=ray|federation", "data.silos"),
    *(
        Conflict("engine.name=federation", condition, because)
        for condition, because in (
            ("attack.name!=none", "attackers are simulated in federations of one machine"),
            (laws.BUFFERED, "participants of a round start from the same model"),
            ("run.keep_updates", "participants send sums, not single updates"),
            ("model.cache_features", "activations would be of participants' data"),
        )
    ),
    Law(
        lambda c: c.engine.name == "federation" and not c.data.silos,
        "{engine.name=} needs {data.silos}: the names of the participants.",
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
            *((path, "each group's updates are averaged") for path in _AGGREGATES),
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
    *(*DATA, *_TABLES, *_SILOS, *_MODEL, *_LORA_PRODUCTS, *_ALGORITHM, *_COHORTS, *_FED_BUFF, *_AGGREGATION, *SECURE),
    *(*_ATTACK, *_PRIVACY, *_CLIENT_PRIVACY, *_ENGINE, *_ENSEMBLE),
)
"""What can be checked without importing anything."""


def without_effect(config: RunConfig) -> set[str]:
    """The settings that have no effect by what others are."""
    rules = (rule for rule in (*RULES, *CAPABILITIES) if isinstance(rule, BelongsTo))
    return {rule.path for rule in rules if not rule.owner.holds(config)}


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
