"""An attack's record in `tff_tx.config.registries.ATTACKS`."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable

from tff_tx.analysis.attacks.simulation import Attack
from tff_tx.config import AttackConfig


@dataclasses.dataclass(frozen=True)
class AttackKind:
    """An attack that can be chosen by name.

    Attributes:
      build: From (settings, clients per round, task) to the attack; None: there is none.
      settings: Fields of `tff_tx.config.AttackConfig` that it reads, besides name and share.
      needs_task: Capability that the task must have; None: any task can be attacked.
      forges_updates: Whether attackers forge the update that they send.
      changes_inputs: Whether attackers change the inputs of examples, which stored activations do not show.
    """

    build: Callable[[AttackConfig, int, Any], Attack] | None
    settings: tuple[str, ...] = ()
    needs_task: str | None = None
    forges_updates: bool = False
    changes_inputs: bool = False


NONE = AttackKind(build=None)
