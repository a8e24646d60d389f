"""Secure sums of a configuration."""

from __future__ import annotations

import os

from tff_tx import runtime
from tff_tx.config import RunConfig
from tff_tx.core.errors import UserError, setting
from tff_tx.federation import secure_sums, simulated_noise, simulated_sums
from tff_tx.federation.secure_sums.noise import Noise, Share
from tff_tx.privacy import Plan


def threat_of(config: RunConfig) -> secure_sums.Threat:
    """What secure sums are to withstand."""
    settings = config.aggregation
    return secure_sums.Threat(settings.secure_colluding, settings.secure_dropping, not settings.secure_passive_server)


def build_hooks(config: RunConfig, plan: Plan | None = None) -> list[runtime.Hook]:
    """Shares of noise where a plan has any, and the protocol among the clients of each round."""
    hooks = []
    if config.privacy.is_distributed:
        share, least = share_of(config, plan), least_summed(config)
        hooks.append(simulated_noise.ParticipantNoise(share.noise, share.modulus, least, config.privacy.noise_seed))
    run = os.path.basename(config.run.directory)
    if config.aggregation.secure == "bfv":
        hooks.append(_encrypted(config, run))
    if config.aggregation.secure == "masks":
        hooks.append(simulated_sums.SimulatedSums(threat_of(config), run))
    return hooks


def share_of(config: RunConfig, plan: Plan) -> Share:
    """A party's share of a plan's noise."""
    mechanism = plan.ledger.mechanism
    return Share(Noise(config.privacy.mechanism, mechanism.share_variance), mechanism.grid.modulus)


def _encrypted(config, run):
    require_encryption()
    from tff_tx.federation import encrypted_sums

    return encrypted_sums.EncryptedSums(least_summed(config), run)


def require_encryption() -> None:
    """Rejects encryption where TenSEAL is not installed; a UserError."""
    try:
        import tenseal  # noqa: F401
    except ImportError as error:
        raise UserError(f"{setting('aggregation.secure')}=bfv needs TenSEAL: pip install 'tff_tx[he]'.") from error


def least_summed(config: RunConfig) -> int:
    """Fewest clients, of a federation participants, of a sum that is decrypted, or that has noise."""
    found = threat_of(config).survivors(_parties(config)[1])
    return max(2, found) if config.aggregation.secure == "bfv" else found


def _parties(config):
    """What is summed in a round, and how many at most: a participant of a federation adds up its clients."""
    number = config.cohort.clients_per_round
    if config.engine.name == "federation":
        return "participants", min(number, len(config.data.silos))
    return "clients", number


def statements(config: RunConfig) -> dict[str, str]:
    """Sections of the report on whom secure sums protect from whom, Markdown by title."""
    text = {
        "masks": "The server saw sums of what clients sent, by the protocol with masks: {}.",
        "bfv": "The aggregator added ciphertexts without a key, and the key holder decrypted the sums, of at least {} "
        "{}, one a round: neither of them alone reads what one {} sent. **The aggregator and the key holder together "
        "read what each of them sent**: they must not be one party, or collude. The sums themselves are in the open to "
        "both the key holder and the server.",
        "arithmetic": "Sums were taken in the open: whole numbers as of the protocol with masks, which protect nobody.",
    }.get(config.aggregation.secure)
    if text is None:
        return {}
    parties, found = _parties(config)[0], []
    if config.aggregation.secure == "bfv":
        found = [least_summed(config), parties, parties[:-1]]
    if config.aggregation.secure == "masks":
        found = [describe_sizes(config)]
    simulated = " In a simulation all parties are one program: this is what a federation would have."
    return {"Secure aggregation": text.format(*found) + simulated * (config.engine.name != "federation")}


def describe_sizes(config: RunConfig) -> str:
    """A line on the sizes of the protocol.

    Raises:
      UserError: If none withstands what is asked for.
    """
    (parties, number), threat = _parties(config), threat_of(config)
    if config.aggregation.secure == "bfv":
        require_encryption()
        holder = f"the key holder {config.aggregation.key_holder}" if parties == "participants" else "the key holder"
        return (
            f"secure sums: {parties} encrypt, the aggregator adds ciphertexts without a key, and {holder} decrypts "
            f"sums of at least {least_summed(config)} {parties}, one a round; aggregator and key holder together read "
            f"what each of the {parties} sent"
        )
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
