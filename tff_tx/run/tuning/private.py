"""What a study of private runs costs, and the noise that its arms get for it."""

from __future__ import annotations

import secrets

import numpy as np

from tff_tx import privacy
from tff_tx.config import RunConfig, laws
from tff_tx.config.budget import ROUNDS, Budget
from tff_tx.config.run_config import describe
from tff_tx.config.training_data import holds_out_own_records
from tff_tx.core.errors import UserError, setting
from tff_tx.privacy import studies
from tff_tx.tasks import FederatedTask

_REJECTED = (
    ("local_privacy.clip_norm", "every arm would spend the guarantee of a client's updates once more"),
    ("example_privacy.clip_norm", "every arm would spend the guarantee of a client's examples once more"),
    ("privacy.noise_seed", "arms would have the same noise, and their differences none"),
    ("privacy.sampling_seed", "arms would have the same cohorts, which the accounting takes for independent"),
    ("privacy.stop_at_epsilon", "the budget is that of the study"),
)


def check_private(config: RunConfig, budget: Budget) -> None:
    """Rejects studies of private runs that are not accounted for.

    Raises:
      UserError: With the reason, and what to do instead.
    """
    if not laws.is_private(config):
        return
    for path, because in _REJECTED:
        if config.is_set(path):
            raise UserError(
                f"{describe(config, path)} cannot be combined with tuning: {because}, which is not accounted for; tune "
                "on public data without privacy, and train with the settings that are found."
            )
    if holds_out_own_records(config):
        raise UserError(
            f"{describe(config, 'data.split')} holds out records of the training clients, whose exact validation would "
            "choose the released model, which is not accounted for: hold out whole clients with "
            f"{setting('data.split')}=client, or tune on public data without privacy."
        )
    if budget.cost != ROUNDS:
        raise UserError(
            f"{setting('tune.budget')}={budget}: a study of private runs is accounted for by rounds; give it in rounds."
        )


def plan_study(config: RunConfig, task: FederatedTask, budget: Budget) -> tuple[RunConfig, studies.StudyPlan | None]:
    """The configuration of the arms, with the study's noise, and the plan of the study; None if it is not private."""
    if not config.privacy.enabled:
        return config, None
    weights = sum(w.size for w in task.model.initial_weights[0])
    run = privacy.build_plan(config, len(task.train.client_ids), weights)
    found = studies.study_plan(run, int(budget.amount), config.privacy.target_epsilon)
    noise = {"privacy.target_epsilon": None, "privacy.noise_multiplier": found.noise_multiplier}
    return config.replace(noise), found


def draw_runs(plan: studies.StudyPlan) -> int:
    """Number of runs of private selection: geometric, from the operating system's randomness."""
    return int(np.random.default_rng(secrets.randbits(128)).geometric(1 / plan.mean_runs))
