"""The plan of a run with client-level differential privacy: its noise, its price and its statement."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tff_tx.config import FIELDS, RunConfig, show
from tff_tx.config.run_config import describe
from tff_tx.config.training_data import taken_as_public
from tff_tx.core.errors import UserError, setting, shown
from tff_tx.privacy import distributed
from tff_tx.privacy.accounting import Ledger, delta_for
from tff_tx.privacy.matrix_factorization import workload
from tff_tx.privacy.mechanism import Participation
from tff_tx.privacy.mechanisms import AdaptiveClipping, check_rounds, server_mechanism, with_noise
from tff_tx.privacy.outputs import outside
from tff_tx.privacy.price import price
from tff_tx.privacy.statement import statement

_LARGE_DELTA = 0.01


@dataclasses.dataclass(frozen=True)
class Plan:
    """A private run: what is accounted for, and the noise with which it is simulated.

    A run of few clients may simulate a larger federation: the accounting is that of the federation, and the run's means
    have as much noise as those of the federation.

    Attributes:
      settings: The run's.
      ledger: Epsilon by round, of the federation that is accounted for.
      rounds: Rounds that are run: those of the settings, or fewer by privacy.stop_at_epsilon.
      clients: Training clients of the run.
      population: Clients of the federation, as many or more.
      dimension: Number of trained weights.
    """

    settings: RunConfig
    ledger: Ledger
    rounds: int
    clients: int
    population: int
    dimension: int

    @property
    def clients_per_round(self) -> int:
        """Cohort size of the run: the denominator of its means."""
        return self.settings.cohort.clients_per_round

    @property
    def scale_factor(self) -> float:
        """Noise of the run's sums in units of that of the federation's sums, which are of more clients."""
        return self.clients / self.population

    @property
    def cohort(self) -> float:
        """Cohort size of the federation."""
        return self.clients_per_round / self.scale_factor

    @property
    def noise_multiplier(self) -> float:
        """Of all releases of a round together."""
        return self.ledger.mechanism.noise_multiplier

    @property
    def update_noise_multiplier(self) -> float:
        """Of the release of updates, which leaves a share of the budget to private metrics."""
        return self.noise_multiplier * _update_noise_factor(self.settings)

    @property
    def metrics_noise_multiplier(self) -> float:
        """Of private metrics."""
        return self.noise_multiplier / math.sqrt(self.settings.privacy.metrics_share)

    def figures(self, round_num: int) -> dict[str, float]:
        """Columns of a round's row in metrics.csv."""
        return {"privacy/epsilon": self.ledger.epsilon(round_num)}

    def __str__(self) -> str:
        return self.describe()

    def describe(self) -> str:
        """Guarantee and price of privacy, in a line."""
        ledger, rounds, name = self.ledger, self.rounds, self.settings.privacy.mechanism
        if self.noise_multiplier == 0:
            return f"Not private: {name} without noise."
        cost = price(ledger, rounds, self.cohort, self.dimension)
        needed = "no cohort of this population has 1"
        if cost.cohort_needed is not None:
            needed = f"1 takes a cohort of {cost.cohort_needed:,}"
        in_all = self.settings.run.rounds
        stop = f" (of {in_all}: the next would exceed privacy.stop_at_epsilon)" if rounds < in_all else ""
        simulated = ""
        if self.scale_factor != 1:
            simulated = (
                f", for {self.population:,} clients with cohorts of {self.cohort:,.0f}, which {self.clients:,} clients "
                f"with cohorts of {self.clients_per_round:,} simulate"
            )
        return (
            f"Privacy: epsilon {ledger.epsilon(rounds):.3g} at delta {ledger.delta:.2g} after {rounds} rounds{stop} of "
            f"{name} noise, multiplier {self.noise_multiplier:.4g}{simulated}. Signal-to-noise ratio is at most "
            f"{cost.signal_to_noise:.2g} over the run, {cost.first_round:.2g} in a first round; {needed}."
            f"{' '.join(['', *self._weakness()])}"
        )

    def _weakness(self):
        if self.ledger.delta < _LARGE_DELTA:
            return []
        return [
            shown(
                f"A delta of {self.ledger.delta:.2g} protects hardly: up to this probability the guarantee may fail. "
                f"It takes more than {self.population:,} clients, or {setting('example_privacy.clip_norm')}, which "
                "protects single examples."
            )
        ]

    def config(self) -> dict[str, float]:
        """Derived values, for `config.json`."""
        own = {"population": self.population, "cohort": self.cohort}
        return {"noise_multiplier": self.noise_multiplier, "delta": self.ledger.delta, **own}

    def statement(self) -> str:
        """The privacy statement of the run, Markdown."""
        chosen = {path: self.settings.get(path) for path, field in FIELDS.items() if field.option.stated}
        if chosen["client.learning_rate"] is None:
            chosen["client.learning_rate"] = self.settings.client_learning_rate
        if self.settings.client.steps is None:
            chosen["client.epochs"] = self.settings.client.num_epochs
        return statement(
            self.ledger,
            self.rounds,
            hyperparameters=[f"{path}={show(value)}" for path, value in chosen.items() if value is not None],
            released_outside=outside(self.settings),
            public=taken_as_public(self.settings),
            notes=self._notes(),
        )

    def _notes(self):
        settings, notes = self.settings.privacy, self._weakness()
        if self.scale_factor != 1:
            notes.append(
                f"The guarantee is that of a federation of {self.population:,} clients with cohorts of "
                f"{self.cohort:,.0f}. The run simulates it with {self.clients:,} clients and cohorts of "
                f"{self.clients_per_round:,}, with as much noise in a round's mean: its accuracy is what such a "
                "federation may expect, and its own clients have no such guarantee."
            )
        if settings.metrics == "private":
            notes.append(
                f"Metrics of training are means over clients with noise, and spend {settings.metrics_share:.3g} of the "
                "budget (of the inverse square of the noise multiplier); they are within the guarantee."
            )
        if settings.is_distributed:
            notes += distributed.notes(self.settings, self.ledger.mechanism)
        elif settings.noise_seed is None:
            notes.append(
                "The noise was drawn from a seed of the operating system's randomness, which is in `checkpoints/` and "
                "nowhere else: whoever has them can remove the noise."
            )
        else:
            notes.append(
                f"The noise was drawn from the seed {settings.noise_seed}, which is in `config.json`: **there is no "
                "protection from those who know it.**"
            )
        if settings.sampling_seed is not None:
            notes.append(
                f"Cohorts were drawn from the seed {settings.sampling_seed}, which is in `config.json`: **sampling "
                "amplifies nothing for those who know it.**"
            )
        elif self.settings.cohort.sampling != "fixed":
            notes.append(
                "Cohorts were drawn from a key of the operating system's randomness, which is in `checkpoints/` and "
                "nowhere else; they are recorded in `cohorts.jsonl`, and whoever has either knows who took part."
            )
        if settings.is_distributed:
            return notes
        notes.append(
            "Noise is drawn and added in 32-bit floating point by a generator that is not a cryptographic one; attacks "
            "on the last bits of its numbers (Mironov 2012) are outside of the guarantee."
        )
        return notes


def build_plan(
    config: RunConfig, num_clients: int, dimension: int, server_rates: np.ndarray | None = None
) -> Plan | None:
    """The plan of a run, with its noise found.

    Args:
      config: The run.
      num_clients: Training clients.
      dimension: Number of trained weights.
      server_rates: The server's learning rate by round, [rounds], where it has a schedule; banded noise is optimized
        for it.

    Returns:
      The plan; None if the run is not private.

    Raises:
      UserError: If no noise is private enough, or the accounting does not cover the settings.
    """
    if not config.privacy.enabled:
        return None
    population = config.privacy.population or num_clients
    if population < num_clients:
        raise UserError(
            f"{describe(config, 'privacy.population')} is fewer than the {num_clients} training clients of the run: "
            "raise it, or remove it."
        )
    cohort, participation = config.cohort.clients_per_round, Participation.of(config.cohort, num_clients)
    size = cohort * population / num_clients
    if config.privacy.is_distributed:
        mechanism = distributed.distributed_mechanism(config, size, dimension, participation)
    else:
        target = _target(config, server_rates)
        mechanism = server_mechanism(config, config.privacy.mechanism, size, population, participation, target)
    delta = delta_for(population, config.privacy.target_delta)
    mechanism = with_noise(config, mechanism, delta)
    if isinstance(mechanism, AdaptiveClipping):
        count_stddev = _count_stddev(config, cohort / (num_clients / population), mechanism)
        mechanism = dataclasses.replace(mechanism, count_stddev=count_stddev)
    ledger = Ledger(mechanism, delta, config.privacy.accountant)
    return Plan(config, ledger, _rounds(config, ledger), num_clients, population, dimension)


def _target(config, server_rates):
    """Workload of the server optimizer, where it is linear; None: running sums."""
    if config.privacy.mechanism != "banded" or config.server.optimizer != "sgd":
        return None
    check_rounds(config, "banded")
    return workload(config.run.rounds, config.server.momentum, server_rates)


def _update_noise_factor(config):
    """Noise grows by this when a share of the budget, in units of its inverse square, goes elsewhere.

    Two Gaussian releases with noise multipliers z_1 and z_2 are one with (z_1^-2 + z_2^-2)^(-1/2), so those with
    z / sqrt(1 - share) and z / sqrt(share) are one with z (Andrew et al. 2021, Theorem 1, for the clip's count).
    """
    return 1 / math.sqrt(1 - config.privacy.budget_of_metrics)


def _count_stddev(config, cohort, mechanism):
    """Noise of the count of an adaptive clip, which must leave a share of the budget."""
    noise_multiplier = mechanism.noise_multiplier * _update_noise_factor(config)
    if noise_multiplier == 0:
        return 0.0
    # Of small cohorts a twentieth is little noise; twice the multiplier leaves 15/16 of the budget.
    stddev = config.privacy.clip_count_stddev or max(0.05 * cohort, 2 * noise_multiplier)
    if 2 * stddev <= noise_multiplier:
        raise UserError(
            f"{setting('privacy.clip_count_stddev')}={stddev:.3g} would spend more than the whole budget on the "
            f"adaptive clip: set it to {noise_multiplier:.2g} or more, or remove it."
        )
    return stddev


def _rounds(config, ledger):
    limit = config.privacy.stop_at_epsilon
    if limit is None:
        return config.run.rounds
    rounds = ledger.rounds_until(limit, config.run.rounds)
    if rounds == 0:
        raise UserError(
            f"{describe(config, 'privacy.stop_at_epsilon')} is exceeded by the first round, whose epsilon is "
            f"{ledger.epsilon(1):.3g}: raise it, or {setting('privacy.noise_multiplier')}."
        )
    return rounds
