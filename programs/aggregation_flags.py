"""The flags of how the server makes one update of its clients' updates."""

from __future__ import annotations

import math

import psutil
from absl import flags

from programs import compression_flags
from tff_tx import aggregators
from tff_tx.core.errors import UserError

FLAGS = flags.FLAGS

flags.DEFINE_enum("aggregator", "mean", list(aggregators.AGGREGATORS), "What the server makes of clients' updates.")
flags.DEFINE_string(
    "clipping",
    None,
    "Clips updates before to this L2 norm, the norm bound, or with `adaptive` to what most are below, as rounds go by.",
)
flags.DEFINE_string(
    "zeroing",
    None,
    "Replaces updates that have an element above this magnitude, or with `adaptive` above what is usual, by 0; before "
    "--clipping.",
)
flags.DEFINE_float(
    "assumed_attackers",
    0.2,
    "The share of a round's clients that trimmed_mean, krum, multi_krum and bulyan have to withstand.",
    lower_bound=0.0,
)
flags.DEFINE_enum(
    "attention_key",
    "distance",
    ["distance", "loss"],
    "What attention goes by: how far a client's layer has moved, as in FedAtt, or how low its training loss is.",
)
flags.DEFINE_float("attention_temperature", 1.0, "The larger, the more equal is attention; inf: the mean.")
flags.DEFINE_float("attention_step_size", 1.0, "epsilon of FedAtt: multiplies what attention gives.")
flags.DEFINE_float(
    "attention_floor",
    0.0,
    "A client counts for at least this part of what it would in the mean.",
    lower_bound=0.0,
    upper_bound=1.0,
)
flags.DEFINE_float(
    "clipping_radius", None, "Of centered_clipping: the L2 norm by which a client may differ from the last aggregate."
)
flags.DEFINE_integer("median_iterations", 32, "Of geometric_median.", lower_bound=1)

_OWNERS = {
    "assumed_attackers": ("trimmed_mean", "krum", "multi_krum", "bulyan"),
    "attention_key": ("attention",),
    "attention_temperature": ("attention",),
    "attention_step_size": ("attention",),
    "attention_floor": ("attention",),
    "clipping_radius": ("centered_clipping",),
    "median_iterations": ("geometric_median",),
}
_SHARE_LIMITS = {"trimmed_mean": 0.5, "krum": 0.5, "multi_krum": 0.5, "bulyan": 0.25}
_LEAST_CLIENTS = {"krum": lambda f: 2 * f + 3, "multi_krum": lambda f: 2 * f + 3, "bulyan": lambda f: 4 * f + 3}
_HELD_CLIENTS = 1023


def check() -> None:
    """Refuses values and combinations of flags that mean nothing.

    Raises:
      UserError: With the first of them.
    """
    name = FLAGS.aggregator
    for flag, owners in _OWNERS.items():
        if name not in owners and not FLAGS[flag].using_default_value:
            raise UserError(
                f"--{flag}={FLAGS[flag].value} belongs to --aggregator={' or '.join(owners)}, and --aggregator is "
                f"{name}: drop it or change the aggregator."
            )
    for flag in ("clipping", "zeroing"):
        _norm(flag)
    if name in _SHARE_LIMITS:
        _check_assumed_attackers(name)
    if name == "centered_clipping" and not (FLAGS.clipping_radius or 0) > 0:
        raise UserError(
            f"--aggregator=centered_clipping needs --clipping_radius above 0, and it is {FLAGS.clipping_radius}: set "
            "it, about as large as the norm of an honest update."
        )
    if name == "attention":
        _check_attention()


def _check_assumed_attackers(name):
    share, limit = FLAGS.assumed_attackers, _SHARE_LIMITS[name]
    if share >= limit:
        raise UserError(f"--assumed_attackers={share}: {name} withstands less than {limit} of the clients; lower it.")
    least = _LEAST_CLIENTS.get(name, lambda f: 2 * f + 1)
    attackers = int(share * FLAGS.clients_per_round + 1e-9)
    if FLAGS.clients_per_round < least(attackers):
        raise UserError(
            f"--aggregator={name} withstands {attackers} attackers (--assumed_attackers={share}) among "
            f"{least(attackers)} clients or more, and --clients_per_round is {FLAGS.clients_per_round}: raise that or "
            "lower --assumed_attackers."
        )


def _check_attention():
    for flag in ("attention_temperature", "attention_step_size"):
        if not FLAGS[flag].value > 0 or (flag == "attention_step_size" and math.isinf(FLAGS[flag].value)):
            raise UserError(f"--{flag}={FLAGS[flag].value} has to be above 0: raise it, or leave it out.")
    if FLAGS.attention_key == "loss":
        if FLAGS.algorithm not in ("fed_avg", "fed_prox"):
            raise UserError(
                f"--attention_key=loss needs clients that send their loss, and those of --algorithm={FLAGS.algorithm} "
                "cannot: use fed_avg or fed_prox, or drop it."
            )
        if FLAGS.local_epochs > 1:
            raise UserError(
                f"--attention_key=loss goes by the loss on examples not trained on yet, and --local_epochs="
                f"{FLAGS.local_epochs} trains on each again: set it to 1, or give --local_steps."
            )


def _norm(flag):
    """A norm, "adaptive" or None."""
    value = FLAGS[flag].value
    if value is None or value == "adaptive":
        return value
    try:
        norm = float(value)
    except ValueError:
        norm = math.nan
    if not 0 < norm < math.inf:
        raise UserError(f"--{flag}={value} is neither adaptive nor a norm above 0.")
    return norm


def check_memory(num_parameters: int) -> None:
    """Refuses a run that would hold more updates at once than fit the memory.

    Args:
      num_parameters: Trainable ones.

    Raises:
      UserError: If it would.
    """
    if FLAGS.aggregator not in aggregators.NEEDS_ALL_UPDATES:
        return
    # The rows, and as much again while the largest block is put together.
    needed = 2 * 4 * num_parameters * FLAGS.clients_per_round
    free = psutil.virtual_memory().available
    if needed > free:
        raise UserError(
            f"--aggregator={FLAGS.aggregator} holds the updates of all clients of a round at once: "
            f"{needed / 1e9:.1f} GB for --clients_per_round={FLAGS.clients_per_round}, and {free / 1e9:.1f} GB are "
            "free: lower it, train fewer weights, or use centered_clipping, which adds updates up."
        )


def options(seed: int) -> dict:
    """The fields of `algorithms.Options` that these flags decide.

    Args:
      seed: Decides what compressors draw.
    """
    wrappers = [
        make(None if _norm(flag) == "adaptive" else _norm(flag))
        for flag, make in (("zeroing", aggregators.zeroing), ("clipping", aggregators.clipping))
        if _norm(flag) is not None
    ]
    innermost = compression_flags.aggregator(
        FLAGS.weighted, seed, None if FLAGS.aggregator == "mean" else _aggregator()
    )
    if innermost is None and not wrappers:
        return {}  # the algorithm's own
    by_loss = FLAGS.aggregator == "attention" and FLAGS.attention_key == "loss"
    return {"aggregator": aggregators.stack(*wrappers, innermost or aggregators.mean_factory()), "sends_loss": by_loss}


def _aggregator():
    name = FLAGS.aggregator
    parameters = {}
    if name in _SHARE_LIMITS:
        parameters["attacker_share"] = FLAGS.assumed_attackers
    if name in aggregators.NEEDS_ALL_UPDATES:
        parameters["max_clients"] = max(_HELD_CLIENTS, 2 * FLAGS.clients_per_round)
    if name == "attention":
        parameters.update(
            key=FLAGS.attention_key,
            temperature=FLAGS.attention_temperature,
            step_size=FLAGS.attention_step_size,
            floor=FLAGS.attention_floor,
        )
    if name == "centered_clipping":
        parameters["radius"] = FLAGS.clipping_radius
    if name == "geometric_median":
        parameters["iterations"] = FLAGS.median_iterations
    return aggregators.AGGREGATORS[name](**parameters)
