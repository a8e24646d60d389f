"""What settings forbid by what a chosen algorithm, aggregator or task is capable of."""

from __future__ import annotations

from tff_tx.config import laws, training_data
from tff_tx.config.conditions import (
    BelongsTo,
    Chosen,
    Conflict,
    Derived,
    Law,
    Relation,
    belong,
    fill,
    needs,
    section,
)
from tff_tx.config.registries import AGGREGATORS, ALGORITHMS, ATTACKS, TASKS
from tff_tx.config.run_config import FIELDS


def _algorithm(condition, capability, because) -> Conflict:
    return needs(condition, "algorithm.name", ALGORITHMS, capability, because)


def _algorithm_without(capability) -> Chosen:
    return Chosen("algorithm.name", ALGORITHMS, "capabilities", capability, negated=True)


_BESIDE = Chosen("algorithm.name", ALGORITHMS, "own_weights")


def _stores(config):
    record = ALGORITHMS[config.algorithm.name]
    return not record.is_stateless and bool(record.own_weights or config.model.personal is not None)


STORED = Derived(
    "model.personal", _stores, lambda c: "{algorithm.name=}" if c.model.personal is None else "{model.personal=}"
)
"""Clients retain weights of their own from round to round."""


def _states_stay_here(config):
    if not STORED.holds(config) or config.engine.name in ("local", "ray", "federation"):
        return None
    return STORED.describe(config) + fill(
        " needs {engine.name}=local, ray or federation (found {engine.name:value}): personal weights belong to the "
        "clients, and this engine does not give them back.",
        config,
    )


def _states_are_in_no_secure_sum(config):
    if not STORED.holds(config) or config.aggregation.secure == "none":
        return None
    return STORED.describe(config) + fill(
        " cannot be combined with {aggregation.secure=}: weights that clients retain pass the engine beside the sums, "
        "where nothing else may; remove one of them, or use an algorithm whose clients retain nothing, such as "
        "fed_babu, fed_recon or ifca.",
        config,
    )


def _own_records_are_held_out(config):
    held_out = config.data.validation_fraction or config.data.test_fraction
    held_out = held_out and config.engine.name != "federation"  # participants have files of their own for it
    if not STORED.holds(config) or not held_out or training_data.WITHIN_CLIENTS.holds(config):
        return None
    return STORED.describe(config) + fill(
        " needs {data.split}=within_client or time (found {data.split:value}): clients that are held out have no "
        "weights of their own to evaluate; set it, or hold out nothing.",
        config,
    )


_RETAINS = Chosen("algorithm.name", ALGORITHMS, "client_state")
RETAINED = Derived(
    "model.personal",
    lambda c: (STORED.holds(c) or _RETAINS.holds(c) or laws.FEEDBACK.holds(c)) and c.engine.name != "federation",
    instruction="{algorithm.name}, {model.personal} or {compression.upload} so that clients retain something",
)
"""What clients retain is in the run directory."""
_SILOS = Derived("data.silos", lambda c: c.data.silos and c.engine.name != "federation")
_TWO_UPDATES = "its clients send more of the model's size besides their update"

CAPABILITIES = (
    *belong(RETAINED, "run.client_state_bytes"),
    *(
        _algorithm(path, "client_rate", "its clients take no steps of an optimizer that has such settings")
        for path in (
            *section("client", "optimizer", "learning_rate", "schedule", "clip_norm", "momentum", "weight_decay"),
            "lora.learning_rate_factor",
        )
    ),
    _algorithm("algorithm.weighted=False", "client_weighting", "its clients count by their examples"),
    _algorithm("algorithm.weighted=True", "example_weighting", "it is defined with plain means over clients"),
    _algorithm("client.gradient_accumulation_steps", "client_transforms", "its client step is no chain of transforms"),
    _algorithm("algorithm.distillation_weight", "client_optimizer", "its clients have no model of their own to teach"),
    _algorithm(laws.EXAMPLE_DP, "example_dp", "a pass of its clients uses each example more than once"),
    *(
        _algorithm(condition, "one_update", _TWO_UPDATES)
        for condition in (
            *(laws.BUFFERED, "compression.error_feedback=True"),
            *(Chosen("attack.name", ATTACKS, "forges_updates"), laws.LOCAL_DP),
        )
    ),
    *(
        _algorithm(condition, "one_model", because)
        for condition, because in (
            ("algorithm.distillation_weight", "the model that a client trains is not the one that would teach it"),
            ("aggregation.aggregator!=mean", "most updates of each of its models are zeros"),
            ("run.keep_updates", "contributions are judged by one model"),
            ("canaries.number", "they are looked for in one model"),
        )
    ),
    _algorithm(
        "model.personal", "personal_weights", "its clients do not train one model, of which a part could stay with them"
    ),
    _algorithm(laws.LOCAL_DP, "central_dp", "what its clients send besides their update would leave without noise"),
    *(
        Conflict(condition, _RETAINS, because, None)
        for condition, because in (
            ("engine.name=tff_native", "its clients retain a state, which this engine does not give back"),
            (laws.SECURE, "what its clients retain passes the engine beside the sums, where nothing else may"),
            ("ensemble.enabled=True", "the model that distillation leads to is not that of the control variates"),
        )
    ),
    Conflict(laws.FEEDBACK, _algorithm_without("one_update"), _TWO_UPDATES, "remove it, or change the algorithm"),
    _algorithm("aggregation.attention_key=loss", "sends_loss", "its clients have no loss by batch to send"),
    _algorithm(laws.PRIVATE, "central_dp", "it does not hide what clients send besides their update"),
    *(
        _algorithm(laws.SECURE, capability, "its clients send more than sums of updates, examples and metrics")
        for capability in ("secure_sums", "private_metrics")
    ),
    Conflict(
        laws.SECURE,
        Chosen("aggregation.aggregator", AGGREGATORS, "build_secure", negated=True),
        "it needs single updates, and a secure sum shows none",
        None,
    ),
    _algorithm("privacy.metrics!=exact", "private_metrics", "its metrics are pooled over clients"),
    _algorithm(laws.PRODUCTS, "lora_products", "adapters are aggregated as products after local training"),
    Conflict(
        laws.RANKS,
        _algorithm_without("lora_products"),
        "adapters of several ranks are aggregated after local training",
        "use one rank, or fed_avg",
    ),
    *(
        _algorithm("ensemble.enabled", capability, "the server learns from the models that clients send")
        for capability in ("one_update", "sends_model")
    ),
    *belong(Chosen("aggregation.aggregator", AGGREGATORS, "least_clients"), "aggregation.assumed_attackers"),
    Relation(("aggregation.assumed_attackers", "cohort.clients_per_round"), laws.enough_clients_withstand),
    Conflict(
        laws.FEEDBACK,
        Chosen("aggregation.aggregator", AGGREGATORS, "needs_all_updates"),
        "a residual makes up for an earlier update in a sum, and this aggregator compares single updates",
    ),
    needs("canaries.number", "task.kind", TASKS, "texts", "canaries are texts"),
    *(
        BelongsTo(path, Chosen("attack.name", ATTACKS, "settings", FIELDS[path].name))
        for path in section("attack", but=("name", "share"))
    ),
    Conflict(
        "model.cache_features",
        Chosen("attack.name", ATTACKS, "changes_inputs"),
        "triggers are put into examples, and clients train on stored activations",
    ),
    Relation(("attack.name", "task.kind"), laws.attack_fits_task),
    needs("data.text_join!=None|blank", "task.kind", TASKS, "text_pairs", "its texts are single ones"),
    *(
        Conflict(
            path,
            Chosen("task.kind", TASKS, "needs_label_names", negated=True),
            "its examples have no names to list",
            None,
        )
        for path in section("data", "label_names", "label_file")
    ),
    Conflict(
        "data.missing_numbers=mean",
        Chosen("task.kind", TASKS, "needs_features", negated=True),
        "it has no columns of a table whose means are known",
        None,
    ),
    *(
        needs(f"task.{name}", "task.kind", TASKS, "classes", "its labels are no classes")
        for name in ("balance_classes", "class_weights", "focal_gamma")
    ),
    needs("task.packing", "task.kind", TASKS, "packs", "its texts are joined already, or as long as the longest"),
    needs("data.silos", "task.kind", TASKS, "silos", "it takes statistics of all training data together"),
    Relation(("algorithm.name", "model.personal", "engine.name"), _states_stay_here),
    Relation(("algorithm.name", "model.personal", "aggregation.secure"), _states_are_in_no_secure_sum),
    Relation(("algorithm.name", "model.personal", "data.split"), _own_records_are_held_out),
    Conflict(
        "run.keep_best",
        STORED,
        "clients' own weights are those of the last round, and do not belong to a shared model of an earlier one",
        "remove it; {run.patience} alone ends a run with its last model",
    ),
    *(
        Conflict(_SILOS, retains, "what clients retain would leave their silo, to be stored on this machine")
        for retains in (STORED, _RETAINS)
    ),
    Law(
        lambda c: laws.has_arrivals(c) and (STORED.holds(c) or _RETAINS.holds(c)),
        "{cohort.buffer_size=} and {engine.name=} cannot be combined with {algorithm.name=} and {model.personal=}: "
        "what clients retain counts round by round, and they start in earlier ones; remove one of them.",
    ),
    *(
        Conflict(path, _BESIDE, because, "remove it, or use fed_avg")
        for path, because in (
            ("run.keep_updates", "contributions are judged by the global model, which lacks clients' own weights"),
        )
    ),
    Relation(
        ("data.label_names", "data.on_bad_rows", "data.categories", "data.split", "task.standardize"),
        training_data.unhidden,
    ),
)
