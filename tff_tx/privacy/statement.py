"""The privacy statement of a run, in the form that "How to DP-fy ML" asks for.

Ponomareva et al. 2023, https://arxiv.org/abs/2303.00654, Section 5.3: the setting, what the definition is instantiated
with, how it was accounted for, and what lies outside of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from tff_tx.privacy.accounting import Ledger, rho
from tff_tx.privacy.local_mechanisms import ExampleLevelSgd, LocalGaussian

_ALL_CHOSEN = "all that were chosen after looking at runs on these data"


def statement(
    ledger: Ledger,
    rounds: int,
    *,
    hyperparameters: Sequence[str] = (),
    released_outside: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> str:
    """A Markdown section.

    Args:
      ledger: Of the run.
      rounds: Rounds that were run.
      hyperparameters: Settings chosen on the data without being accounted for, as sentences or names.
      released_outside: Outputs without noise, such as metrics.
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
        ("Setting", _setting(mechanism)),
        ("Data accesses covered", "the training of this run; others on the same data add to it"),
        ("Output covered", _output(mechanism)),
        ("Unit of privacy", _unit(mechanism)),
        ("Adjacency", mechanism.adjacency),
        ("Mechanism", f"{mechanism.name}, noise multiplier {mechanism.noise_multiplier:.6g}"),
        ("Sampling assumption", mechanism.sampling_assumption),
        ("Accountant", ledger.accountant_name),
        ("Hyper-parameters outside the guarantee", "; ".join(hyperparameters) or _ALL_CHOSEN),
        ("Released outside the guarantee", "; ".join(released_outside) or "nothing"),
    ]
    lines = ["## Privacy", "", "| | |", "|---|---|", *(f"| {name} | {_cell(text)} |" for name, text in rows)]
    for note in notes:
        lines += ["", note]
    lines += [
        "",
        "The form is that of Ponomareva et al., [How to DP-fy ML](https://arxiv.org/abs/2303.00654), Section 5.3.",
    ]
    return "\n".join(lines)


def _setting(mechanism):
    if isinstance(mechanism, LocalGaussian):
        return "local: the server is not trusted, noise is added by every client"
    if isinstance(mechanism, ExampleLevelSgd):
        return (
            "within each client: the server and other clients are not trusted, noise is added by the client, and only "
            "single examples are hidden, not clients"
        )
    return "central: the server is trusted to clip and to add the noise, and sees the clients' updates"


def _output(mechanism):
    if isinstance(mechanism, LocalGaussian):
        return "every update that leaves a client, and so the models of all rounds"
    if isinstance(mechanism, ExampleLevelSgd):
        return "every step of a client's training, and so its updates and the models of all rounds"
    return "the models of all rounds, the last one included"


def _unit(mechanism):
    if mechanism.unit == "client":
        return "a client with all of its data"
    return f"one of the {mechanism.num_examples:,} examples of a client (the smallest client, where they differ)"


def _number(epsilon):
    return f"{epsilon:.4g}" if epsilon < 100 else f"{epsilon:,.0f}"


def _cell(text):
    return text.replace("|", "\\|")
