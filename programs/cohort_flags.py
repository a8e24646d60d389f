"""The flags of who is asked in a round, and of the devices that the clients are simulated to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from absl import flags

from tff_tx import cohorts
from tff_tx.cohorts.devices import AVAILABILITIES, Devices
from tff_tx.core.errors import UserError

FLAGS = flags.FLAGS

flags.DEFINE_enum(
    "sampling",
    "uniform",
    list(cohorts.SAMPLERS),
    "How a round's cohort is drawn: so many clients; each by itself with the same probability (poisson, as the "
    "accounting of privacy has it); in proportion to their examples; with rounds between a client's turns; "
    "or fixed: replayed from --cohorts.",
)
flags.DEFINE_integer(
    "min_separation",
    None,
    "A client is asked at most once in so many consecutive rounds, with --sampling=min_separation; default: as many as "
    "the number of clients allows.",
    lower_bound=1,
)
flags.DEFINE_string("cohorts", None, "The record to replay, with --sampling=fixed: cohorts.jsonl of an earlier run.")
flags.DEFINE_integer("min_clients", 1, "If fewer report, the round is tried again with another cohort.", lower_bound=1)
flags.DEFINE_integer("max_round_retries", 3, "How often a round is tried again before the run ends.", lower_bound=0)

# What a device cannot have is refused by Devices, with a remedy.
flags.DEFINE_float("over_selection", 1.0, "Ask so many times --clients_per_round; the first to report count.")
flags.DEFINE_float("dropout_rate", 0.0, "Probability that a client vanishes in a round.")
flags.DEFINE_float("report_deadline", None, "Simulated seconds a client has to report; default: any number.")
flags.DEFINE_float("seconds_per_example", 0.0, "Simulated seconds that the median device trains on an example.")
flags.DEFINE_float("device_speed_spread", 0.0, "Standard deviation of the logarithm of devices' speeds.")
flags.DEFINE_float(
    "device_bytes_per_second", None, "Simulated speed of a device's connection; default: it takes no time."
)
flags.DEFINE_float("round_overhead_seconds", 0.0, "Simulated seconds of a round besides its clients' work.")
flags.DEFINE_enum(
    "availability", "always", AVAILABILITIES, "When devices can be asked: always, or mostly at night, where they are."
)


def check() -> None:
    """Refuses values and combinations of flags that mean nothing.

    Raises:
      UserError: With the first of them.
    """
    _check_sampling()
    _check_devices()


def sampler(client_ids: Sequence[str], sizes: Mapping[str, int], seed: int) -> cohorts.Sampler:
    """Draws whom a round may ask: `Devices.select(drawn, time, asked())` says whom it asks.

    Args:
      client_ids: The training clients.
      sizes: Their numbers of examples.
      seed: Decides the draws.

    Returns:
      From (round_num, attempt=0) to distinct client ids.

    Raises:
      UserError: If there are fewer clients than a round asks, or the record of --cohorts will not do.
    """
    drawn, separation = FLAGS.clients_per_round, 1
    if asked() is not None:
        drawable = sum(sizes[c] > 0 for c in client_ids) if FLAGS.sampling == "by_size" else len(client_ids)
        if asked() > drawable:
            product, them = "", "it"
            if FLAGS.over_selection > 1:
                product = f" times --over_selection={FLAGS.over_selection} is {asked()} clients a round,"
                them = "one of them"
            raise UserError(
                f"--clients_per_round={FLAGS.clients_per_round}{product or ' is'} more than the {drawable} training "
                f"clients with examples: lower {them}, or deal the data to more with --num_clients."
            )
        if FLAGS.sampling == "min_separation":
            separation = min_separation(len(client_ids))
            drawable = max(asked(), drawable // separation)
        drawn = min(devices(seed).candidates(drawn), drawable)
    return cohorts.build_sampler(
        FLAGS.sampling,
        client_ids,
        drawn,
        seed,
        sizes=sizes,
        path=FLAGS.cohorts,
        rounds=FLAGS.rounds,
        separation=separation,
    )


def min_separation(num_clients: int) -> int:
    """Rounds from one participation of a client to the next, at least; 1 if the sampler keeps none.

    Args:
      num_clients: How many there are to ask.
    """
    if FLAGS.sampling != "min_separation":
        return 1
    return FLAGS.min_separation or max(1, num_clients // asked())


def asked() -> int | None:
    """How many of the available clients a round asks; None: all that were drawn, as with poisson and fixed."""
    if FLAGS.sampling in ("poisson", "fixed"):
        return None
    return devices(0).asked(FLAGS.clients_per_round)


def devices(seed: int) -> Devices:
    """The simulated devices.

    Raises:
      UserError: If no device is like that.
    """
    return Devices(
        dropout_rate=FLAGS.dropout_rate,
        over_selection=FLAGS.over_selection,
        report_deadline=FLAGS.report_deadline,
        seconds_per_example=FLAGS.seconds_per_example,
        speed_spread=FLAGS.device_speed_spread,
        round_overhead_seconds=FLAGS.round_overhead_seconds,
        bytes_per_second=FLAGS.device_bytes_per_second,
        availability=FLAGS.availability,
        seed=seed,
    )


def _check_sampling():
    if FLAGS.sampling == "fixed":
        _check_replay()
    elif FLAGS.cohorts is not None:
        raise UserError(
            f"--cohorts={FLAGS.cohorts} is read with --sampling=fixed only, and --sampling is {FLAGS.sampling}: drop "
            "one of them."
        )
    elif FLAGS.min_separation is not None and FLAGS.sampling != "min_separation":
        raise UserError(
            f"--min_separation={FLAGS.min_separation} is kept with --sampling=min_separation only, and --sampling is "
            f"{FLAGS.sampling}: drop one of them."
        )
    elif FLAGS.min_clients > FLAGS.clients_per_round:
        raise UserError(
            f"--min_clients={FLAGS.min_clients} is more than --clients_per_round={FLAGS.clients_per_round}: lower it, "
            "or ask more."
        )
    if FLAGS.sampling == "poisson" and FLAGS.over_selection != 1:
        raise UserError(
            f"--over_selection={FLAGS.over_selection} means nothing to --sampling=poisson, where every client drawn "
            "counts, however many: drop it or sample with uniform."
        )


def _check_replay():
    if FLAGS.cohorts is None:
        raise UserError("--sampling=fixed needs --cohorts, the cohorts to replay: name cohorts.jsonl of a run.")
    if not FLAGS["max_round_retries"].using_default_value:
        raise UserError(
            f"--max_round_retries={FLAGS.max_round_retries} means nothing to --sampling=fixed, which has one cohort a "
            "round: drop it."
        )
    if FLAGS.availability != "always":
        raise UserError(
            f"--availability={FLAGS.availability} means nothing to --sampling=fixed, as the recorded clients were "
            "available: drop it."
        )


def _check_devices():
    device = devices(0)
    working = device.seconds_per_example > 0 or device.bytes_per_second is not None
    if device.speed_spread and not device.seconds_per_example:
        raise UserError(
            f"--device_speed_spread={device.speed_spread} spreads --seconds_per_example, which is 0: give both or none."
        )
    if device.report_deadline is not None and not working:
        raise UserError(
            f"--report_deadline={device.report_deadline} is never missed, as clients take no time: give "
            "--seconds_per_example or --device_bytes_per_second, or drop it."
        )
    if device.availability != "always" and not (working or device.round_overhead_seconds):
        raise UserError(
            f"--availability={device.availability} follows the time of day, and none passes: give "
            "--seconds_per_example, --device_bytes_per_second or --round_overhead_seconds."
        )
    if device.over_selection > 1 and not (working or device.dropout_rate):
        raise UserError(
            f"--over_selection={device.over_selection} makes up for clients that are late or vanish, and none is or "
            "does: give --dropout_rate or --seconds_per_example, or drop it."
        )
