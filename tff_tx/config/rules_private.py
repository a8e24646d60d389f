"""What privacy forbids: whatever its accounting does not cover, or a guarantee would not hide."""

from __future__ import annotations

from tff_tx.config import laws
from tff_tx.config.conditions import Conflict, Derived, Law, Requires, belong, exclude, section

PRIVACY = [
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
    *exclude(laws.PRIVATE, "the accounting covers its own clip and mean alone", *laws.AGGREGATES),
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
    *exclude(
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

CLIENT_PRIVACY = [
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
