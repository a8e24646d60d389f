"""Configurations that Optuna proposes (Akiba et al. 2019, https://arxiv.org/abs/1907.10902)."""

from __future__ import annotations

import os
import secrets
import urllib.parse
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tff_tx.config import FIELDS, RunConfig, check, resolve, show, without_effect
from tff_tx.config.option import Range
from tff_tx.config.space import Space
from tff_tx.core.errors import UserError
from tff_tx.core.text import one_line

try:
    import optuna
    import sqlalchemy
except ImportError as error:
    raise UserError(f"tuning needs Optuna ({error}): install the extra `tune`, as with pip install optuna.") from error

_TRIES, _STARTUP = 100, 10
NAME, FILE = "tff_tx", "optuna.db"

optuna.logging.set_verbosity(optuna.logging.ERROR)


def _stored(path):
    """Optuna's study in a file, which may have any name: as a URI of SQLite, where `?` and `#` begin no other part."""
    try:
        return optuna.create_study(
            storage=f"sqlite:///file:{urllib.parse.quote(path)}?uri=true", study_name=NAME, load_if_exists=True
        )
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError) as error:
        raise UserError(
            f"{path} is damaged ({one_line(error)}): remove it, and the study makes it again of its records."
        ) from error


def _sampler(name, seed, ended):
    """The sampler; TPE has nothing to go by before some arms have ended, and these cover the space evenly."""
    samplers = optuna.samplers
    if name == "random":
        return samplers.RandomSampler(seed)
    if name == "tpe" and ended >= _STARTUP:
        return samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return samplers.QMCSampler(scramble=True, seed=seed)


def _distribution(path: str, domain: Range | tuple) -> Any:
    kinds = optuna.distributions
    if not isinstance(domain, Range):
        return kinds.CategoricalDistribution([show(value) for value in domain])
    kind = kinds.IntDistribution if FIELDS[path].type is int else kinds.FloatDistribution
    return kind(domain.low, domain.high, log=domain.log)


def _holds(domain, value):
    """Whether a value is one that is tried."""
    if not isinstance(domain, Range):
        return value in domain
    return value is not None and domain.low <= value <= domain.high


def _suggest(trial, path, domain):
    if not isinstance(domain, Range):
        shown = [show(value) for value in domain]
        return domain[shown.index(trial.suggest_categorical(FIELDS[path].flag, shown))]
    suggest = trial.suggest_int if FIELDS[path].type is int else trial.suggest_float
    return suggest(FIELDS[path].flag, domain.low, domain.high, log=domain.log)


def value_of(config: RunConfig, values: Mapping[str, Any], path: str) -> Any:
    """The value of a setting for an arm, that of the configuration where the arm has none."""
    found = values.get(path, config.get(path))
    return config.client_learning_rate if path == "client.learning_rate" and found is None else found


class Proposals:
    """Proposes values, from the trials that have ended.

    Args:
      directory: Of the study; ended trials are in Optuna's storage there.
      space: What is searched.
      config: The configuration that it is searched around.
      sampler: One of `TUNING_SAMPLERS`.

    Raises:
      UserError: If the storage is damaged.
    """

    def __init__(self, directory: str, space: Space, config: RunConfig, sampler: str):
        self._space, self._config, self._sampler = space, config, sampler
        self._study = _stored(os.path.join(directory, FILE))

    def propose(
        self, number: int, first: int, with_current: bool, others_than: Sequence[Mapping[str, Any]] | None = ()
    ) -> list[dict[str, Any]]:
        """Values by path for `number` arms from `first` on; one of them the configuration's own `with_current`.

        They differ from one another and from `others_than`, so that of a small space there may be fewer, or none; with
        None for that each is drawn by itself, of the operating system's randomness: who knows the seed of a study must
        not know which values its private runs have.

        Raises:
          UserError: If no values of the space fit together.
        """
        ended = self._study.get_trials(deepcopy=False)
        if others_than is None:
            seed = secrets.randbits(32)
        else:  # mixed: as a sum, the second bracket of a study would be the first one of the study with the next seed
            seed = int(np.random.SeedSequence((self._config.run.seed, first)).generate_state(1)[0])
        sampler = _sampler(self._sampler, seed, len(ended))
        study = optuna.create_study(sampler=sampler)
        # All settings for each trial: an even sequence begins anew, with the same values, where a trial lacks some.
        distributions = {FIELDS[path].flag: _distribution(path, domain) for path, domain in self._space.domains.items()}
        if not isinstance(sampler, optuna.samplers.QMCSampler):
            study.add_trials(ended)
        found: list[dict[str, Any]] = [{}] if with_current else []
        known = {self._whole(values) for values in (*found, *(others_than or ()))}
        fits, problem = False, None
        for _ in range(_TRIES + number):
            if len(found) == number:
                break
            trial = study.ask(fixed_distributions=distributions)
            try:
                values = self._values(trial)
                fits, is_new = True, others_than is None or self._whole(values) not in known
            except UserError as error:
                problem, is_new = error, False
            if is_new:
                found.append(values)
                known.add(self._whole(values))
            else:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
        if problem is not None and len(found) < number and (not fits or others_than is None):
            raise problem
        return found

    def _whole(self, values):
        """All that the space is over, of an arm."""
        return tuple(show(value_of(self._config, values, path)) for path in self._space.domains)

    def _values(self, trial):
        """Values for a trial: choices first, as others may have an effect with some of them only."""
        values: dict[str, Any] = {}
        domains = sorted(self._space.domains.items(), key=lambda item: isinstance(item[1], Range))
        for path, domain in domains:
            if path not in without_effect(resolve(self._config.replace(values))):
                values[path] = _suggest(trial, path, domain)
        check(resolve(self._config.replace(values)))
        return values

    def end(self, arm: int, values: Mapping[str, Any], scores: Mapping[int, float], is_whole: bool) -> None:
        """Tells Optuna of an arm that has ended, unless it knows.

        Args:
          arm: Its number.
          values: Its values, by path.
          scores: Its score by round.
          is_whole: Whether it was trained to the end.
        """
        if any(trial.user_attrs.get("arm") == arm for trial in self._study.get_trials(deepcopy=False)):
            return
        params, distributions = {}, {}
        for path, domain in self._space.domains.items():
            value = value_of(self._config, values, path)
            if (path in values or not values) and _holds(domain, value):
                params[FIELDS[path].flag] = value if isinstance(domain, Range) else show(value)
                distributions[FIELDS[path].flag] = _distribution(path, domain)
        states = optuna.trial.TrialState
        last = scores[max(scores)]
        self._study.add_trial(
            optuna.trial.create_trial(
                state=states.COMPLETE if is_whole else states.PRUNED,
                value=min(last, 1e300),
                params=params,
                distributions=distributions,
                user_attrs={"arm": arm},
                intermediate_values={rounds: min(score, 1e300) for rounds, score in scores.items()},
            )
        )


def importances(space: Space, rows: Sequence[tuple[Mapping[str, Any], float]]) -> dict[str, float]:
    """How much of the spread of scores each setting explains, by flag (fANOVA, Hutter et al. 2014); empty of few rows.

    Args:
      space: What was searched.
      rows: Values by path, and the score after the same number of rounds, of arms that differ in all settings.
    """
    paths = [path for path in space.domains if all(path in values for values, _ in rows)]
    if len(rows) < 4 or not paths:
        return {}
    study = optuna.create_study()
    for values, score in rows:
        shown = {p: values[p] if isinstance(space.domains[p], Range) else show(values[p]) for p in paths}
        study.add_trial(
            optuna.trial.create_trial(
                value=score,
                params={FIELDS[p].flag: shown[p] for p in paths},
                distributions={FIELDS[p].flag: _distribution(p, space.domains[p]) for p in paths},
            )
        )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
