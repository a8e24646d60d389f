"""Mechanisms that a configuration describes, and the noise that its target asks for."""

from __future__ import annotations

import numpy as np

from tff_tx.config import RunConfig
from tff_tx.config.privacy import MOST_BANDS
from tff_tx.core.errors import UserError, setting
from tff_tx.privacy.accounting import find_noise_multiplier
from tff_tx.privacy.matrix_factorization import optimize_banded
from tff_tx.privacy.mechanism import Mechanism
from tff_tx.privacy.mechanisms import AdaptiveClipping, Gaussian, MatrixFactorization, TreeAggregation, amplification
from tff_tx.privacy.participation import Participation


def server_mechanism(
    config: RunConfig,
    name: str,
    cohort: float,
    population: int | None,
    participation: Participation,
    target: np.ndarray | None = None,
) -> Mechanism:
    """A mechanism of the server, with a noise multiplier of 1.

    Args:
      config: The run.
      name: One of `tff_tx.config.privacy.MECHANISMS`, other than none.
      cohort: Clients a round.
      population: Clients to sample from.
      participation: Rounds that a client may take part in.
      target: Workload that banded noise is optimized for, [rounds, rounds]; None: running sums.

    Raises:
      UserError: If the sampling does not amplify as claimed, or the settings do not fit each other.
    """
    settings = config.privacy
    sampling = amplification(config.cohort.sampling, settings.amplification)
    if name == "tree":
        return TreeAggregation(1.0, settings.restart_rounds, participation)
    if name == "banded":
        matrix = optimize_banded(config.run.rounds, _num_bands(settings.bands, participation), target)
        return MatrixFactorization(1.0, matrix, participation)
    build = AdaptiveClipping if name == "adaptive" else Gaussian
    return build(1.0, sampling, cohort, population, participation)


def _num_bands(bands, participation):
    separation = participation.min_separation
    if bands is not None and bands > separation:
        raise UserError(
            f"{setting('privacy.bands')}={bands} is more than the {separation} rounds from a client's turn to its "
            f"next: lower it, or raise {setting('cohort.min_separation')}."
        )
    return bands or min(separation, MOST_BANDS)


def with_noise(config: RunConfig, mechanism: Mechanism, delta: float) -> Mechanism:
    """The mechanism with the noise multiplier of the settings, or the least one for their target epsilon.

    Args:
      config: The run.
      mechanism: Its own noise multiplier is ignored.
      delta: Of the guarantee.

    Raises:
      UserError: If no noise reaches the target, or the accountant does not cover the mechanism.
    """
    settings, noise_multiplier = config.privacy, config.privacy.noise_multiplier
    if noise_multiplier is None:
        noise_multiplier = find_noise_multiplier(
            mechanism, config.run.rounds, settings.target_epsilon, delta, settings.accountant
        )
    return mechanism.with_noise(noise_multiplier)
