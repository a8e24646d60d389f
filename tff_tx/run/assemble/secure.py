"""Secure sums of a configuration."""

from __future__ import annotations

import os

from tff_tx.config import RunConfig
from tff_tx.core.errors import UserError, setting
from tff_tx.federation import secure_sums, simulated_sums


def threat_of(config: RunConfig) -> secure_sums.Threat:
    """What secure sums are to withstand."""
    settings = config.aggregation
    return secure_sums.Threat(settings.secure_colluding, settings.secure_dropping, not settings.secure_passive_server)


def build_hook(config: RunConfig) -> simulated_sums.SimulatedSums:
    """The protocol among the clients of each round."""
    return simulated_sums.SimulatedSums(threat_of(config), os.path.basename(config.run.directory))


def describe_sizes(config: RunConfig) -> str:
    """A line on the sizes of the protocol.

    Raises:
      UserError: If none withstands what is asked for.
    """
    parties, number, threat = "clients", config.cohort.clients_per_round, threat_of(config)
    if config.engine.name == "federation":  # a participant masks the sum of its clients
        parties, number = "participants", min(number, len(config.data.silos))
    try:
        sizes = secure_sums.topology(number, threat)
    except secure_sums.SecureSumError as error:
        raise UserError(
            f"{setting('aggregation.secure')}=masks: {error} See {setting('cohort.clients_per_round')}, "
            f"{setting('aggregation.secure_colluding')} and {setting('aggregation.secure_dropping')}."
        ) from error
    return (
        f"secure sums: each of {number} {parties} masks with {sizes.degree} others; {sizes.threshold} shares rebuild a "
        f"secret, and at least {sizes.least} {parties} are summed; withstands {threat.colluders(number)} that collude "
        f"with a server that {'may deviate' if threat.active else 'follows the protocol'}"
    )
