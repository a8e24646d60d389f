"""The flags of privacy inside of the client: of its update, and of its examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from absl import flags

from tff_tx import privacy
from tff_tx.algorithms import ClientTransform, dp_sgd, local_dp
from tff_tx.core.errors import UserError
from tff_tx.tasks import LocalTraining

FLAGS = flags.FLAGS

flags.DEFINE_float(
    "local_dp_clip", None, "Local DP: clients' updates are clipped to this L2 norm and noised before they leave."
)
flags.DEFINE_float("local_dp_noise_multiplier", None, "Standard deviation of that noise, in units of --local_dp_clip.")
flags.DEFINE_float(
    "example_clip", None, "DP-SGD in the client: the gradient of each example is clipped to this L2 norm."
)
flags.DEFINE_float(
    "example_noise_multiplier",
    None,
    "Standard deviation of the noise added to the sum of a batch's clipped gradients, in units of --example_clip.",
)
flags.DEFINE_integer(
    "microbatches",
    None,
    "Groups of examples in a whole batch whose mean gradients are clipped; default: an example each.",
    lower_bound=1,
)

_ALGORITHMS = ("fed_avg", "fed_prox", "fed_gkd")


def check(local: LocalTraining) -> None:
    """Refuses combinations of flags that mean nothing or would not be private.

    Args:
        local: How much a client computes a round.

    Raises:
        UserError: With the first of them.
    """
    check_pairs()
    for clip in ("local_dp_clip", "example_clip"):
        if FLAGS[clip].value is not None and FLAGS.algorithm not in _ALGORITHMS:
            raise UserError(
                f"--{clip}={FLAGS[clip].value} is not for --algorithm={FLAGS.algorithm}: choose "
                f"{' or '.join(_ALGORITHMS)}."
            )
    if FLAGS.local_dp_clip is not None and FLAGS.weighted:
        raise UserError(
            f"--local_dp_clip={FLAGS.local_dp_clip} does not hide how many examples a client has: add --noweighted."
        )
    if FLAGS.example_clip is not None and local.steps is not None:
        raise UserError(
            f"--example_clip={FLAGS.example_clip} bounds an example once a batch, and with --local_steps={local.steps} "
            "it may be in a batch twice: set --local_epochs, and --max_examples to make rounds short."
        )
    example_privacy()
    local_privacy()


def check_pairs() -> None:
    """Refuses noise without a clip, and the other way round.

    Raises:
        UserError: With the first of them.
    """
    for clip, noise in (("local_dp_clip", "local_dp_noise_multiplier"), ("example_clip", "example_noise_multiplier")):
        if FLAGS[clip].value is None and FLAGS[noise].value is not None:
            raise UserError(f"--{noise}={FLAGS[noise].value} is in units of --{clip}, which is not set: set it.")
        if FLAGS[clip].value is not None and FLAGS[noise].value is None:
            raise UserError(f"--{clip}={FLAGS[clip].value} needs --{noise}: set it; 0 clips without noise.")
    if FLAGS.microbatches is not None and FLAGS.example_clip is None:
        raise UserError(
            f"--microbatches={FLAGS.microbatches} parts batches for --example_clip, which is not set: set it."
        )


def example_privacy() -> ClientTransform | None:
    """DP-SGD, if it is asked for.

    Raises:
        UserError: If a number has no meaning.
    """
    if FLAGS.example_clip is None:
        return None
    return dp_sgd(FLAGS.example_clip, FLAGS.example_noise_multiplier, FLAGS.batch_size, FLAGS.microbatches)


def local_privacy() -> ClientTransform | None:
    """Local DP of updates, if it is asked for.

    Raises:
        UserError: If a number has no meaning.
    """
    if FLAGS.local_dp_clip is None:
        return None
    return local_dp(FLAGS.local_dp_clip, FLAGS.local_dp_noise_multiplier)


_OUTSIDE = ("the columns train/ of metrics.csv, sums over the data of a round's clients",)
_SEEDED = (
    "The noise of this run was drawn from --seed: whoever knows it can take the noise away. That is right for a "
    "simulation; a deployment has to give clients seeds that nobody else knows."
)


@dataclasses.dataclass(frozen=True)
class Accounts:
    """What a run with privacy inside of the client guarantees; a client may be in every round.

    Attributes:
        clients: Epsilon by round of a client's updates, or None.
        examples: Epsilon by round of a single example of the smallest client, or None.
    """

    clients: privacy.Ledger | None
    examples: privacy.Ledger | None

    def figures(self, round_num: int) -> dict[str, float]:
        """What a round's row has besides, by column."""
        columns = {"privacy/epsilon": self.clients, "privacy/example_epsilon": self.examples}
        return {name: ledger.epsilon(round_num) for name, ledger in columns.items() if ledger is not None}

    def config(self) -> dict:
        """For `config.json`; empty if nothing is private."""
        return {
            name: {"noise_multiplier": ledger.mechanism.noise_multiplier, "delta": ledger.delta}
            for name, ledger in (("clients", self.clients), ("examples", self.examples))
            if ledger is not None
        }

    def statements(self, rounds: int) -> dict[str, str]:
        """Sections of the report by title, Markdown."""
        titles = {"Privacy of clients": self.clients, "Privacy of examples": self.examples}
        return {
            title: privacy.statement(ledger, rounds, released_outside=_OUTSIDE, notes=[_SEEDED]).partition("\n\n")[2]
            for title, ledger in titles.items()
            if ledger is not None
        }


def accounts(sizes: Collection[int], local: LocalTraining) -> Accounts:
    """What the flags guarantee.

    Args:
        sizes: Examples of each training client.
        local: How much a client computes a round.
    """
    clients = examples = None
    example, update = example_privacy(), local_privacy()
    if update is not None:
        mechanism = privacy.LocalGaussian(update.noise_multiplier, FLAGS.clients_per_round)
        clients = privacy.Ledger(mechanism, privacy.default_delta(len(sizes)))
    if example is not None:
        # Each example is used once a pass, whatever the batches.
        mechanism = privacy.ExampleLevelSgd(
            example.noise_multiplier,
            num_examples=min(sizes),
            batch_size=min(sizes),
            steps=local.epochs,
            microbatch_size=example.batch_size // (example.num_microbatches or example.batch_size),
        )
        examples = privacy.Ledger(mechanism, privacy.default_delta(min(sizes)))
    return Accounts(clients, examples)
