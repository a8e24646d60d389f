"""Privacy statements of runs, in the form that "How to DP-fy ML" asks for, and ledgers of privacy inside of clients.

Ponomareva et al. 2023, https://arxiv.org/abs/2303.00654, Section 5.3: the setting, what the definition is instantiated
with, how it was accounted for, and what lies outside of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

from tff_tx.config import RunConfig
from tff_tx.config.registries import TASKS
from tff_tx.config.training_data import taken_as_public
from tff_tx.privacy.accounting import Ledger, delta_for, rho
from tff_tx.privacy.local_mechanisms import ExampleLevelSgd, LocalGaussian
from tff_tx.privacy.outputs import COLUMNS, outside

_ALL_CHOSEN = "all that were chosen after looking at runs on these data"
_SEEDED = (
    "The noise of this run was drawn from run.seed: whoever knows it can remove the noise. That is right for a "
    "simulation; a deployment must give clients seeds that nobody else knows."
)


_PERSONAL = (
    "Personal weights are trained by the same noised steps: whoever gets a client's own model learns no more of a "
    "single example than what the client sends tells. Of the client as a whole the guarantee says nothing."
)
_TUNED = (
    "Clients' own models are trained further from the shared weights, without noise, where they are needed: they are "
    "outside of the guarantee, and the clients' own."
)


def statement(
    ledger: Ledger,
    rounds: int,
    *,
    hyperparameters: Sequence[str] = (),
    released_outside: Sequence[str] = (),
    public: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> str:
    """A Markdown section.

    Args:
      ledger: Of the run.
      rounds: Rounds that were run.
      hyperparameters: Settings chosen on the data without being accounted for, as sentences or names.
      released_outside: Outputs without noise, such as metrics.
      public: What is assumed to be known of the training data.
      notes: Further paragraphs, such as that the noise was seeded.

    Returns:
      The section, from its heading on, without a last line end.
    """
    mechanism = ledger.mechanism
    epsilon = ledger.epsilon(rounds)
    guarantee = f"epsilon = {_number(epsilon)} at delta = {ledger.delta:.3g}, after {rounds:,} rounds"
    concentrated = rho(mechanism, rounds) if rounds else None
    if concentrated is not None and mechanism.noise_multiplier > 0:
        guarantee += f"; rho = {concentrated:.4g} zero-concentrated differential privacy (zCDP)"
    rows = [
        ("Guarantee", guarantee if mechanism.noise_multiplier > 0 else "none: there was no noise"),
        ("Setting", mechanism.setting),
        ("Data accesses covered", "the training of this run; others on the same data add to it"),
        ("Output covered", mechanism.output),
        ("Unit of privacy", mechanism.protected),
        ("Adjacency", mechanism.adjacency),
        ("Mechanism", f"{mechanism.name}, noise multiplier {mechanism.noise_multiplier:.6g}"),
        ("Sampling assumption", mechanism.sampling_assumption),
        ("Accountant", ledger.accountant_name),
        ("Hyper-parameters outside the guarantee", "; ".join(hyperparameters) or _ALL_CHOSEN),
        ("Taken as public", "; ".join(public) or "nothing"),
        ("Released outside the guarantee", "; ".join(released_outside) or "nothing"),
    ]
    lines = ["## Privacy", "", "| | |", "|---|---|", *(f"| {name} | {_escaped(text)} |" for name, text in rows)]
    form = "The form is that of Ponomareva et al., [How to DP-fy ML](https://arxiv.org/abs/2303.00654), Section 5.3."
    return "\n\n".join(["\n".join(lines), *notes, form])


def _number(epsilon):
    return f"{epsilon:.4g}" if epsilon < 100 else f"{epsilon:,.0f}"


def _escaped(text):
    return text.replace("|", "\\|")


@dataclasses.dataclass(frozen=True)
class ClientSideLedgers:
    """Guarantees of a run with privacy inside of the client; a client may be in every round.

    Attributes:
      clients: Epsilon by round of a client's updates, or None.
      examples: Epsilon by round of a single example of the smallest client, or None.
      settings: The run's.
    """

    clients: Ledger | None
    examples: Ledger | None
    settings: RunConfig

    def _ledgers(self):
        both = {"clients": self.clients, "examples": self.examples}
        return [(name, ledger) for name, ledger in both.items() if ledger is not None]

    def _notes(self, name):
        if name != "examples" or self.settings.model.personal is None:
            return []
        return [_TUNED if self.settings.algorithm.name == "fed_babu" else _PERSONAL]

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
        released, public = outside(self.settings, COLUMNS), taken_as_public(self.settings)
        return {
            f"Privacy of {name}": statement(
                ledger, rounds, released_outside=released, public=public, notes=[_SEEDED, *self._notes(name)]
            ).partition("\n\n")[2]
            for name, ledger in self._ledgers()
        }


def build_client_side_ledgers(config: RunConfig, sizes: Collection[int]) -> ClientSideLedgers:
    """The ledgers of local_privacy and example_privacy, for training clients of some numbers of examples."""
    clients = examples = None
    local, example = config.local_privacy, config.example_privacy
    if local.clip_norm is not None:
        mechanism = LocalGaussian(local.noise_multiplier, config.cohort.clients_per_round)
        clients = Ledger(mechanism, delta_for(len(sizes), config.privacy.target_delta))
    if example.clip_norm is not None:
        batch_size, smallest = config.client.batch_size, min(sizes)
        # Each example is used once a pass, whatever the batches.
        mechanism = ExampleLevelSgd(
            example.noise_multiplier,
            num_examples=smallest,
            batch_size=smallest,
            steps=config.client.num_epochs,
            microbatch_size=batch_size // (example.microbatches or batch_size),
            example=TASKS[config.task.kind].example if config.task.kind else "",
        )
        examples = Ledger(mechanism, delta_for(sum(sizes), config.privacy.target_delta, "example"))
    return ClientSideLedgers(clients, examples, config)
