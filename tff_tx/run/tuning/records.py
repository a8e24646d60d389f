"""What a study has found out, in lines of JSON that survive being killed at any time."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Container, Mapping
from typing import Any

import numpy as np

from tff_tx.config import FIELDS, RunConfig
from tff_tx.config.budget import COSTS, SECONDS
from tff_tx.config.space import Space
from tff_tx.config.tools import TuneConfig
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting
from tff_tx.run import directory as run_directory
from tff_tx.run.tuning.brackets import Bracket
from tff_tx.run.tuning.scores import Scores

_LOG, _STUDY, ARMS = "records.jsonl", "study.json", "arms"


class Records:
    """The records of a study; what is there already is read when it is opened.

    Args:
      directory: Of the study.

    Attributes:
      brackets: Brackets that have begun, with their arms' values by path.
      training: What training has cost, by `COSTS`.
      scoring: What evaluation has cost, by `COSTS`.
      starts: Seconds of each time an arm was trained that were none of its rounds', as it was traced or restored.
      evaluations: Clients and seconds of each evaluation of an arm that had not diverged.
    """

    def __init__(self, directory: str):
        self._path = os.path.join(directory, _LOG)
        self.brackets: list[tuple[Bracket, list[dict[str, Any]]]] = []
        self.training, self.scoring = dict.fromkeys(COSTS, 0.0), dict.fromkeys(COSTS, 0.0)
        self.starts: list[float] = []
        self.evaluations: list[tuple[int, float]] = []
        self._trained: dict[tuple[int, int], dict] = {}
        self._scores: dict[tuple[int, int], Scores] = {}
        whole = b""
        if os.path.exists(self._path):
            with open(self._path, "rb") as file:
                whole = file.read().rpartition(b"\n")[0]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                self._take(json.loads(line))
            except (UserError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise UserError(
                    f"{self._path}, line {number} is damaged ({error}): restore it, or choose another "
                    f"{setting('tune.study_dir')}."
                ) from error
        if os.path.exists(self._path):  # without a line that was not written to its end
            with files.atomic(self._path, "wb") as file:
                file.write(whole + b"\n" * bool(whole))

    def _take(self, record):
        spent = self.scoring if "scores" in record else self.training
        for cost, amount in record.get("cost", {}).items():
            spent[cost] += amount
        key = record.get("arm"), record.get("rounds")
        if "bracket" in record:
            bracket = Bracket.of(record["bracket"])
            values = [{p: FIELDS[p].parse(v) for p, v in arm.items()} for arm in record["values"]]
            if len(values) != bracket.arms:
                raise ValueError(f"{bracket.arms} arms, values of {len(values)}")
            self.brackets.append((bracket, values))
        elif "scores" in record:
            values = np.array([math.inf if value is None else value for value in record["scores"]], np.float64)
            weights = np.array(record["weights"], np.float64)
            new = len(values) - (len(self._scores[key].values) if key in self._scores else 0)
            if new <= 0 or len(weights) != len(values):
                raise ValueError(f"{len(values)} scores, {new} of them new, and {len(weights)} weights")
            if np.isfinite(values).any():
                self.evaluations.append((new, record["cost"][SECONDS]))
            self._scores[key] = Scores(values, weights)
        else:
            self._trained[key] = record["cost"]
            self.starts.append(record.get("start", 0.0))

    @property
    def spent(self) -> dict[str, float]:
        """What training and evaluation have cost, by `COSTS`."""
        return {cost: self.training[cost] + self.scoring[cost] for cost in COSTS}

    def _append(self, record):
        line = json.dumps(files.plain(record)).encode() + b"\n"
        with open(self._path, "ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._take(json.loads(line))

    def begin(self, bracket: Bracket, values: list[Mapping[str, Any]]) -> None:
        """Records a bracket that begins, with its arms' values."""
        self._append({"bracket": bracket, "values": values})

    def trained(self, arm: int, rounds: int) -> bool:
        """Whether an arm has been trained for so many rounds."""
        return (arm, rounds) in self._trained

    def train(self, arm: int, rounds: int, cost: Mapping[str, float], start: float = 0.0) -> None:
        """Records that it has, with the seconds of it that its rounds did not take."""
        self._append({"arm": arm, "rounds": rounds, "cost": cost, "start": start})

    def cost_of_training(self, arms: Container[int], cost: str) -> float:
        """What the rounds of some arms have cost."""
        return sum(found[cost] for (arm, _), found in self._trained.items() if arm in arms)

    def scores(self, arm: int, rounds: int) -> Scores | None:
        """The scores of an arm after so many rounds; None: it has none."""
        return self._scores.get((arm, rounds))

    def score(self, arm: int, rounds: int, scores: Scores, cost: Mapping[str, float]) -> None:
        """Records scores, of more clients than before."""
        values = [value if math.isfinite(value) else None for value in scores.values]
        self._append({"arm": arm, "rounds": rounds, "scores": values, "weights": list(scores.weights), "cost": cost})

    def curve(self, arm: int) -> dict[int, Scores]:
        """All scores of an arm, by round."""
        return {rounds: found for (one, rounds), found in sorted(self._scores.items()) if one == arm}


def check_same(directory: str, config: RunConfig, space: Space, more: Mapping[str, Any]) -> None:
    """Writes what a study is about, or checks that the study in the directory is about the same if it has begun.

    Raises:
      UserError: If it is another, or the directory is no study's.
    """
    path = os.path.join(directory, _STUDY)
    run = {p: config.get(p) for p, f in FIELDS.items() if not f.option.may_change or p == "run.rounds"}
    now = files.plain({"space": space.to_json(), **more, "run": run})
    if not any(os.path.exists(os.path.join(directory, name)) for name in (_LOG, ARMS)):
        if os.path.exists(os.path.join(directory, run_directory.CONFIG)):
            raise UserError(f"{setting('tune.study_dir')}={directory} is the directory of a run: choose another.")
        files.write_json(path, now)
        return
    if not os.path.exists(path):
        raise UserError(f"{setting('tune.study_dir')}={directory} has no {_STUDY}: restore it, or choose another.")
    try:
        before = files.parse_json(path)
        defaults = {field.name: files.plain(field.default) for field in TuneConfig.fields()}
        own = [name for name in now if name != "run" and before.get(name, defaults.get(name)) != now[name]]
        of_run = {name: before["run"].get(name, files.plain(FIELDS[name].default)) for name in now["run"]}
        paths = [f"tune.{name}" for name in own] + [path for path, value in now["run"].items() if of_run[path] != value]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}): restore it, or choose another directory.") from None
    if paths:
        others = ", another ".join(map(setting, paths[:3]))
        raise UserError(
            f"{setting('tune.study_dir')}={directory} holds a study of another {others}: give the same to resume it, "
            "or choose another directory."
        )
