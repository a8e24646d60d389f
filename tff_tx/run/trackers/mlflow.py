"""MLflow: a run of the experiment MLFLOW_EXPERIMENT_NAME, or tff_tx, at MLFLOW_TRACKING_URI."""

from __future__ import annotations

import os
import time
from typing import Any

from tff_tx.run.trackers.tracker import Tracker

_LONGEST = 500
"""Characters of a parameter that all versions of MLflow's stores take."""


class MLflow(Tracker):
    """Settings are parameters, figures are metrics with the round as step."""

    name, package = "mlflow", "mlflow"

    def start(self, package: Any, run_dir: str, settings: dict[str, str], known: str | None) -> str:
        self._client, self._entities = package.MlflowClient(), package.entities
        if known:
            self._client.update_run(known, status="RUNNING")
            self._id = known
            return known
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "tff_tx")
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        self._id = self._client.create_run(experiment, run_name=os.path.basename(run_dir)).info.run_id
        parameters = [self._entities.Param(key, value[:_LONGEST]) for key, value in settings.items()]
        self._client.log_batch(self._id, params=parameters)
        return self._id

    def log(self, figures: dict[str, float], round_num: int) -> None:
        now = int(1000 * time.time())
        metrics = [self._entities.Metric(name, value, now, round_num) for name, value in figures.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def finish(self) -> None:
        self._client.set_terminated(self._id)
