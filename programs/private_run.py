"""A private run: what the flags ask for, with its noise found, its price and its statement."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from absl import flags

from programs import cohort_flags, compression_flags, dp_flags, privacy_flags, training_flags
from tff_tx import algorithms, privacy
from tff_tx.aggregators import dp
from tff_tx.core.errors import UserError

FLAGS = flags.FLAGS

_METRIC_BOUNDS = {"accuracy": 1.0, "precision": 1.0, "recall": 1.0, "f1": 1.0}
_CHOSEN = (
    *("clipping_norm", "rounds", "clients_per_round", "local_epochs", "local_steps", "max_examples", "batch_size"),
    *("client_optimizer", "client_learning_rate", "server_optimizer", "server_learning_rate", "server_momentum"),
)
"""What is told of as chosen without being accounted for."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """A private run: what is accounted for, and with which noise it is simulated.

    Attributes:
      ledger: Epsilon by round, of the federation that is accounted for.
      rounds: Rounds that are run: --rounds, or fewer by --stop_at_epsilon.
      clients: Training clients of the run.
      population: Clients of the federation that the run stands for, as many or more.
      clients_per_round: Of the run: the denominator of its means.
      dimension: Number of trained weights.
    """

    ledger: privacy.Ledger
    rounds: int
    clients: int
    population: int
    clients_per_round: int
    dimension: int

    @property
    def scale(self) -> float:
        """The noise of the run's sums in units of that of the federation's, whose sums are of so many more clients."""
        return self.clients / self.population

    @property
    def cohort(self) -> float:
        """Clients of a round of the federation."""
        return self.clients_per_round / self.scale

    @property
    def noise_multiplier(self) -> float:
        """Of all that is released in a round together."""
        return self.ledger.mechanism.noise_multiplier

    def options(self, options: algorithms.Options, seed: int) -> algorithms.Options:
        """The parts of the algorithm, made private.

        Args:
          options: The parts.
          seed: Decides what compressors draw; noise has one of its own.
        """
        return dataclasses.replace(
            options, weighted=False, aggregator=self._aggregator(seed), metrics_aggregator=self._metrics_aggregator()
        )

    def figures(self, round_num: int) -> dict[str, float]:
        """What a round's row has besides, by column."""
        return {"privacy/epsilon": self.ledger.epsilon(round_num)}

    def told(self) -> str:
        """The price of privacy, in a line."""
        ledger, rounds = self.ledger, self.rounds
        if self.noise_multiplier == 0:
            return f"Not private: {FLAGS.dp_mechanism} without noise."
        price = privacy.price(ledger, rounds, self.cohort, self.dimension)
        needed = "no cohort of this population has 1"
        if price.cohort_needed is not None:
            needed = f"1 takes a cohort of {price.cohort_needed:,}"
        stop = f" (of {FLAGS.rounds}: the next would exceed --stop_at_epsilon)" if rounds < FLAGS.rounds else ""
        return (
            f"Privacy: epsilon {ledger.epsilon(rounds):.3g} at delta {ledger.delta:.2g} after {rounds} rounds{stop} of "
            f"{FLAGS.dp_mechanism} noise, multiplier {self.noise_multiplier:.4g}{self._stands_for()}. Signal to noise "
            f"is at best {price.signal_to_noise:.2g} over the run, {price.first_round:.2g} in a first round; {needed}."
        )

    def _stands_for(self) -> str:
        if self.scale == 1:
            return ""
        return (
            f", for {self.population:,} clients with cohorts of {self.cohort:,.0f}, which {self.clients:,} clients "
            f"with cohorts of {self.clients_per_round:,} simulate"
        )

    def config(self) -> dict:
        """For `config.json`."""
        return {
            "noise_multiplier": self.noise_multiplier,
            "delta": self.ledger.delta,
            "population": self.population,
            "cohort": self.cohort,
        }

    def statement(self) -> str:
        """The privacy statement of the run, Markdown."""
        return privacy.statement(
            self.ledger,
            self.rounds,
            hyperparameters=[f"--{n}={FLAGS[n].value}" for n in _CHOSEN if FLAGS[n].value is not None],
            released_outside=self._released_outside(),
            notes=self._notes(),
        )

    def _released_outside(self):
        released = {
            "exact": ["metrics of training (`train/` in `metrics.csv` and TensorBoard)"],
            "private": [],
            "withheld": [],
        }[FLAGS.dp_metrics]
        return [
            *released,
            "how many clients were asked, reported or failed (`clients/`), and how long rounds took (`time/`)",
            "`cohorts.jsonl`, `checkpoints/` and the seed, which are the server's own: who took part, why clients "
            "failed, and the state of the noise",
        ]

    def _notes(self):
        notes = []
        if self.scale != 1:
            notes.append(
                f"The guarantee is that of a federation of {self.population:,} clients with cohorts of "
                f"{self.cohort:,.0f}. The run simulates it with {self.clients:,} clients and cohorts of "
                f"{self.clients_per_round:,}, with as much noise in a round's mean: its accuracy is what such a "
                "federation may expect, and its own clients have no such guarantee."
            )
        if FLAGS.dp_metrics == "private":
            notes.append(
                f"Metrics of training are means over clients with noise, and spend {FLAGS.dp_metrics_share:.3g} of the "
                "budget (of the inverse square of the noise multiplier); they are within the guarantee."
            )
        if FLAGS.dp_noise_seed is None:
            notes.append(
                "The noise was drawn from a seed of the operating system's randomness, which is in `checkpoints/` and "
                "nowhere else: whoever has them can take the noise off again."
            )
        else:
            notes.append(
                f"The noise was drawn from the seed {FLAGS.dp_noise_seed}, which is in `config.json`: **there is no "
                "protection from those who know it.**"
            )
        notes.append(
            "Noise is drawn and added in 32-bit floating point by a generator that is not a cryptographic one; attacks "
            "on the last bits of its numbers (Mironov 2012) are outside of the guarantee."
        )
        return notes

    def _aggregator(self, seed):
        key, clip = dp.noise_key(FLAGS.dp_noise_seed), FLAGS.clipping_norm
        noise_multiplier = self.noise_multiplier * _without_share(_metrics_share())
        if FLAGS.dp_mechanism == "adaptive":
            count_stddev = _count_stddev(self.cohort, noise_multiplier)
            return dp.adaptive_clip_aggregator(
                dp.split_noise(noise_multiplier, count_stddev) * self.scale,
                count_stddev * self.scale,
                self.clients_per_round,
                key,
                initial_clip=clip,
                target_quantile=FLAGS.clip_quantile,
                learning_rate=FLAGS.clip_learning_rate,
            )
        stddev = noise_multiplier * clip * self.scale
        if FLAGS.dp_mechanism == "tree":
            noise = dp.tree_noise(stddev, key, FLAGS.restart_rounds)
        elif FLAGS.dp_mechanism == "banded":
            noise = dp.banded_noise(self.ledger.mechanism.matrix.rows, stddev, key)
        else:
            noise = dp.independent_noise(stddev, key)
        decoded_sum = compression_flags.sum_factory(seed, lambda update: dp.clip_to_norm(update, clip)[0])
        return dp.fixed_clip_aggregator(clip, self.clients_per_round, noise, decoded_sum)

    def _metrics_aggregator(self):
        if FLAGS.dp_metrics == "exact":
            return None
        if FLAGS.dp_metrics == "withheld":
            return dp.WithheldMetricsFactory()
        return dp.PrivateMetricsFactory(
            {"loss": FLAGS.dp_metrics_loss_bound, **_METRIC_BOUNDS},
            self.noise_multiplier / math.sqrt(FLAGS.dp_metrics_share) * self.scale,
            self.clients_per_round,
            dp.noise_key(FLAGS.dp_noise_seed, "metrics"),
        )


def _metrics_share() -> float:
    return FLAGS.dp_metrics_share if FLAGS.dp_metrics == "private" else 0.0


def _without_share(share: float) -> float:
    """By how much noise grows when a share of the budget, in units of its inverse square, goes elsewhere.

    Two Gaussian releases with noise multipliers z_1 and z_2 are one with (z_1^-2 + z_2^-2)^(-1/2), so those with
    z / sqrt(1 - share) and z / sqrt(share) are one with z (Andrew et al. 2021, Theorem 1, for the clip's count).
    """
    return 1 / math.sqrt(1 - share)


def _count_stddev(cohort: float, noise_multiplier: float) -> float:
    """Noise of the count of an adaptive clip, which must leave a share of the budget.

    Raises:
      UserError: If it would not.
    """
    if noise_multiplier == 0:
        return 0.0
    # Of small cohorts a twentieth is little noise; twice the multiplier leaves 15/16 of the budget.
    stddev = FLAGS.clip_count_stddev or max(0.05 * cohort, 2 * noise_multiplier)
    if 2 * stddev <= noise_multiplier:
        raise UserError(
            f"--clip_count_stddev={stddev:.3g} would spend more than the whole budget on the adaptive clip: set it to "
            f"{noise_multiplier:.2g} or more, or leave it out."
        )
    return stddev


def plan(num_clients: int, dimension: int) -> Plan | None:
    """What the flags ask for, with the noise found; None if the run is not private.

    Args:
      num_clients: Training clients.
      dimension: Number of trained weights.

    Raises:
      UserError: If nothing of that kind is private enough, or the accounting does not know it.
    """
    if not dp_flags.enabled():
        return None
    population = FLAGS.population or num_clients
    if population < num_clients:
        raise UserError(
            f"--population={population} is fewer than the {num_clients} training clients of the run: raise it, or "
            "leave it out."
        )
    mechanism = _mechanism(num_clients, population)
    delta, noise_multiplier = privacy_flags.delta(population), FLAGS.noise_multiplier
    if noise_multiplier is None:
        noise_multiplier = privacy.find_noise_multiplier(
            mechanism, FLAGS.rounds, FLAGS.target_epsilon, delta, FLAGS.accountant
        )
    ledger = privacy.Ledger(mechanism.with_noise(noise_multiplier), delta, FLAGS.accountant)
    found = Plan(ledger, _rounds(ledger), num_clients, population, FLAGS.clients_per_round, dimension)
    if FLAGS.dp_mechanism == "adaptive":
        _count_stddev(found.cohort, noise_multiplier * _without_share(_metrics_share()))
    return found


def _mechanism(num_clients, population):
    participation = privacy.Participation(cohort_flags.min_separation(num_clients))
    if FLAGS.dp_mechanism == "tree":
        return privacy.TreeAggregation(1.0, FLAGS.restart_rounds, participation)
    if FLAGS.dp_mechanism == "banded":
        matrix = privacy.optimize_banded(FLAGS.rounds, privacy_flags.bands(participation), _target())
        return privacy.MatrixFactorization(1.0, matrix, participation)
    return privacy.Gaussian(
        1.0,
        sampling=privacy.amplification(FLAGS.sampling, FLAGS.amplification),
        clients_per_round=FLAGS.clients_per_round * population / num_clients,
        population=population,
        participation=participation,
    )


def _target() -> np.ndarray | None:
    """What the server makes of the updates, where that is linear; None: their running sum."""
    if FLAGS.server_optimizer != "sgd":
        return None
    schedule = training_flags.server_schedule()
    rates = None if schedule is None else np.array([float(schedule(t)) for t in range(FLAGS.rounds)])
    return privacy.workload(FLAGS.rounds, FLAGS.server_momentum, rates)


def _rounds(ledger) -> int:
    if FLAGS.stop_at_epsilon is None:
        return FLAGS.rounds
    rounds = ledger.rounds_until(FLAGS.stop_at_epsilon, FLAGS.rounds)
    if rounds == 0:
        raise UserError(
            f"--stop_at_epsilon={FLAGS.stop_at_epsilon} is exceeded by the first round, whose epsilon is "
            f"{ledger.epsilon(1):.3g}: raise it, or --noise_multiplier."
        )
    return rounds
