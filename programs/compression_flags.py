"""The flags of compression: what clients send and what they are sent."""

from __future__ import annotations

import os
from typing import Any, Callable

import tensorflow_federated as tff
from absl import flags

from tff_tx import aggregators, runtime
from tff_tx.aggregators import compression
from tff_tx.core.errors import UserError

FLAGS = flags.FLAGS

_NONE = "none"
_CHOICES = (_NONE, *compression.COMPRESSORS)
_BIASED = ("top_k", "random_k", "low_rank")

flags.DEFINE_enum(
    "compression",
    _NONE,
    _CHOICES,
    "How clients compress their updates: to levels at equal distances, to the nearest (uniform) or by chance "
    "(stochastic), the latter also after a rotation (rotated), with the number of bits; by EDEN, eden1 being DRIVE; to "
    "the largest or random coordinates; to matrices of low rank.",
)
flags.DEFINE_float(
    "compression_fraction", 0.01, "Of coordinates that top_k and random_k send.", lower_bound=0.0, upper_bound=1.0
)
flags.DEFINE_integer("compression_rank", 2, "Of the matrices of low_rank.", lower_bound=1)
flags.DEFINE_boolean(
    "error_feedback",
    None,
    "Whether clients add what compression left out to their next update; what is left is kept in residuals/. Default: "
    "for top_k, random_k and low_rank.",
)
flags.DEFINE_enum(
    "download_compression",
    _NONE,
    _CHOICES,
    "How the change of the model since the last round is compressed for clients; they train from what they decode.",
)


def check() -> None:
    """Refuses values and combinations of flags that mean nothing.

    Raises:
      UserError: With the first of them.
    """
    used = (FLAGS.compression, FLAGS.download_compression)
    for name, users in (("compression_fraction", ("top_k", "random_k")), ("compression_rank", ("low_rank",))):
        if not FLAGS[name].using_default_value and not set(users) & set(used):
            raise UserError(
                f"--{name}={FLAGS[name].value} belongs to --compression={' or '.join(users)}, and --compression is "
                f"{FLAGS.compression}: drop it or change the compression."
            )
    if FLAGS.compression_fraction == 0:
        raise UserError("--compression_fraction=0 would send nothing: raise it.")
    if FLAGS.error_feedback and FLAGS.compression == _NONE:
        raise UserError("--error_feedback has nothing to feed back without --compression: give that too, or drop it.")
    if has_error_feedback():
        _check_error_feedback()


def _check_error_feedback():
    told = "--error_feedback"
    if FLAGS.error_feedback is None:
        told = f"error feedback (--compression={FLAGS.compression} has it; --noerror_feedback is without)"
    if FLAGS.engine != "local":
        raise UserError(f"{told} needs --engine=local, and --engine is {FLAGS.engine}: drop one of them.")
    if FLAGS.aggregator in aggregators.NEEDS_ALL_UPDATES:
        raise UserError(
            f"{told} needs updates that are added up, and --aggregator={FLAGS.aggregator} needs every single one: drop "
            "one of them."
        )
    if FLAGS.algorithm == "mime_lite":
        raise UserError(
            f"{told} means nothing to --algorithm=mime_lite, whose clients also send a gradient: drop it or change the "
            "algorithm."
        )


def aggregator(weighted: bool, seed: int, inner: Any = None) -> Any:
    """What aggregates the values decoded from clients' codes; `inner` if nothing is compressed, or by the engine.

    Args:
      weighted: Whether a mean is weighted.
      seed: Decides what compressors draw.
      inner: A factory that is more than a mean; None: the mean.
    """
    if FLAGS.compression == _NONE or has_error_feedback():
        return inner
    if isinstance(inner, tff.aggregators.WeightedAggregationFactory):
        return compression.WeightedCompressedFactory(_compressor(FLAGS.compression), inner, seed)
    if inner is not None:
        return compression.CompressedFactory(_compressor(FLAGS.compression), inner, seed)
    if weighted:
        return tff.aggregators.MeanFactory(sum_factory(seed))
    return tff.aggregators.UnweightedMeanFactory(sum_factory(seed))


def sum_factory(seed: int, amend: Callable[[Any], Any] | None = None) -> Any:
    """What sums the values decoded from clients' codes; None if nothing is compressed.

    Args:
      seed: Decides what compressors draw.
      amend: As of `compression.CompressedSumFactory`.
    """
    if FLAGS.compression == _NONE:
        return None
    return compression.CompressedSumFactory(_compressor(FLAGS.compression), seed, amend)


def distributor_fn(seed: int) -> Callable | None:
    """From a function of initial weights to the distributor of compressed changes; None: the model is broadcast.

    Args:
      seed: Decides what the compressor draws.
    """
    if FLAGS.download_compression == _NONE:
        return None
    compressor = _compressor(FLAGS.download_compression, error_feedback=True)
    return lambda initial_weights_fn: compression.build_delta_distributor(initial_weights_fn, compressor, seed)


def encode() -> Callable[[list], bytes] | None:
    """What makes the bytes that are counted; None: nothing is compressed."""
    compresses = (FLAGS.compression, FLAGS.download_compression) != (_NONE, _NONE)
    return compression.encode if compresses else None


def hooks(run_dir: str) -> list[runtime.Hook]:
    """Error feedback, if it is on.

    Args:
      run_dir: The directory of the run, where residuals are stored.
    """
    if not has_error_feedback():
        return []
    residuals = compression.ResidualStore(os.path.join(run_dir, "residuals"), FLAGS.rounds_per_checkpoint)
    return [runtime.ClientCompression(_compressor(FLAGS.compression, error_feedback=True), residuals)]


def residual_bytes(trainable_bytes: int, num_clients: int, clients_per_round: int, rounds: int) -> int:
    """Bytes of what clients keep between rounds, at most.

    Args:
      trainable_bytes: Of the trainable weights.
      num_clients: In all.
      clients_per_round: Of a cohort.
      rounds: Between checkpoints.
    """
    if not has_error_feedback():
        return 0
    return trainable_bytes * (min(num_clients, clients_per_round * FLAGS.rounds) + clients_per_round * (rounds + 1))


def has_error_feedback() -> bool:
    if FLAGS.error_feedback is None:
        return FLAGS.compression in _BIASED
    return FLAGS.error_feedback and FLAGS.compression != _NONE


def _compressor(name, error_feedback=False):
    return compression.build_compressor(name, FLAGS.compression_fraction, FLAGS.compression_rank, error_feedback)
