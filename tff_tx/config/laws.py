"""Relations between settings that no simpler form of rule has: each gives the sentence, or None if it holds."""

from __future__ import annotations

from typing import Callable, Optional

from tff_tx.config.registries import AGGREGATORS, ALGORITHMS, ATTACKS, TASKS
from tff_tx.config.run_config import RunConfig, describe
from tff_tx.core.errors import setting

Found = Optional[str]  # noqa: UP045 -- evaluated, also by Python 3.9


def columns_are_distinct(config: RunConfig) -> Found:
    """No column is named twice."""
    named = (*config.data.numeric_columns, *config.data.categorical_columns)
    twice = [name for name in named if named.count(name) > 1]
    columns = f"{setting('data.numeric_columns')} and {setting('data.categorical_columns')}"
    return f"{columns} name the column {twice[0]!r} twice: name it once." if twice else None


def names_are_distinct(path: str) -> Callable[[RunConfig], Found]:
    """No item of a list is there twice."""

    def find(config):
        names = config.get(path)
        return f"{describe(config, path)} has a name twice: name each once." if len(set(names)) < len(names) else None

    return find


def warmup_ends(config: RunConfig) -> Found:
    """The warm-up is over before the run is."""
    if config.algorithm.warmup_rounds < config.run.rounds:
        return None
    return (
        f"{describe(config, 'algorithm.warmup_rounds')} must be less than {describe(config, 'run.rounds')}: lower it."
    )


def distillation_is_on(config: RunConfig) -> Found:
    """FedGKD's details are for FedGKD."""
    if config.algorithm.distills:
        return None
    for path in ("algorithm.distillation_temperature", "algorithm.distillation_models"):
        if config.is_set(path):
            weight = setting("algorithm.distillation_weight")
            return f"{describe(config, path)} has no effect without {weight}: set that too, or remove it."
    return None


def ranks_are_synchronous(config: RunConfig) -> Found:
    """Adapters of several ranks start from the same A and B."""
    if len(set(config.lora.rank)) < 2 or not config.cohort.is_buffered:
        return None
    return (
        f"{describe(config, 'lora.rank')} cannot be combined with {describe(config, 'cohort.buffer_size')}: all "
        "clients of a round must start from the same A and B; remove one of them."
    )


def ranks_need_products(config: RunConfig) -> Found:
    """Adapters of several ranks are aggregated by their own process."""
    if len(set(config.lora.rank)) < 2 or "lora_products" in ALGORITHMS[config.algorithm.name].capabilities:
        return None
    return (
        f"{describe(config, 'lora.rank')} cannot be combined with {describe(config, 'algorithm.name')}: adapters of "
        "several ranks are aggregated after local training; use one rank, or fed_avg."
    )


def enough_report(config: RunConfig) -> Found:
    """A round does not wait for more clients than it asks."""
    least = config.cohort.min_clients
    limit = "cohort.buffer_size" if config.cohort.is_buffered else "cohort.clients_per_round"
    if config.cohort.sampling == "fixed" or least <= config.get(limit):
        return None
    return f"{describe(config, 'cohort.min_clients')} is more than {describe(config, limit)}: lower it, or raise that."


def time_passes(path: str, overhead: bool = False) -> Callable[[RunConfig], Found]:
    """A setting about simulated time needs something that takes time."""

    def find(config):
        passes = config.devices.takes_time or (overhead and config.devices.round_overhead_seconds)
        if not config.is_set(path) or passes:
            return None
        sources = f"{setting('devices.seconds_per_example')} or {setting('devices.bytes_per_second')}"
        return f"{describe(config, path)} has no effect while clients take no time: set {sources}, or remove it."

    return find


def clients_are_late(config: RunConfig) -> Found:
    """Over-selection makes up for somebody."""
    if not config.is_set("cohort.over_selection") or config.devices.takes_time or config.devices.dropout_rate:
        return None
    return (
        f"{describe(config, 'cohort.over_selection')} has no effect while no client is late or vanishes: set "
        f"{setting('devices.dropout_rate')} or {setting('devices.seconds_per_example')}, or remove it."
    )


def clients_take_time(config: RunConfig) -> Found:
    """FedBuff is about clients that take different times."""
    if not config.cohort.is_buffered or config.devices.takes_time:
        return None
    return (
        f"{describe(config, 'cohort.buffer_size')} needs clients that take time: set "
        f"{setting('devices.seconds_per_example')} (and {setting('devices.speed_spread')}) or "
        f"{setting('devices.bytes_per_second')}."
    )


def stale_codes_are_decoded_here(config: RunConfig) -> Found:
    """FedBuff scales updates after they are decoded, which workers of a cluster do not."""
    if not config.cohort.is_buffered or config.compression.upload == "none" or config.engine.name == "local":
        return None
    return (
        f"{describe(config, 'compression.upload')} and {describe(config, 'cohort.buffer_size')} need "
        f"{setting('engine.name')}=local (found {config.engine.name}): stale updates are scaled after they are "
        "decoded, and workers of a cluster add codes up; remove one of them."
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


def residuals_stay_with_clients(config: RunConfig) -> Found:
    """Error feedback needs what a client left out at the client."""
    if not config.compression.has_error_feedback or config.engine.name == "local":
        return None
    return (
        f"{_feedback(config)} needs {setting('engine.name')}=local (found {config.engine.name}): residuals belong to "
        f"the clients, and are stored on this machine; set {setting('compression.error_feedback')} to false, or "
        "change the engine."
    )


def residuals_are_added_up(config: RunConfig) -> Found:
    """What a client left out is meaningful in a sum alone."""
    if not config.compression.has_error_feedback or not _needs_all_updates(config):
        return None
    return (
        f"{_feedback(config)} cannot be combined with {describe(config, 'aggregation.aggregator')}: a residual makes "
        "up for an earlier update in a sum, and this aggregator compares single updates; remove one of them."
    )


def residuals_are_bounded(config: RunConfig) -> Found:
    """A residual is beyond the clip that a private mechanism accounts for."""
    if not config.compression.has_error_feedback or not config.privacy.enabled:
        return None
    return (
        f"{_feedback(config)} cannot be combined with {describe(config, 'privacy.mechanism')}: it sends what was left "
        f"out in earlier rounds beyond the clip; set {setting('compression.error_feedback')} to false."
    )


def feedback_needs_one_update(config: RunConfig) -> Found:
    """Error feedback compresses one update of the model's shape."""
    if not config.compression.has_error_feedback or "one_update" in ALGORITHMS[config.algorithm.name].capabilities:
        return None
    return (
        f"{_feedback(config)} cannot be combined with {describe(config, 'algorithm.name')}: its clients send a "
        "gradient besides their update; remove it, or change the algorithm."
    )


def _feedback(config):
    if config.compression.error_feedback is None:
        return f"the error feedback of {describe(config, 'compression.upload')}"
    return describe(config, "compression.error_feedback")


def _needs_all_updates(config):
    return AGGREGATORS[config.aggregation.aggregator].needs_all_updates


def attackers_are_withstood(config: RunConfig) -> Found:
    """The aggregator has a bound on attackers."""
    path = "aggregation.assumed_attackers"
    if not config.is_set(path) or AGGREGATORS[config.aggregation.aggregator].least_clients is not None:
        return None
    owners = " or ".join(name for name, record in AGGREGATORS.items() if record.least_clients is not None)
    name = setting("aggregation.aggregator")
    present = describe(config, "aggregation.aggregator")
    return f"{describe(config, path)} has no effect with {present}: remove it, or set {name}={owners}."


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


def attack_reads(name: str) -> Callable[[RunConfig], Found]:
    """A setting of attacks needs an attack that it has an effect on."""
    path = f"attack.{name}"

    def find(config):
        if not config.is_set(path) or name in ATTACKS[config.attack.name].settings:
            return None
        owners = " or ".join(owner for owner, kind in ATTACKS.items() if name in kind.settings)
        found, remedy = describe(config, "attack.name"), f"remove it, or set {setting('attack.name')}={owners}"
        return f"{describe(config, path)} has no effect with {found}: {remedy}."

    return find


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
    return (
        f"{describe(config, 'attack.name')} needs a minority of attackers, and {describe(config, 'attack.share')} of "
        f"{describe(config, 'cohort.clients_per_round')} are {attack.per_round(cohort)}: lower it, or set "
        f"{setting('attack.scale')}."
    )


def canaries_fit(config: RunConfig) -> Found:
    """A canary is an example, and a canary client has it at least once."""
    if not config.canaries.number:
        return None
    if not config.canaries.repetitions:
        return f"{setting('canaries.repetitions')} is empty: set at least one number of copies."
    if config.canaries.length <= config.task.max_length:
        return None
    return f"{describe(config, 'canaries.length')} is more than {describe(config, 'task.max_length')}: lower it."


def noise_or_epsilon(config: RunConfig) -> Found:
    """Either the noise is given, or the epsilon that it is found for."""
    privacy = config.privacy
    if not privacy.enabled or (privacy.noise_multiplier is None) != (privacy.target_epsilon is None):
        return None
    both = " and ".join(describe(config, f"privacy.{name}") for name in ("noise_multiplier", "target_epsilon"))
    return f"{both}: set exactly one, the noise or the epsilon that it is found for."


def cohorts_are_as_accounted(config: RunConfig) -> Found:
    """Availability changes how cohorts are sampled, unless each client is sampled by itself."""
    is_affected = config.devices.availability != "always" and config.cohort.sampling != "poisson"
    if not config.privacy.enabled or not is_affected:
        return None
    return (
        f"{describe(config, 'devices.availability')} cannot be combined with {describe(config, 'privacy.mechanism')} "
        f"and {describe(config, 'cohort.sampling')}: cohorts come from fewer clients than the accounting assumes; "
        f"remove it, or set {setting('cohort.sampling')}=poisson."
    )


def statistics_are_hidden(config: RunConfig) -> Found:
    """Exact statistics of a table are in the released model."""
    private = config.privacy.enabled or config.local_privacy.clip_norm or config.example_privacy.clip_norm
    if not private or not config.task.standardize or config.task.kind is None:
        return None
    if "silos" in TASKS[config.task.kind].capabilities:
        return None
    return (
        f"{describe(config, 'task.standardize')} adds up exact sums over the clients' columns, which no noise hides: "
        f"scale the columns by public knowledge, and set {setting('task.standardize')} to false."
    )


def something_is_monitored(config: RunConfig) -> Found:
    """Early stopping and the best model go by a metric of evaluations."""
    run = config.run
    if run.patience is None and not run.keep_best:
        if not config.is_set("run.monitor"):
            return None
        both = f"{setting('run.patience')} or {setting('run.keep_best')}"
        return f"{describe(config, 'run.monitor')} has no effect without {both}: set one, or remove it."
    if run.rounds_per_evaluation == 0:
        name = "run.keep_best" if run.patience is None else "run.patience"
        return f"{describe(config, name)} needs evaluations: raise {setting('run.rounds_per_evaluation')} above 0."
    return None


def public_data(config: RunConfig) -> Found:
    """The server distills on the validation split."""
    if not config.ensemble.enabled or config.data.validation_fraction or config.data.validation_files:
        return None
    return (
        "ensemble distillation needs public data on the server: set "
        f"{setting('data.validation_fraction')} or {setting('data.validation_files')}; their labels are not used."
    )


def teachers_are_seen(config: RunConfig) -> Found:
    """Clients teach if the server sees each client's model as it is."""
    ensemble = config.ensemble
    if not ensemble.enabled or not ensemble.steps:
        return None
    teachers = describe(config, "ensemble.teachers")
    if ensemble.teachers == "groups":
        if len(ensemble.groups) < 2:
            return f"{teachers} with a single group would teach it what it knows: use clients."
        return None
    if config.engine.name != "local":
        engine = f"{setting('engine.name')}=local, which shows each client's model"
        return f"{teachers} needs {engine}, or {setting('ensemble.teachers')}=groups."
    for path in (
        "server.optimizer",
        "server.learning_rate",
        "server.momentum",
        "server.schedule",
        "algorithm.warmup_rounds",
    ):
        if config.is_set(path):
            return (
                f"{describe(config, path)} cannot be combined with {teachers}: it makes another model of a client's "
                f"update than the client's own; remove it, or use {setting('ensemble.teachers')}=groups."
            )
    return None


def depends_on_rounds(config: RunConfig) -> str | None:
    """The setting for which rounds that have been run depend on how many there are in all, if there is one."""
    for name in ("client.schedule", "server.schedule"):
        if config.get(name) in ("linear", "cosine"):
            return name
    if config.privacy.target_epsilon is not None:
        return "privacy.target_epsilon"
    if config.privacy.mechanism == "banded":
        return "privacy.mechanism"
    return None
