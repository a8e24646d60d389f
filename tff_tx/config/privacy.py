"""Differential privacy: in the aggregation, of a client's update, and of single examples."""

from __future__ import annotations

import dataclasses

from tff_tx.config.option import POSITIVE, SEED, Range, Section, option

CENTRAL = ("gaussian", "adaptive", "tree", "banded")
DISTRIBUTED = ("skellam", "discrete_gaussian")
MECHANISMS = ("none", *CENTRAL, *DISTRIBUTED)
METRICS = ("exact", "private", "withheld")
ACCOUNTANTS = ("pld", "rdp")
SAMPLING = ("poisson", "without_replacement", "none")
MOST_BANDS = 32
"""The default of bands goes no higher: there are as many copies of the model in memory, and more gain little."""


_NOISE = {"least": 0.0, "most": 1e308}
"""Bounds of noise, for which accounting gives a number whatever it is."""


@dataclasses.dataclass(frozen=True)
class PrivacyConfig(Section, name="privacy"):
    """Client-level differential privacy."""

    mechanism: str = option(
        "none",
        "Client-level DP: independent noise in every round, with a fixed (gaussian) or adaptive clip; tree aggregation "
        "(DP-FTRL); or a banded matrix factorization (BandMF), of which the last two need "
        "{cohort.sampling}=min_separation. Or shares of discrete noise that clients add themselves, Skellam or "
        "discrete Gaussian, under {aggregation.secure}.",
        flag="dp_mechanism",
        choices=MECHANISMS,
    )
    clip_norm: float = option(
        0.3,
        "L2 norm to which clients' updates are clipped; initial value with {privacy.mechanism}=adaptive.",
        flag="dp_clip_norm",
        formerly=("clipping_norm",),
        **POSITIVE,
        stated=True,
        search=Range(0.03, 3.0, log=True),
    )
    noise_multiplier: float | None = option(
        None, "Standard deviation of the noise of a sum of updates, in units of the clip norm.", **_NOISE
    )
    target_epsilon: float | None = option(
        None,
        "Finds the least noise that keeps all {run.rounds} within this epsilon; inf: none.",
        above=0.0,
        may_be_infinite=True,
    )
    target_delta: float | None = option(
        None,
        "Delta of the guarantee, of examples too; default: population^-1.1, and of examples 1e-5 at most.",
        above=0.0,
        below=1.0,
    )
    stop_at_epsilon: float | None = option(None, "Stops before the round that would exceed this epsilon.", **POSITIVE)
    population: int | None = option(
        None, "Number of clients that the guarantee is for; default: the training clients.", least=1, most=2**53
    )
    accountant: str | None = option(
        None,
        "Privacy loss distributions or Renyi divergences; default: the tighter one that covers the mechanism.",
        choices=ACCOUNTANTS,
    )
    amplification: str | None = option(
        None, "Sampling that the accounting assumes; default: that of {cohort.sampling}.", choices=SAMPLING
    )
    clip_quantile: float = option(
        0.5,
        "Share of clients that an adaptive clip leaves unclipped.",
        flag="dp_clip_quantile",
        formerly=("clip_quantile",),
        above=0.0,
        below=1.0,
    )
    clip_learning_rate: float = option(
        0.2,
        "Maximum change of the logarithm of an adaptive clip per round.",
        flag="dp_clip_learning_rate",
        formerly=("clip_learning_rate",),
        **POSITIVE,
    )
    clip_count_stddev: float | None = option(
        None,
        "Noise of the number of unclipped clients, which an adaptive clip follows; default: a twentieth of the cohort, "
        "or twice the noise multiplier if that is more.",
        flag="dp_clip_count_stddev",
        formerly=("clip_count_stddev",),
        **POSITIVE,
    )
    bands: int | None = option(
        None,
        f"Bands of a banded factorization; default: rounds between a client's turns, at most {MOST_BANDS}.",
        least=1,
    )
    restart_rounds: int | None = option(
        None, "Rounds after which tree aggregation begins a new tree; default: one tree for all.", least=1
    )
    metrics: str = option(
        "exact",
        "Training metrics: exact, outside the guarantee; private: noised means over clients; or withheld, with all "
        "other figures outside of it.",
        flag="dp_metrics",
        choices=METRICS,
    )
    metrics_share: float = option(
        0.02, "Share of the budget that private metrics spend.", flag="dp_metrics_share", above=0.0, below=1.0
    )
    metrics_loss_bound: float = option(
        10.0,
        "Bound to which a client's loss is clipped in private metrics, in nats.",
        flag="dp_metrics_loss_bound",
        **POSITIVE,
    )
    noise_seed: int | None = option(
        None,
        "Seed of the noise, for repeatable experiments: gives no protection against those who know it. Default: the "
        "system's randomness, stored in the checkpoints.",
        flag="dp_noise_seed",
        **SEED,
    )
    sampling_seed: int | None = option(
        None,
        "Seed of the cohorts, for repeatable experiments: sampling amplifies nothing for those who know it. Default: "
        "the system's randomness, stored in the checkpoints.",
        flag="dp_sampling_seed",
        **SEED,
    )

    @property
    def enabled(self) -> bool:
        """Whether the run has client-level differential privacy."""
        return self.mechanism != "none"

    @property
    def is_distributed(self) -> bool:
        """Whether clients add the noise, by shares."""
        return self.mechanism in DISTRIBUTED

    @property
    def budget_of_metrics(self) -> float:
        """Share of the budget, in units of the inverse square of the noise multiplier, that private metrics spend."""
        return self.metrics_share if self.metrics == "private" else 0.0


@dataclasses.dataclass(frozen=True)
class LocalPrivacyConfig(Section, name="local_privacy", prefix="local_dp_"):
    """Local differential privacy of updates."""

    clip_norm: float | None = option(
        None,
        "L2 norm to which a client clips its update before it adds noise.",
        formerly=("local_dp_clip",),
        **POSITIVE,
    )
    noise_multiplier: float | None = option(
        None, "Standard deviation of that noise, in units of {local_privacy.clip_norm}.", **_NOISE
    )


@dataclasses.dataclass(frozen=True)
class ExamplePrivacyConfig(Section, name="example_privacy", prefix="example_dp_"):
    """Example-level differential privacy in the client (DP-SGD)."""

    clip_norm: float | None = option(
        None, "L2 norm to which the gradient of each example is clipped.", formerly=("example_clip",), **POSITIVE
    )
    noise_multiplier: float | None = option(
        None,
        "Standard deviation of the noise of a batch's sum of clipped gradients, in units of "
        "{example_privacy.clip_norm}.",
        formerly=("example_noise_multiplier",),
        **_NOISE,
    )
    microbatches: int | None = option(
        None,
        "Groups of examples of a batch whose mean gradients are clipped; default: one per example.",
        flag="microbatches",
        least=1,
    )
