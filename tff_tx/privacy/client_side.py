"""Privacy inside of the client: what local noise and DP-SGD guarantee over a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from tff_tx.config import RunConfig
from tff_tx.privacy.accounting import Ledger, default_delta
from tff_tx.privacy.local_mechanisms import ExampleLevelSgd, LocalGaussian
from tff_tx.privacy.statement import statement

_OUTSIDE = ("the columns train/ of metrics.csv, sums over the data of a round's clients",)
_SEEDED = (
    "The noise of this run was drawn from run.seed: whoever knows it can remove the noise. That is right for a "
    "simulation; a deployment must give clients seeds that nobody else knows."
)


@dataclasses.dataclass(frozen=True)
class ClientSideLedgers:
    """Guarantees of a run with privacy inside of the client; a client may be in every round.

    Attributes:
      clients: Epsilon by round of a client's updates, or None.
      examples: Epsilon by round of a single example of the smallest client, or None.
    """

    clients: Ledger | None
    examples: Ledger | None

    def _ledgers(self):
        both = {"clients": self.clients, "examples": self.examples}
        return [(name, ledger) for name, ledger in both.items() if ledger is not None]

    def figures(self, round_num: int) -> dict[str, float]:
        """Columns of a round's row in metrics.csv."""
        columns = {"clients": "privacy/epsilon", "examples": "privacy/example_epsilon"}
        return {columns[name]: ledger.epsilon(round_num) for name, ledger in self._ledgers()}

    def config(self) -> dict[str, dict[str, float]]:
        """Derived values, for `config.json`; empty if nothing is private."""
        return {
            name: {"noise_multiplier": ledger.mechanism.noise_multiplier, "delta": ledger.delta}
            for name, ledger in self._ledgers()
        }

    def statements(self, rounds: int) -> dict[str, str]:
        """Sections of the report by title, Markdown."""
        return {
            f"Privacy of {name}": statement(ledger, rounds, released_outside=_OUTSIDE, notes=[_SEEDED]).partition(
                "\n\n"
            )[2]
            for name, ledger in self._ledgers()
        }


def build_client_side_ledgers(config: RunConfig, sizes: Collection[int]) -> ClientSideLedgers:
    """The ledgers of local_privacy and example_privacy.

    Args:
      config: The run.
      sizes: Examples of each training client.
    """
    clients = examples = None
    local, example = config.local_privacy, config.example_privacy
    if local.clip_norm is not None:
        mechanism = LocalGaussian(local.noise_multiplier, config.cohort.clients_per_round)
        clients = Ledger(mechanism, default_delta(len(sizes)))
    if example.clip_norm is not None:
        batch_size, smallest = config.client.batch_size, min(sizes)
        # Each example is used once a pass, whatever the batches.
        mechanism = ExampleLevelSgd(
            example.noise_multiplier,
            num_examples=smallest,
            batch_size=smallest,
            steps=config.client.num_epochs,
            microbatch_size=batch_size // (example.microbatches or batch_size),
        )
        examples = Ledger(mechanism, default_delta(smallest))
    return ClientSideLedgers(clients, examples)
