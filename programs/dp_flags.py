"""The flags of user-level differential privacy: which mechanism, and what else leaves a private run."""

from __future__ import annotations

import math

from absl import flags

from programs import (  # noqa: F401 -- flags that are read here
    aggregation_flags,
    async_flags,
    cohort_flags,
    compression_flags,
    privacy_flags,
    training_flags,
)
from tff_tx import aggregators
from tff_tx.core.errors import UserError

FLAGS = flags.FLAGS

MECHANISMS = ("none", "gaussian", "adaptive", "tree", "banded")
METRICS = ("exact", "private", "withheld")

flags.DEFINE_enum(
    "dp_mechanism",
    "none",
    MECHANISMS,
    "Hides every client from whoever sees the models: noise of its own in every round, with a fixed or an adaptive "
    "clip; tree aggregation (DP-FTRL); or a banded factorization (BandMF). The last two need "
    "--sampling=min_separation.",
)
flags.DEFINE_float("clipping_norm", 0.3, "L2 norm that clients' updates are clipped to; where adaptive starts.")
flags.DEFINE_float("clip_quantile", 0.5, "Share of clients that --dp_mechanism=adaptive does not clip.")
flags.DEFINE_float("clip_learning_rate", 0.2, "The logarithm of an adaptive clip changes by this a round, at most.")
flags.DEFINE_float(
    "clip_count_stddev",
    None,
    "Noise of the number of unclipped clients, which an adaptive clip follows; default: a twentieth of the cohort, or "
    "twice the noise multiplier if that is more.",
)
flags.DEFINE_enum(
    "dp_metrics",
    "exact",
    METRICS,
    "Metrics of training: exact, so outside the guarantee; private: means over clients with noise; or withheld.",
)
flags.DEFINE_float("dp_metrics_share", 0.02, "Share of the budget that private metrics spend.")
flags.DEFINE_float("dp_metrics_loss_bound", 10.0, "Larger losses of a client count as this in private metrics, nats.")
flags.DEFINE_integer(
    "dp_noise_seed",
    None,
    "Seed of the noise, for runs that can be repeated: protects nobody from those who know it. Default: the system's "
    "randomness, kept in the checkpoints.",
)

_PRIVATE = (
    *("clipping_norm", "clip_quantile", "clip_learning_rate", "clip_count_stddev", "dp_metrics", "dp_metrics_share"),
    *("dp_metrics_loss_bound", "dp_noise_seed"),
)
_ADAPTIVE = ("clip_quantile", "clip_learning_rate", "clip_count_stddev")
_METRICS_ALONE = ("dp_metrics_share", "dp_metrics_loss_bound")

_CORRELATED = ("tree", "banded")


def enabled() -> bool:
    """Whether the run is private."""
    return FLAGS.dp_mechanism != "none"


def check() -> None:
    """Refuses values that mean nothing, and combinations that would void the guarantee.

    Raises:
      UserError: With the first of them.
    """
    privacy_flags.check(enabled())
    if not enabled():
        for name in _PRIVATE:
            if not FLAGS[name].using_default_value:
                raise UserError(
                    f"--{name}={FLAGS[name].value} means nothing without --dp_mechanism: give that too, or drop it."
                )
        return
    _check_values()
    _check_what_belongs_to_others()
    _check_the_guarantee()
    FLAGS.weighted = False  # implied; `config.json` shall say so


def _check_values():
    for name, above, below in (
        ("clipping_norm", 0.0, math.inf),
        ("clip_quantile", 0.0, 1.0),
        ("clip_learning_rate", 0.0, math.inf),
        ("clip_count_stddev", 0.0, math.inf),
        ("dp_metrics_share", 0.0, 1.0),
        ("dp_metrics_loss_bound", 0.0, math.inf),
    ):
        value = FLAGS[name].value
        if value is not None and not above < value < below:
            most = "" if math.isinf(below) else f" and below {below:g}"
            raise UserError(f"--{name}={value} must be above {above:g}{most}: correct it.")


def _check_what_belongs_to_others():
    belongs = {
        **{name: ("dp_mechanism", ("adaptive",)) for name in _ADAPTIVE},
        **{name: ("dp_metrics", ("private",)) for name in _METRICS_ALONE},
        "restart_rounds": ("dp_mechanism", ("tree",)),
        "bands": ("dp_mechanism", ("banded",)),
    }
    for name, (other, values) in belongs.items():
        if not FLAGS[name].using_default_value and FLAGS[other].value not in values:
            raise UserError(
                f"--{name}={FLAGS[name].value} belongs to --{other}={values[0]}, and --{other} is "
                f"{FLAGS[other].value}: drop one of them."
            )


def _check_the_guarantee():
    mechanism = f"--dp_mechanism={FLAGS.dp_mechanism}"
    if FLAGS.local_dp_clip is not None:
        raise UserError(
            f"--local_dp_clip={FLAGS.local_dp_clip} hides clients by noise of their own, and {mechanism} by noise "
            "added after them: drop one of them."
        )
    aggregators.refuse_hidden_updates(FLAGS.aggregator, mechanism, "differential privacy")
    for name in ("aggregator", "clipping", "zeroing"):
        if not FLAGS[name].using_default_value:
            raise UserError(
                f"--{name}={FLAGS[name].value} changes how updates are added up, and the accounting of {mechanism} "
                "knows its own clip and mean alone: drop one of them."
            )
    _check_compression(mechanism)
    if FLAGS.weighted and not FLAGS["weighted"].using_default_value:
        raise UserError(
            f"--weighted lets a client count by its number of examples, and {mechanism} bounds what a client counts: "
            "drop it."
        )
    if FLAGS.algorithm == "mime_lite":
        raise UserError(
            f"{mechanism} does not hide the gradient that clients of --algorithm=mime_lite send besides their update: "
            "choose another algorithm."
        )
    if FLAGS.algorithm == "fed_sgd" and FLAGS.dp_metrics != "exact":
        raise UserError(
            f"--dp_metrics={FLAGS.dp_metrics} is not for --algorithm=fed_sgd: choose fed_avg or fed_prox, or exact."
        )
    if async_flags.enabled():
        raise UserError(
            f"--buffer_size={FLAGS.buffer_size} lets a client take part as often as its device is fast, which the "
            f"accounting of {mechanism} does not know: drop one of them."
        )
    if FLAGS.over_selection != 1:
        raise UserError(
            f"--over_selection={FLAGS.over_selection} lets fast devices displace slow ones, so that cohorts are not "
            f"drawn as the accounting of {mechanism} has it: drop it."
        )
    if FLAGS.availability != "always" and FLAGS.sampling != "poisson":
        raise UserError(
            f"--availability={FLAGS.availability} draws cohorts from those awake, which are fewer than the accounting "
            f"of {mechanism} has it: drop it, or sample with --sampling=poisson."
        )
    for name in ("min_clients", "max_round_retries"):
        if not FLAGS[name].using_default_value:
            raise UserError(
                f"--{name}={FLAGS[name].value} would let the number of clients decide what is released, and with "
                f"{mechanism} a round counts however many report: drop it."
            )
    if FLAGS.dp_mechanism in _CORRELATED and FLAGS.sampling != "min_separation":
        raise UserError(
            f"{mechanism} is accounted by how far apart the rounds of a client are, and --sampling={FLAGS.sampling} "
            "keeps no distance: sample with --sampling=min_separation."
        )


def _check_compression(mechanism):
    if FLAGS.compression == "none":
        return
    told = f"--compression={FLAGS.compression}"
    if compression_flags.has_error_feedback():
        raise UserError(
            f"{told} with error feedback sends what was left out in earlier rounds beyond the clip of {mechanism}: set "
            "--noerror_feedback."
        )
    if FLAGS.dp_mechanism == "adaptive":
        raise UserError(
            f"{told} is decoded and clipped by the server as it adds up, which needs a clip that stays, and that of "
            f"{mechanism} does not: choose --dp_mechanism=gaussian, or drop it."
        )


def kept_bytes(trainable_bytes: int) -> int:
    """Bytes of the noise in a checkpoint, at most.

    Args:
      trainable_bytes: Of the trainable weights.
    """
    copies = {"tree": math.ceil(math.log2(FLAGS.rounds)) + 2, "banded": FLAGS.bands or privacy_flags.MOST_BANDS}
    return copies.get(FLAGS.dp_mechanism, 0) * trainable_bytes
