"""How the server combines the clients' updates, and how they are compressed."""

from __future__ import annotations

import dataclasses

from tff_tx.config.option import POSITIVE, Option, Range, Section, option
from tff_tx.config.registries import AGGREGATORS
from tff_tx.core.errors import UserError, setting

GRIDS = ("uniform", "stochastic", "rotated")
"""Quantizers whose levels can be those of all clients, so that they can be summed."""
QUANTIZERS = ("uniform", "stochastic", "rotated", "eden")
COMPRESSORS = (*(f"{name}{bits}" for name in QUANTIZERS for bits in range(1, 9)), "top_k", "random_k", "low_rank")
NONE = "none"
ADAPTIVE = "adaptive"
_NORM = Option("", **POSITIVE)


@dataclasses.dataclass(frozen=True)
class AggregationConfig(Section, name="aggregation"):
    """Aggregation."""

    aggregator: str = option("mean", "Aggregator of the clients' updates.", choices=AGGREGATORS)
    clip_norm: str | None = option(
        None,
        "L2 norm to which updates are clipped before aggregation, or `adaptive` (quantile-based, Andrew et al. 2021).",
        flag="update_clip_norm",
        formerly=("clipping",),
    )
    zeroing_norm: str | None = option(
        None,
        "Replaces updates that have an element above this magnitude, or with `adaptive` above an estimated quantile, "
        "by 0; before {aggregation.clip_norm}.",
        flag="update_zeroing_norm",
        formerly=("zeroing",),
    )
    assumed_attackers: float = option(
        0.2, "Share of the cohort that trimmed_mean, krum, multi_krum and bulyan must withstand.", least=0.0, below=0.5
    )
    attention_key: str = option(
        "distance",
        "Attention score: distance of a client's layer from the global one, as in FedAtt, or training loss.",
        choices=("distance", "loss"),
    )
    attention_temperature: float = option(
        1.0,
        "Softmax temperature; larger values weight clients more uniformly (inf: plain mean).",
        above=0.0,
        may_be_infinite=True,
        search=Range(0.1, 10.0, log=True),
    )
    attention_step_size: float = option(
        1.0, "epsilon of FedAtt: multiplies the aggregate.", **POSITIVE, search=Range(0.3, 3.0, log=True)
    )
    attention_floor: float = option(
        0.0, "Minimum weight of a client, as a share of its weight in the mean.", least=0.0, most=1.0
    )
    centered_clip_norm: float | None = option(
        None,
        "centered_clipping: L2 norm to which a client's difference from the last aggregate is clipped.",
        formerly=("clipping_radius",),
        above=0.0,
    )
    median_iterations: int = option(32, "Weiszfeld iterations of geometric_median.", least=1)
    secure: str = option(
        NONE,
        "Secure aggregation: all that clients send is summed as whole numbers modulo a power of two, in the open "
        "(arithmetic), by the protocol with masks among the cohort, or by homomorphic encryption with a key holder "
        "beside the server (bfv; extra `he`), which give the same numbers.",
        flag="secure_aggregation",
        choices=(NONE, "arithmetic", "masks", "bfv"),
    )
    secure_bits: int = option(
        20, "Bits of a number of the secure sum of updates, unless {compression.upload} sets them.", least=2, most=30
    )
    secure_colluding: float = option(0.2, "Share of the cohort that may collude with the server.", least=0.0, below=1.0)
    secure_dropping: float = option(0.1, "Share of the cohort that may drop out within a round.", least=0.0, below=1.0)
    key_holder: str = option(
        "keyholder", "bfv among the participants of a federation: name of the key holder's kit (programs.keyholder)."
    )
    secure_passive_server: bool = option(
        False, "Thresholds against a server that follows the protocol, instead of one that may deviate from it."
    )

    def __post_init__(self):
        super().__post_init__()
        for name in ("clip_norm", "zeroing_norm"):
            self.norm(name)

    def norm(self, name: str) -> float | str | None:
        """The "clip_norm" or "zeroing_norm": a norm, "adaptive" or None; UserError: it is something else."""
        value = getattr(self, name)
        if value is None or value == ADAPTIVE:
            return value
        try:
            norm = max(0.0, float(value))  # of NaN 0, too
        except ValueError:
            norm = 0.0
        if (problem := _NORM.problem(norm)) is not None:
            within = problem.removeprefix("must be ")
            raise UserError(f"{setting(f'aggregation.{name}')}={value}: must be adaptive or a norm {within}.")
        return norm


@dataclasses.dataclass(frozen=True)
class CompressionConfig(Section, name="compression"):
    """Compression."""

    upload: str = option(
        NONE,
        "Compression of updates: quantization to equidistant levels, to the nearest (uniformB), stochastically "
        "(stochasticB) or after a rotation (rotatedB), with B bits; EDEN (edenB; eden1 is DRIVE); the largest (top_k) "
        "or random (random_k) coordinates; or low-rank matrices.",
        flag="compression",
        choices=(NONE, *COMPRESSORS),
    )
    fraction: float = option(
        0.01, "Share of coordinates that top_k and random_k send.", flag="compression_fraction", above=0.0, most=1.0
    )
    rank: int = option(2, "Rank of the matrices of low_rank.", flag="compression_rank", least=1)
    error_feedback: bool | None = option(
        None,
        "Adds what compression left out to the client's next update; residuals are stored in residuals/. Default: for "
        "top_k, random_k and low_rank.",
    )
    download: str = option(
        NONE,
        "Compression of the model's change since the last round, sent to clients in place of the model.",
        flag="download_compression",
        choices=(NONE, *COMPRESSORS),
    )

    BIASED = ("top_k", "random_k", "low_rank")

    @property
    def has_error_feedback(self) -> bool:
        """Whether clients have residuals."""
        if self.error_feedback is None:
            return self.upload in self.BIASED
        return self.error_feedback and self.upload != NONE
