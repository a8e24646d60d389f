"""The privacy calculator: how private a run would be, and what that costs, without training."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from tff_tx.config import RunConfig
from tff_tx.config.conditions import BelongsTo
from tff_tx.config.laws import NOISE_OR_EPSILON
from tff_tx.config.run_config import describe
from tff_tx.config.tools import PrivacyReportConfig
from tff_tx.core import plots
from tff_tx.core.errors import UserError, setting
from tff_tx.privacy.accounting import Ledger, delta_for, epsilon, rho
from tff_tx.privacy.local_mechanisms import ExampleLevelSgd, LocalGaussian
from tff_tx.privacy.mechanism import Mechanism, Participation
from tff_tx.privacy.mechanisms import amplification, server_mechanism, with_noise
from tff_tx.privacy.price import price

_OWNERS = {
    "privacy.restart_rounds": "tree",
    "privacy.bands": "banded",
    **{f"calculator.{name}": "example" for name in ("num_examples", "batch_size", "local_steps", "microbatch_size")},
}
_SAMPLED = ("gaussian", "adaptive")


@dataclasses.dataclass(frozen=True)
class CalculatorReport:
    """Epsilon of a mechanism, over rounds and over noise.

    Attributes:
      ledger: Of the mechanism, with its noise.
      rounds: Rounds of the run.
      lines: Summary.
      by_rounds: Epsilon by number of rounds.
      by_noise: Epsilon by noise multiplier, around that of the mechanism; empty without noise.
    """

    ledger: Ledger
    rounds: int
    lines: tuple[str, ...]
    by_rounds: tuple[tuple[int, float], ...]
    by_noise: tuple[tuple[float, float], ...]

    def text(self) -> str:
        """Summary and tables."""
        tables = (_table("rounds", self.by_rounds), _table("noise multiplier", self.by_noise))
        return "\n\n".join(("\n".join(self.lines), *tables))

    def draw(self, path: str) -> None:
        """Draws epsilon against rounds and against noise.

        Args:
          path: Picture to write; its ending is its format.
        """
        panels = [
            (f"rounds, with noise multiplier {self.ledger.mechanism.noise_multiplier:.4g}", self.by_rounds),
            (f"noise multiplier, after {self.rounds:,} rounds", self.by_noise),
        ]
        figure, axes = plots.pyplot().subplots(1, len(panels), figsize=(10, 4))
        for axis, (name, rows) in zip(axes, panels):
            finite = [row for row in rows if np.isfinite(row[1])]
            axis.plot([x for x, _ in finite], [e for _, e in finite], marker=".")
            axis.set(xlabel=name, ylabel="epsilon")
            axis.grid(True, alpha=0.3)
            axis.set_ylim(bottom=0)
        figure.suptitle(f"{self.ledger.mechanism.name}, delta {self.ledger.delta:.3g}", fontsize="medium")
        figure.tight_layout()
        plots.save(figure, path)


def report(config: RunConfig, settings: PrivacyReportConfig) -> CalculatorReport:
    """Accounts for a mechanism, with its noise found for a target epsilon if need be.

    Args:
      config: The run: rounds, sampling, and privacy but for the mechanism.
      settings: Mechanism, and what a run takes from its data.

    Raises:
      UserError: If settings are missing, have no effect or do not fit each other.
    """
    _check(config, settings)
    mechanism = _mechanism(config, settings)
    delta = _delta(config, settings)
    ledger = Ledger(with_noise(config, mechanism, delta), delta, config.privacy.accountant)
    rounds = config.run.rounds
    numbers = sorted({int(r) for r in np.geomspace(1, rounds, 10).round()})
    return CalculatorReport(
        ledger,
        rounds,
        (*_summary(ledger, rounds), *_price(ledger, config, settings), *_stop(ledger, config)),
        tuple((r, ledger.epsilon(r)) for r in numbers),
        _by_noise(ledger, rounds),
    )


def _check(config, settings):
    # The law is about a run with a mechanism, which is named elsewhere here.
    problem = NOISE_OR_EPSILON.problem(config.replace({"privacy.mechanism": "gaussian"}))
    problem = problem or BelongsTo("cohort.min_separation", "cohort.sampling=min_separation").problem(config)
    if problem:
        raise UserError(problem)
    plots.check_path(settings.plot, "calculator.plot")
    name = setting("calculator.mechanism")
    defaults = {field.path: field.default for field in settings.fields()}
    for path, owner in _OWNERS.items():
        value, default = _value(config, settings, path), defaults.get(path)
        if value != default and settings.mechanism != owner:
            raise UserError(
                f"{setting(path)}={value} has no effect with {name}={settings.mechanism}: remove it, or set "
                f"{name}={owner}."
            )
    population = config.privacy.population
    if population is not None and config.cohort.clients_per_round > population:
        raise UserError(
            f"{describe(config, 'cohort.clients_per_round')} is more than {describe(config, 'privacy.population')}: "
            "lower it."
        )


def _value(config, settings, path) -> Any:
    section, _, name = path.partition(".")
    return getattr(settings, name) if section == settings.section else config.get(path)


def _delta(config, settings):
    if settings.mechanism == "example":
        examples = settings.num_examples * (config.privacy.population or 1)
        return delta_for(examples, config.privacy.target_delta, "example")
    if config.privacy.population is not None:
        return delta_for(config.privacy.population, config.privacy.target_delta)
    if config.privacy.target_delta is None:
        raise _depends_on_population("privacy.target_delta")
    return config.privacy.target_delta


def _depends_on_population(path):
    population = setting("privacy.population")
    return UserError(f"{setting(path)} is not set, and its default depends on {population}: set either.")


def _participation(config, settings):
    cohort, population = config.cohort, config.privacy.population
    if cohort.sampling == "min_separation" and cohort.min_separation is None and population is None:
        raise _depends_on_population("cohort.min_separation")
    needed = (cohort.min_separation or 1) * cohort.clients_per_round
    if population is not None and needed > population:
        raise UserError(
            f"{describe(config, 'cohort.min_separation')} times {describe(config, 'cohort.clients_per_round')} is more "
            f"than {describe(config, 'privacy.population')}: lower one of them."
        )
    return Participation.of(cohort, population or 0, settings.max_participations)


def _mechanism(config, settings) -> Mechanism:
    """The mechanism, without its noise."""
    name, cohort = settings.mechanism, config.cohort.clients_per_round
    _check_sampling(config, settings)
    participation = _participation(config, settings)
    if name == "local":
        return LocalGaussian(1.0, cohort, participation)
    if name != "example":
        return server_mechanism(config, name, cohort, config.privacy.population, participation)
    if settings.num_examples is None:
        raise UserError(
            f"{setting('calculator.mechanism')}=example needs {setting('calculator.num_examples')}: set it to the "
            "number of examples of the smallest client."
        )
    numbers = settings.num_examples, settings.batch_size, settings.local_steps
    return ExampleLevelSgd(1.0, *numbers, microbatch_size=settings.microbatch_size, participation=participation)


def _check_sampling(config, settings):
    """Only independent noise is amplified, and then a client may be in any round."""
    claimed, name = config.privacy.amplification, setting("privacy.amplification")
    if settings.mechanism not in _SAMPLED:
        if claimed not in (None, "none"):
            raise UserError(
                f"{name}={claimed} has no effect with {setting('calculator.mechanism')}={settings.mechanism}: remove "
                "it, or set that to gaussian."
            )
        return
    sampling = amplification(config.cohort.sampling, claimed)
    if sampling != "none" and settings.max_participations is not None:
        raise UserError(
            f"{setting('calculator.max_participations')}={settings.max_participations} has no effect with "
            f"{name}={sampling}, where any client may be in any round: remove it, or set {name}=none."
        )


def _summary(ledger, rounds):
    mechanism = ledger.mechanism
    concentrated = rho(mechanism, rounds)
    return [
        f"Epsilon {_number(ledger.epsilon(rounds))} at delta {ledger.delta:.3g} after {rounds:,} rounds with noise "
        f"multiplier {mechanism.noise_multiplier:.5g}.",
        *([] if concentrated is None else [f"zCDP: rho {_number(concentrated)}."]),
        f"Mechanism: {mechanism.name}.",
        f"Adjacency: {mechanism.adjacency}.",
        f"Sampling: {mechanism.sampling_assumption}.",
        f"Accountant: {ledger.accountant_name}.",
    ]


def _price(ledger, config, settings):
    if settings.parameters is None:
        return []
    of_examples = settings.mechanism == "example"
    cohort, unit = (settings.batch_size, "batch") if of_examples else (config.cohort.clients_per_round, "cohort")
    cost = price(ledger, config.run.rounds, cohort, settings.parameters)
    needed = "no cohort of this population has"
    if cost.cohort_needed is not None:
        needed = f"a {unit} of {cost.cohort_needed:,} has"
    return [
        f"Signal to noise: {cost.signal_to_noise:.3g} over the run at best, {cost.first_round:.3g} in the first "
        f"round, with {settings.parameters:,} weights and a {unit} of {cohort:,}; {needed} 1."
    ]


def _stop(ledger, config):
    if config.privacy.stop_at_epsilon is None:
        return []
    in_all = config.run.rounds
    rounds = ledger.rounds_until(config.privacy.stop_at_epsilon, in_all)
    return [f"Stops after {rounds:,} of {in_all:,} rounds, at epsilon {_number(ledger.epsilon(rounds))}."]


def _by_noise(ledger, rounds):
    mechanism, noise = ledger.mechanism, ledger.mechanism.noise_multiplier
    if noise == 0:
        return ()
    factors = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 3.0)
    multipliers = [noise * factor for factor in factors if math.isfinite(noise * factor)]
    return tuple((z, epsilon(mechanism.with_noise(z), rounds, ledger.delta, ledger.accountant)) for z in multipliers)


def _table(name, rows):
    cells = [(name, "epsilon"), *((f"{x:,}" if isinstance(x, int) else f"{x:.4g}", _number(e)) for x, e in rows)]
    widths = [max(len(row[column]) for row in cells) for column in (0, 1)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in cells)


def _number(value):
    return f"{value:.4g}" if value < 1000 else f"{value:,.0f}"
