"""Privacy of a study of many runs: composition of all its rounds, or private selection of the best run.

Every arm of a study spends. If all arms' rounds are within the guarantee, arms may be compared as rounds go by, and
everything may be released. If only the best of a random number of whole runs is released, and nothing of the others,
the price grows much slower: Papernot and Steinke 2022, "Hyperparameter Tuning with Renyi Differential Privacy",
https://arxiv.org/abs/2110.03620, Theorem 2, by `dp_accounting`.
"""

from __future__ import annotations

import dataclasses
import math

import dp_accounting
from dp_accounting import rdp

from tff_tx.core.errors import UserError, setting
from tff_tx.privacy.accounting import Ledger, find_noise_multiplier
from tff_tx.privacy.mechanism import Mechanism, Participation
from tff_tx.privacy.plan import Plan

COMPOSITION, SELECTION = "composition", "private selection"
GEOMETRIC = 1.0
"""Shape of the distribution of the number of runs; Papernot and Steinke's eta."""


def selection_epsilon(mechanism: Mechanism, rounds: int, mean_runs: float, delta: float) -> float:
    """Epsilon of the best of a geometric number of runs, of which nothing else is released.

    Args:
      mechanism: Of a run; without Poisson sampling, infinity is the answer.
      rounds: Rounds of a run.
      mean_runs: Mean number of runs, above 1.
      delta: Above 0 and below 1.
    """
    event = mechanism.event(rounds)
    if not isinstance(getattr(event, "event", None), dp_accounting.PoissonSampledDpEvent):
        return math.inf
    selected = dp_accounting.dp_event.RepeatAndSelectDpEvent(event, mean_runs, GEOMETRIC)
    return float(rdp.RdpAccountant().compose(selected).get_epsilon(delta))


def selection_noise(mechanism: Mechanism, rounds: int, mean_runs: float, target_epsilon: float, delta: float) -> float:
    """Least noise multiplier of `selection_epsilon` for an epsilon, within a hundredth; infinity: none suffices."""
    low, high = 0.1, 0.1

    def fits(noise):
        return selection_epsilon(mechanism.with_noise(noise), rounds, mean_runs, delta) <= target_epsilon

    while not fits(high):
        low, high = high, 2 * high
        if high > 1e4:
            return math.inf
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


@dataclasses.dataclass(frozen=True)
class StudyPlan:
    """How a study spends its budget of privacy.

    Attributes:
      method: `COMPOSITION` or `SELECTION`.
      noise_multiplier: Of each run.
      epsilon: Of the whole study.
      delta: Of it.
      by_method: Noise multiplier by method; infinite where a method does not apply.
      rounds: Rounds of all runs together, of composition.
      mean_runs: Mean number of whole runs, of private selection.
    """

    method: str
    noise_multiplier: float
    epsilon: float
    delta: float
    by_method: dict[str, float]
    rounds: int
    mean_runs: float

    def describe(self) -> str:
        """Both prices, and which is paid."""
        noises = ", ".join(f"{name} {noise:.4g}" for name, noise in self.by_method.items())
        return (
            f"Privacy of the study: epsilon {self.epsilon:.3g} at delta {self.delta:.2g}, by {self.method}; noise "
            f"multipliers: {noises}."
        )

    def statement(self) -> str:
        """What is guaranteed of the study, Markdown."""
        if self.method == COMPOSITION:
            what = (
                f"The guarantee covers the models of all arms of the study, {self.rounds:,} rounds together, and "
                "whatever was chosen by them."
            )
        else:
            what = (
                f"The guarantee covers the best run alone, of a geometric number of runs with the mean "
                f"{self.mean_runs:.3g} (Papernot and Steinke 2022). Nothing else of the study may be released: neither "
                "the other arms, nor the table, nor how many arms there were."
            )
        return (
            f"{self.describe()}\n\n{what} The validation data decide which arm is the best, exactly: they are of other "
            "clients than those of training, and are taken as public. An epsilon that the report of a single arm names "
            "is that of its own rounds; that of the study is the one to state. Training again with the best settings "
            "spends again."
        )


def study_plan(plan: Plan, total_rounds: int, target_epsilon: float | None) -> StudyPlan:
    """The plan of a study.

    Args:
      plan: Of one run.
      total_rounds: Rounds of all arms.
      target_epsilon: Of the whole study; None: the noise is that of the run.

    Raises:
      UserError: If no noise is private enough, or the mechanism's noise is correlated over rounds.
    """
    ledger, runs = plan.ledger, total_rounds / plan.rounds
    if plan.settings.privacy.mechanism not in ("gaussian", "adaptive"):
        raise UserError(
            f"{setting('privacy.mechanism')}={plan.settings.privacy.mechanism} cannot be combined with tuning: arms "
            "that stop early are accounted for with noise that is independent between rounds; choose gaussian or "
            "adaptive."
        )
    # Each arm begins the turns of a sampler anew: what separates a client's rounds in one does not between two.
    mechanism = dataclasses.replace(ledger.mechanism, participation=Participation())
    details = {"delta": ledger.delta, "rounds": total_rounds, "mean_runs": runs}
    if target_epsilon is None:
        found = Ledger(mechanism, ledger.delta, ledger.accountant).epsilon(total_rounds)
        noise = mechanism.noise_multiplier
        return StudyPlan(COMPOSITION, noise, found, by_method={COMPOSITION: noise}, **details)
    noises = {
        COMPOSITION: find_noise_multiplier(mechanism, total_rounds, target_epsilon, ledger.delta, ledger.accountant),
        SELECTION: math.inf,
    }
    if runs > 1:
        noises[SELECTION] = selection_noise(mechanism, plan.rounds, runs, target_epsilon, ledger.delta)
    method = min(noises, key=noises.get)
    return StudyPlan(method, noises[method], target_epsilon, by_method=noises, **details)
