"""The flags of how private a run is, and of how that is accounted for."""

from __future__ import annotations

from absl import flags

from tff_tx import privacy
from tff_tx.core.errors import UserError

FLAGS = flags.FLAGS

MOST_BANDS = 32
"""The default of --bands goes no higher: there are as many copies of the model in memory, and more gain little."""

flags.DEFINE_float(
    "noise_multiplier", None, "Standard deviation of the noise of a sum of updates, in units of the clip norm."
)
flags.DEFINE_float(
    "target_epsilon", None, "Finds the least noise that keeps all --rounds within this epsilon; inf: none."
)
flags.DEFINE_float("target_delta", None, "Delta of the guarantee; default: population^-1.1.")
flags.DEFINE_float("stop_at_epsilon", None, "Ends a run before the round that would exceed this epsilon.")
flags.DEFINE_integer(
    "population",
    None,
    "Number of clients that the guarantee is for; default of a run: its training clients.",
    lower_bound=1,
)
flags.DEFINE_enum(
    "accountant",
    None,
    privacy.ACCOUNTANTS,
    "What adds up privacy losses: their distributions or Renyi divergences; default: the tighter that knows the "
    "mechanism.",
)
flags.DEFINE_enum(
    "amplification",
    None,
    privacy.SAMPLING,
    "The sampling that the accounting assumes, which must be that of --sampling or none; default: that of --sampling.",
)
flags.DEFINE_integer(
    "bands",
    None,
    f"Bands of a banded factorization; default: rounds between a client's turns, at most {MOST_BANDS}.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "restart_rounds",
    None,
    "Rounds after which tree aggregation begins a new tree; default: one tree for all.",
    lower_bound=1,
)

_NAMES = (
    *("noise_multiplier", "target_epsilon", "target_delta", "stop_at_epsilon", "population", "accountant"),
    *("amplification", "bands", "restart_rounds"),
)


def check(private: bool = True) -> None:
    """Refuses values and combinations that mean nothing.

    Args:
      private: Whether there is a mechanism that the flags can be about.

    Raises:
      UserError: With the first of them.
    """
    if not private:
        for name in _NAMES:
            if FLAGS[name].value is not None:
                raise UserError(
                    f"--{name}={FLAGS[name].value} means nothing without --dp_mechanism: give that too, or drop it."
                )
        return
    if (FLAGS.noise_multiplier is None) == (FLAGS.target_epsilon is None):
        raise UserError(
            f"--noise_multiplier={FLAGS.noise_multiplier} and --target_epsilon={FLAGS.target_epsilon}: set exactly "
            "one, the noise or the epsilon that it is found for."
        )
    for name, least, most in (
        ("noise_multiplier", 0.0, float("inf")),
        ("target_epsilon", 0.0, float("inf")),
        ("target_delta", 0.0, 1.0),
        ("stop_at_epsilon", 0.0, float("inf")),
    ):
        value = FLAGS[name].value
        no_noise = (name, value) in (("noise_multiplier", 0), ("target_epsilon", float("inf")))
        if value is not None and not least < value < most and not no_noise:
            below = "" if most == float("inf") else f" and below {most:g}"
            raise UserError(f"--{name}={value} must be a number above {least:g}{below}: correct it.")


def delta(population: int) -> float:
    """Delta of the guarantee.

    Args:
      population: Number of clients.

    Raises:
      UserError: If it would allow to publish one of them.
    """
    return privacy.delta_for(population, FLAGS.target_delta)


def bands(participation: privacy.Participation) -> int:
    """Bands of a banded factorization.

    Args:
      participation: Rounds that a client may take part in.

    Raises:
      UserError: If clients come back before a band is over.
    """
    separation = participation.min_separation
    if FLAGS.bands is not None and FLAGS.bands > separation:
        raise UserError(
            f"--bands={FLAGS.bands} is more than the {separation} rounds from a client's turn to its next: lower it, "
            "or raise --min_separation."
        )
    return FLAGS.bands or min(separation, MOST_BANDS)
