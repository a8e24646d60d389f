"""The flags of FedBuff: clients that do not wait for each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from absl import flags

from programs import cluster_flags, cohort_flags, training_flags
from tff_tx import cohorts, runtime
from tff_tx.cohorts import buffered as asynchrony
from tff_tx.core.errors import UserError

FLAGS = flags.FLAGS

flags.DEFINE_integer(
    "buffer_size",
    None,
    "Turns FedBuff on: a round of the run is an update of the server, made as soon as so many clients have reported, "
    "while the others go on with the models they have.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "concurrency",
    None,
    "Clients at work at the same time, with --buffer_size; default: --clients_per_round.",
    lower_bound=1,
)
flags.DEFINE_float(
    "staleness_exponent",
    0.5,
    "An update from a client that has missed tau updates counts (1 + tau) to the minus this; 0.5 is FedBuff's, 0 "
    "counts all alike.",
    lower_bound=0.0,
)
flags.DEFINE_integer(
    "max_staleness",
    10,
    "Reports of clients that have missed more updates are thrown away. As many models are kept.",
    lower_bound=0,
)

_OTHERS = ("concurrency", "staleness_exponent", "max_staleness")
_SYNCHRONOUS = {
    "over_selection": "never waits for a slow client",
    "report_deadline": "never waits for a slow client; reports that come too late are those beyond --max_staleness",
    "round_overhead_seconds": "makes updates while clients work",
    "max_round_retries": "has no other reports to try a round with",
}


def enabled() -> bool:
    """Whether the run is asynchronous."""
    return FLAGS.buffer_size is not None


def check() -> None:
    """Refuses values and combinations of flags that mean nothing.

    Raises:
      UserError: With the first of them.
    """
    if not enabled():
        for name in _OTHERS:
            if not FLAGS[name].using_default_value:
                raise UserError(
                    f"--{name}={FLAGS[name].value} means nothing without --buffer_size, which turns FedBuff on: give "
                    "that too, or drop it."
                )
        return
    buffer = f"--buffer_size={FLAGS.buffer_size}"
    if FLAGS.engine != "local":
        raise UserError(f"{buffer} needs --engine=local, and --engine is {FLAGS.engine}: drop one of them.")
    if FLAGS.algorithm == "mime_lite":
        raise UserError(
            f"{buffer} means nothing to --algorithm=mime_lite, whose clients also send a gradient, which must be of "
            "the server's present model: drop it or change the algorithm."
        )
    if FLAGS.sampling in ("poisson", "fixed", "min_separation"):
        raise UserError(
            f"{buffer} means nothing to --sampling={FLAGS.sampling}, which draws whole rounds, and FedBuff asks "
            "clients one by one: sample with uniform or by_size."
        )
    for name, reason in _SYNCHRONOUS.items():
        if FLAGS[name].value != FLAGS[name].default:
            raise UserError(f"--{name}={FLAGS[name].value} means nothing to {buffer}, as the server {reason}: drop it.")
    for name in ("compression", "download_compression"):
        if FLAGS[name].value != "none":
            raise UserError(
                f"--{name}={FLAGS[name].value} and {buffer} do not go together, as FedBuff scales plain updates and "
                "keeps plain models: drop one of them."
            )
    if FLAGS.min_clients > FLAGS.buffer_size:
        raise UserError(f"--min_clients={FLAGS.min_clients} is more than {buffer}: lower it, or buffer more.")
    if not FLAGS.seconds_per_example and FLAGS.device_bytes_per_second is None:
        raise UserError(
            f"{buffer} is about clients that take different times, and they take none: give --seconds_per_example "
            "(and --device_speed_spread) or --device_bytes_per_second."
        )


def engine(
    process, hooks: Sequence[runtime.Hook], cluster: runtime.RayCluster | None, costs: Mapping[str, float]
) -> runtime.Engine:
    """The engine that --engine names, for a `LearningProcess`, with FedBuff if it is on.

    Args:
      process: Of clients named by `tasks.client_arguments`.
      hooks: Others of the engine.
      cluster: Of --engine=ray.
      costs: What each client costs a round.
    """
    if cluster is not None:
        return cluster_flags.engine(process, cluster, costs)
    if enabled():
        hooks = [runtime.Staleness(FLAGS.max_staleness, FLAGS.staleness_exponent), *hooks]
    return training_flags.engine(process, hooks, lambda client: costs[client["client_id"].decode()])


def sampler(client_ids: Sequence[str], sizes: Mapping[str, int], seed: int) -> cohorts.Sampler:
    """Draws whom a round may ask, or with FedBuff, whom the server may start next.

    Args:
      client_ids: The training clients.
      sizes: Their numbers of examples.
      seed: Decides the draws.

    Raises:
      UserError: If there are too few clients.
    """
    if not enabled():
        return cohort_flags.sampler(client_ids, sizes, seed)
    drawable = sum(sizes[c] > 0 for c in client_ids) if FLAGS.sampling == "by_size" else len(client_ids)
    name = "clients_per_round" if FLAGS.concurrency is None else "concurrency"
    for flag, value in ((name, _concurrency()), ("buffer_size", FLAGS.buffer_size)):
        if value > drawable:
            raise UserError(
                f"--{flag}={value} is more than the {drawable} training clients with examples: lower it, or deal the "
                "data to more with --num_clients."
            )
    # Of those drawn some are at work or in the buffer already.
    drawn = min(cohort_flags.devices(seed).candidates(_concurrency() + FLAGS.buffer_size - 1), drawable)
    return cohorts.build_sampler(FLAGS.sampling, client_ids, drawn, seed, sizes=sizes)


def timeline(
    sample: cohorts.Sampler, num_examples: Mapping[str, int], bytes_per_client: int, seed: int
) -> asynchrony.Timeline:
    """Who arrives when.

    Args:
      sample: Of `sampler`.
      num_examples: By client id, how many examples it trains on.
      bytes_per_client: What a client receives and sends.
      seed: Of the devices.
    """
    return asynchrony.Timeline(
        sample,
        cohort_flags.devices(seed),
        concurrency=_concurrency(),
        buffer_size=FLAGS.buffer_size,
        max_staleness=FLAGS.max_staleness,
        num_examples=num_examples,
        bytes_per_client=bytes_per_client,
    )


def kept_bytes(trainable_bytes: int) -> int:
    """Bytes of the past models in a checkpoint.

    Args:
      trainable_bytes: Of the trainable weights.
    """
    return FLAGS.max_staleness * trainable_bytes if enabled() else 0


def _concurrency():
    return FLAGS.concurrency or FLAGS.clients_per_round
