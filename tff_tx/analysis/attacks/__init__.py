"""Simulated attacks on federated training: poisoned data and forged updates."""

from tff_tx.analysis.attacks.poisoning import Backdoor, LabelFlip, pixel_trigger, text_trigger
from tff_tx.analysis.attacks.simulation import Attack, AttackKind, choose_attackers, simulate
from tff_tx.analysis.attacks.updates import (
    FreeRider,
    GaussianUpdate,
    LittleIsEnough,
    ModelReplacement,
    SignFlip,
    little_is_enough_z,
)
