"""What secure aggregation forbids: whatever is no sum over the clients of a round."""

from __future__ import annotations

from tff_tx.config import laws
from tff_tx.config.conditions import Conflict, Relation, belong, section

SECURE = (
    *belong(laws.SECURE, "aggregation.secure_bits"),
    *belong(
        "aggregation.secure=masks",
        *section("aggregation", "secure_colluding", "secure_dropping", "secure_passive_server"),
        "engine.federation_secure_seconds",
    ),
    Conflict("aggregation.secure_bits", "compression.upload", "the quantizer sets the bits", "remove it"),
    Relation(("aggregation.secure", "compression.upload"), laws.codes_are_sums),
    Conflict("engine.name=federation", "aggregation.secure=arithmetic", "it protects nobody", "choose masks"),
    Relation(("aggregation.secure", "engine.name"), laws.sizes_are_told),
    *(
        Conflict(laws.SECURE, condition, because)
        for condition, because in (
            ("engine.name=tff_native", "TFF's runtime has no secure sums"),
            ("compression.error_feedback=True", "levels are rounded without bias, and leave nothing to be sent later"),
            (laws.PRIVATE, "rounding to levels may lengthen an update beyond the clip that is accounted for"),
            (laws.BUFFERED, "masks are bound to one broadcast model, and stale clients have others"),
            (laws.PRODUCTS, "products of single clients' A and B are summed"),
            ("cohort.sampling=poisson|fixed", "the modulus is for a largest cohort, and these may have any number"),
            ("run.keep_updates", "it stores the single updates that the sum hides"),
            ("ensemble.enabled=True", "the server learns from single clients' models"),
            ("attack.name!=none", "attackers are simulated by sums in the clear of what they know"),
        )
    ),
)
"""Rules of the section `aggregation` on secure sums."""
