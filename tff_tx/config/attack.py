"""Simulated attackers among the clients, and canaries for audits."""

from __future__ import annotations

import dataclasses

from tff_tx.config.option import Section, option
from tff_tx.config.registries import ATTACKS


@dataclasses.dataclass(frozen=True)
class AttackConfig(Section, name="attack"):
    """Simulated attacks."""

    name: str = option(
        "none",
        "Behaviour of attackers among the training clients: train on flipped labels, or with a backdoor; send a scaled "
        "backdoored update (model_replacement), a sign-flipped one, or noise; collude to stay within the spread of the "
        "others (little_is_enough); or send nothing and take the model (free_rider).",
        flag="attack",
        choices=ATTACKS,
    )
    share: float = option(
        0.2, "Share of the training clients that attack; the seed chooses them.", flag="attackers", least=0.0, most=1.0
    )
    scale: float | None = option(
        None,
        "Factor of sign_flip (default 1) and model_replacement (default: {cohort.clients_per_round}); for "
        "little_is_enough the number of standard deviations from the mean (default: as many as the paper's majority "
        "needs).",
        flag="attack_scale",
        least=0.0,
    )
    noise: float | None = option(
        None,
        "Standard deviation of the update of gaussian (default 1) and free_rider (default 0).",
        flag="attack_noise",
        least=0.0,
    )
    omniscient: bool = option(
        False, "Attackers of little_is_enough know the updates of all clients, not only their own."
    )
    backdoor_target: str | None = option(None, "Target label of the backdoor; default: the first.")
    backdoor_share: float = option(0.5, "Share of an attacker's batch that has the trigger.", least=0.0, most=1.0)
    backdoor_text: str = option("cf mn bb", "Trigger in texts: replaces their first words.")
    backdoor_pixels: int = option(2, "Trigger in images: side of a bright square, in pixels.", least=1)

    @property
    def enabled(self) -> bool:
        """Whether there are attackers."""
        return self.name != "none"

    def per_round(self, clients_per_round: int) -> int:
        """Expected number of attackers in a cohort, rounded."""
        return int(self.share * clients_per_round + 0.5)


@dataclasses.dataclass(frozen=True)
class CanariesConfig(Section, name="canaries", prefix="canary_"):
    """Canaries."""

    number: int = option(
        0,
        "Number of canary clients with random text; each is included in training with probability 1/2, for "
        "programs.audit.",
        flag="canaries",
        least=0,
    )
    repetitions: tuple[int, ...] = option(
        (1, 4, 16), "Copies of its text that a canary client holds, in turn.", least=1
    )
    length: int = option(16, "Tokens of a canary.", least=2)
