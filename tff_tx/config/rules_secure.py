"""What secure aggregation forbids: whatever is no sum over the clients of a round."""

from __future__ import annotations

from tff_tx.config import laws
from tff_tx.config.conditions import Conflict, Derived, Law, Relation, Requires, belong

MOST_NOISED_BITS = 24


def _withstands(*names) -> Derived:
    return Derived(
        "aggregation.secure",
        lambda c: c.aggregation.secure in names or c.privacy.is_distributed,
        instruction=f"{{aggregation.secure}}={' or '.join(names)}, or a {{privacy.mechanism}} of the clients",
    )


_AMONG_PARTICIPANTS = Derived(
    "aggregation.secure",
    lambda c: c.aggregation.secure == "bfv" and c.engine.name == "federation",
    instruction="{aggregation.secure}=bfv and {engine.name}=federation",
)

SECURE = (
    *belong(laws.SECURE, "aggregation.secure_bits"),
    *belong(_withstands("masks"), "aggregation.secure_colluding"),
    *belong(_withstands("masks", "bfv"), "aggregation.secure_dropping"),
    Requires(
        "aggregation.secure=bfv",
        "engine.name=local|federation",
        "ciphertexts are added up in the process that coordinates",
    ),
    *belong(_AMONG_PARTICIPANTS, "aggregation.key_holder"),
    Law(
        lambda c: c.aggregation.key_holder in c.data.silos,
        "{aggregation.key_holder=} is among {data.silos}: who has the key must not be one whose numbers it hides.",
    ),
    *belong("aggregation.secure=masks", "aggregation.secure_passive_server"),
    *belong("aggregation.secure=masks|bfv", "engine.federation_secure_seconds"),
    Conflict("aggregation.secure_bits", "compression.upload", "the quantizer sets the bits", "remove it"),
    Relation(("aggregation.secure", "compression.upload"), laws.codes_are_sums),
    Conflict("engine.name=federation", "aggregation.secure=arithmetic", "it protects nobody", "choose masks or bfv"),
    Relation(("aggregation.secure", "engine.name"), laws.sizes_are_told),
    *(
        Conflict(laws.SECURE, condition, because)
        for condition, because in (
            ("engine.name=tff_native", "TFF's runtime has no secure sums"),
            ("compression.error_feedback=True", "levels are rounded without bias, and leave nothing to be sent later"),
            (laws.CENTRAL_DP, "rounding to levels may lengthen an update beyond the clip that is accounted for"),
            (laws.BUFFERED, "masks are bound to one broadcast model, and stale clients have others"),
            (laws.PRODUCTS, "products of single clients' A and B are summed"),
            ("cohort.sampling=poisson|fixed", "the modulus is for a largest cohort, and these may have any number"),
            ("run.keep_updates", "it stores the single updates that the sum hides"),
            ("ensemble.enabled=True", "the server learns from single clients' models"),
            ("attack.name!=none", "attackers are simulated by sums in the clear of what they know"),
        )
    ),
    Requires(laws.DISTRIBUTED_DP, laws.SECURE, "a client's share of the noise hides it in the sum alone"),
    *(
        Conflict(laws.DISTRIBUTED_DP, condition, because, remedy)
        for condition, because, remedy in (
            ("compression.upload", "clients send levels of a grid already, of {aggregation.secure_bits}", "remove it"),
            ("privacy.metrics=private", "the server would see the sums to which it adds noise", "withhold them"),
            (
                "privacy.amplification=poisson|without_replacement",
                "noise that comes and goes with clients is amplified by no theorem",
                "remove it",
            ),
        )
    ),
    *(
        Law(
            lambda c, path=path: c.privacy.is_distributed and c.engine.name == "federation" and c.is_set(path),
            f"{{{path}=}} cannot be combined with {{privacy.mechanism=}} and {{engine.name=}}: {because}; remove it.",
        )
        for path, because in (
            ("privacy.noise_seed", "participants draw noise that nobody else knows"),
            ("privacy.population", "real participants simulate no larger federation"),
        )
    ),
    Law(
        lambda c: c.privacy.is_distributed and c.aggregation.secure_bits > MOST_NOISED_BITS,
        "{aggregation.secure_bits=} is more than " + f"{MOST_NOISED_BITS}, the most of sums with "
        "{privacy.mechanism=}: lower it.",
    ),
)
"""Rules of the section `aggregation` on secure sums."""
