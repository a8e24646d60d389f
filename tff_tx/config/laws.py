"""Relations between settings whose sentences have more in them than settings: each gives it, or None if it holds."""

from __future__ import annotations

from typing import Callable, Optional

from tff_tx.config.aggregation import GRIDS
from tff_tx.config.conditions import Derived, Law, fill
from tff_tx.config.privacy import CENTRAL, DISTRIBUTED
from tff_tx.config.registries import AGGREGATORS, ATTACKS, TASKS
from tff_tx.config.run_config import FIELDS, RunConfig, describe
from tff_tx.core.errors import setting

Found = Optional[str]  # noqa: UP045 -- evaluated, also by Python 3.9


AGGREGATES = ("aggregation.aggregator", "aggregation.clip_norm", "aggregation.zeroing_norm")
PRIVATE = "privacy.mechanism!=none"
BUFFERED = "cohort.buffer_size"
PRODUCTS = "lora.aggregation!=average"
LOCAL_DP = "local_privacy.clip_norm"
EXAMPLE_DP = "example_privacy.clip_norm"
SECURE = "aggregation.secure!=none"
CENTRAL_DP = f"privacy.mechanism={'|'.join(CENTRAL)}"
DISTRIBUTED_DP = f"privacy.mechanism={'|'.join(DISTRIBUTED)}"
RANKS = Derived("lora.rank", lambda c: len(set(c.lora.rank)) > 1)


def columns_are_distinct(config: RunConfig) -> Found:
    """No column is named twice."""
    named = (*config.data.numeric_columns, *config.data.categorical_columns)
    twice = [name for name in named if named.count(name) > 1]
    columns = f"{setting('data.numeric_columns')} and {setting('data.categorical_columns')}"
    return f"{columns} name the column {twice[0]!r} twice: name it once." if twice else None


def is_encoding(name: str | None) -> bool:
    """Whether texts can be encoded so; of no name, too."""
    try:
        return name is None or isinstance("".encode(name), bytes)
    except (LookupError, ValueError):
        return False


def is_private(config: RunConfig) -> bool:
    """Whether clients or examples have differential privacy, on the server or inside of clients."""
    inside = config.local_privacy.clip_norm or config.example_privacy.clip_norm
    return config.privacy.enabled or inside is not None


def categories_are_lists(config: RunConfig) -> Found:
    """Values are listed of categorical columns alone, each once."""
    for column, values in config.data.categories.items():
        name = f"{setting('data.categories')}: {column!r}"
        if column not in config.data.categorical_columns:
            return f"{name} is not in {describe(config, 'data.categorical_columns')}: name it there, or remove it."
        texts = isinstance(values, (list, tuple)) and all(isinstance(value, str) for value in values)
        if not texts or len(set(values)) < len(values):
            return f'{name} must have a list of texts, each once, as in {{"{column}": ["a", "b"]}}.'
    return None


def has_arrivals(config: RunConfig) -> bool:
    """Whether rounds are asynchronous, of real participants."""
    return config.cohort.is_buffered and config.engine.name == "federation"


def enough_report(config: RunConfig) -> Found:
    """A round does not wait for more clients than it asks."""
    least = config.cohort.min_clients
    limit = "cohort.buffer_size" if config.cohort.is_buffered else "cohort.clients_per_round"
    if config.cohort.sampling == "fixed" or least <= config.get(limit):
        return None
    return f"{describe(config, 'cohort.min_clients')} is more than {describe(config, limit)}: lower it, or raise that."


def _name_feedback(config):
    if config.compression.error_feedback is None:
        return "the error feedback of {compression.upload=}"
    return "{compression.error_feedback=}"


FEEDBACK = Derived("compression.upload", lambda c: c.compression.has_error_feedback, _name_feedback)
NOISE_OR_EPSILON = Law(
    lambda c: c.privacy.enabled and (c.privacy.noise_multiplier is None) == (c.privacy.target_epsilon is None),
    "{privacy.noise_multiplier=} and {privacy.target_epsilon=}: set exactly one, the noise or the epsilon that it is "
    "found for.",
)


def compressor_uses(name: str, *users: str) -> Callable[[RunConfig], Found]:
    """A compressor's setting needs the compressor, in either direction."""
    path = f"compression.{name}"

    def find(config):
        if not config.is_set(path) or {config.compression.upload, config.compression.download} & set(users):
            return None
        present = describe(config, "compression.upload")
        return f"{describe(config, path)} has no effect with {present}: remove it, or choose {' or '.join(users)}."

    return find


def codes_are_sums(config: RunConfig) -> Found:
    """Under secure aggregation, codes are levels of a grid that all clients share."""
    if config.aggregation.secure == "none" or config.compression.upload.startswith(("none", *GRIDS)):
        return None
    return fill(
        "{compression.upload=} cannot be combined with {aggregation.secure=}: each client's code has a scale or "
        f"positions of its own, and their sum is none of updates; choose {', '.join(GRIDS[:-1])} or {GRIDS[-1]} and "
        "their bits, or remove it.",
        config,
    )


def sizes_are_told(config: RunConfig) -> Found:
    """Participants of secure sums do not tell how many examples their clients have."""
    by_size = config.cohort.sampling == "by_size"
    paths = ["cohort.sampling"] * by_size + [EXAMPLE_DP, "devices.seconds_per_example"]
    found = [path for path in paths if config.is_set(path)]
    if config.aggregation.secure == "none" or config.engine.name != "federation" or not found:
        return None
    return fill(
        f"{{{found[0]}=}} cannot be combined with {{aggregation.secure=}} and {{engine.name=}}: participants do not "
        "tell how many examples their clients have; remove it.",
        config,
    )


def residuals_stay_with_clients(config: RunConfig) -> Found:
    """Error feedback needs what a client left out at the client."""
    if not FEEDBACK.holds(config) or config.engine.name == "local":
        return None
    return FEEDBACK.describe(config) + fill(
        " needs {engine.name}=local (found {engine.name:value}): residuals belong to the clients, and are stored on "
        "this machine; set {compression.error_feedback} to false, or change the engine.",
        config,
    )


def enough_clients_withstand(config: RunConfig) -> Found:
    """A robust aggregator withstands the assumed attackers in a cohort of this size."""
    record = AGGREGATORS[config.aggregation.aggregator]
    if record.least_clients is None:
        return None
    share, cohort = config.aggregation.assumed_attackers, config.cohort.clients_per_round
    name, assumed = describe(config, "aggregation.aggregator"), describe(config, "aggregation.assumed_attackers")
    if share >= record.breakdown:
        return f"{assumed}: {name} withstands less than {record.breakdown:g} of the clients; lower it."
    attackers = int(share * cohort + 1e-9)
    least = record.least_clients(attackers)
    if cohort >= least:
        return None
    return (
        f"{name} withstands {attackers} attackers ({assumed}) among {least} clients or more (found "
        f"{describe(config, 'cohort.clients_per_round')}): raise that, or lower "
        f"{setting('aggregation.assumed_attackers')}."
    )


def attack_fits_task(config: RunConfig) -> Found:
    """The task has what the attack changes."""
    needed = ATTACKS[config.attack.name].needs_task
    if needed is None or needed in TASKS[config.task.kind].capabilities:
        return None
    fit = " or ".join(name for name, task in TASKS.items() if needed in task.capabilities)
    return (
        f"{describe(config, 'attack.name')} cannot be combined with {describe(config, 'task.kind')}, whose examples "
        f"have no class that it could change: choose another attack, or {fit}."
    )


def attackers_are_a_minority(config: RunConfig) -> Found:
    """The paper's scale of little_is_enough is for a minority."""
    attack, cohort = config.attack, config.cohort.clients_per_round
    if attack.name != "little_is_enough" or attack.scale is not None or attack.per_round(cohort) < cohort / 2:
        return None
    return fill(
        "{attack.name=} needs a minority of attackers, and {attack.share=} of {cohort.clients_per_round=} are "
        f"{attack.per_round(cohort)}: lower it, or set {{attack.scale}}.",
        config,
    )


CHOICES = (
    *("client.learning_rate", "client.momentum", "client.weight_decay", "client.clip_norm", "client.epochs"),
    *("client.steps", "model.dropout", "lora.learning_rate_factor"),
)
"""Settings that clients of FedEx may draw."""
_MOST_CHOICES = 64


def drawn(config: RunConfig) -> list[str]:
    """Settings whose values are those that clients of FedEx draw; of epochs and steps the setting is the most."""
    given = config.algorithm.client_choices if config.algorithm.name == "fed_ex" else {}
    return [path for path in CHOICES if FIELDS[path].flag in given and path not in ("client.epochs", "client.steps")]


def _choice_without_effect(config, path, values):
    """Why clients' draws of a setting would have no effect, or not the one that they name."""
    most = {"client.steps": config.client.steps or 0, "client.epochs": config.client.num_epochs}.get(path)
    if path == "client.epochs" and config.client.steps is not None:
        return f"has no effect with {describe(config, 'client.steps')}: draw {setting('client.steps')} instead"
    if most is not None and max(values) > most:
        return f"has {max(values)}, which is more than {describe(config, path)}: raise that"
    optimizer = {"client.momentum": "sgd", "client.weight_decay": "adamw"}.get(path, config.client.optimizer)
    if optimizer != config.client.optimizer:
        return f"has no effect with {describe(config, 'client.optimizer')}: remove it, or use {optimizer}"
    if path == "lora.learning_rate_factor" and config.model.trainable != "lora":
        return f"has no effect with {describe(config, 'model.trainable')}: remove it, or train adapters"
    fixed = [p for p in ("model.cache_features", "model.gradient_checkpointing") if config.get(p)]
    if path == "model.dropout" and fixed:
        return f"cannot be combined with {describe(config, fixed[0])}, which computes with one rate: remove one of them"
    return None


def choices_are_values(config: RunConfig) -> Found:
    """Clients of FedEx draw from lists of values of their settings."""
    given, number = config.algorithm.client_choices, 1
    known = {FIELDS[path].flag: FIELDS[path] for path in CHOICES}
    for name, values in given.items():
        start = f"{setting('algorithm.client_choices')}: {name}"
        if name not in known:
            return f"{start} cannot be drawn; settings that can are {', '.join(known)}."
        if not isinstance(values, (list, tuple)) or not values:
            return f"{start} must have a list of values."
        kind = "a whole number" if known[name].type is int else "a number"
        for value in values:
            fits = isinstance(value, int if known[name].type is int else (int, float)) and not isinstance(value, bool)
            if not fits or (problem := known[name].option.problem(value)):
                return f"{start}: {value!r} {problem if fits else f'must be {kind}'}."
        number *= len(values)
        if problem := _choice_without_effect(config, known[name].path, values):
            return f"{start} {problem}."
    if given and not 1 < number <= _MOST_CHOICES:
        return f"{setting('algorithm.client_choices')} has {number} combinations: give 2 to {_MOST_CHOICES}."
    return None


def something_is_monitored(config: RunConfig) -> Found:
    """Early stopping and the best model go by a metric of evaluations."""
    run, problem = config.run, None
    if run.patience is None and not run.keep_best:
        if config.is_set("run.monitor"):
            problem = "{run.monitor=} has no effect without {run.patience} or {run.keep_best}: set one, or remove it."
    elif run.rounds_per_evaluation == 0:
        name = "run.keep_best" if run.patience is None else "run.patience"
        problem = f"{{{name}=}} needs evaluations: raise {{run.rounds_per_evaluation}} above 0."
    return problem and fill(problem, config)


def teachers_are_seen(config: RunConfig) -> Found:
    """Clients teach if the server sees each client's model as it is."""
    ensemble, problem = config.ensemble, None
    changing = ("server.optimizer", "server.learning_rate", "server.momentum", "server.schedule")
    changed = [path for path in (*changing, "algorithm.warmup_rounds") if config.is_set(path)]
    if not ensemble.enabled or not ensemble.steps:
        return None
    if ensemble.teachers == "groups":
        if len(ensemble.groups) < 2:
            problem = "{ensemble.teachers=} with a single group would teach it what it knows: use clients."
    elif config.engine.name != "local":
        problem = (
            "{ensemble.teachers=} needs {engine.name}=local, which shows each client's model, or "
            "{ensemble.teachers}=groups."
        )
    elif changed:
        problem = (
            f"{{{changed[0]}=}} cannot be combined with {{ensemble.teachers=}}: it makes another model of a client's "
            "update than the client's own; remove it, or use {ensemble.teachers}=groups."
        )
    return problem and fill(problem, config)


def depends_on_rounds(config: RunConfig) -> Found:
    """The setting for which rounds that have been run depend on how many there are in all, if there is one."""
    found = {
        "client.schedule": config.client.schedule in ("linear", "cosine"),
        "server.schedule": config.server.schedule in ("linear", "cosine"),
        "privacy.target_epsilon": config.privacy.target_epsilon is not None,
        "privacy.mechanism": config.privacy.mechanism == "banded",
    }
    return next((path for path, depends in found.items() if depends), None)
