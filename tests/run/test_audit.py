"""Audits of runs, and that they find what is there: a model that has memorized its data leaks."""

import json

import pandas as pd
import pytest

from tff_tx.config import RunConfig
from tff_tx.config.tools import AuditConfig
from tff_tx.core.errors import UserError
from tff_tx.run import audit
from tff_tx.run.trainer import Trainer

TINY = {"n_embd": 32, "n_layer": 1, "n_head": 2, "embd_pdrop": 0, "attn_pdrop": 0, "resid_pdrop": 0}
STDLIB = {
    **{"data.num_clients": 12, "data.test_fraction": 4, "data.max_train_examples_per_client": 2},
    **{"model.config": TINY, "task.max_length": 16, "client.batch_size": 8, "client.epochs": 1},
    **{"canaries.number": 40, "canaries.length": 12, "canaries.repetitions": (4,), "cohort.clients_per_round": 14},
    **{"run.rounds_per_evaluation": 0, "run.rounds_per_checkpoint": 1000},
}
MEMORIZED = {
    **{"algorithm.name": "fed_sgd", "server.optimizer": "adam", "server.learning_rate": 0.02, "run.rounds": 80}
}
PRIVATE = {
    **{"privacy.mechanism": "gaussian", "privacy.noise_multiplier": 2, "privacy.clip_norm": 1, "privacy.noise_seed": 1},
    **{"run.rounds": 8, "cohort.sampling": "poisson", "privacy.sampling_seed": 1},
    **{"client.optimizer": "sgd", "client.learning_rate": 0.1},
}


@pytest.fixture
def audited(tmp_path, cache_dir):
    """Trains with further settings and audits; gives the report."""

    def audited(values):
        paths = {"run.directory": str(tmp_path), "data.cache_dir": str(cache_dir)}
        Trainer.from_config(RunConfig.of({**STDLIB, **paths, **values}), progress=False).fit()
        return audit.audit_run(str(tmp_path), AuditConfig(references=200))

    return audited


@pytest.mark.slow
def test_a_model_that_memorized_leaks(audited, tmp_path):
    report = audited(MEMORIZED)
    attack = report.attacks["examples, by loss"]
    assert attack.auc > 0.5 + 4 * attack.standard_error
    assert report.exposures[4].mean() > 5
    assert report.exposures[0].mean() < 3
    assert report.bound.epsilon > 1.0
    assert report.accounted is None
    text = (tmp_path / "report.md").read_text()
    assert text.count("## Audit\n\nOf the model after round 80.\n") == 1
    assert "| exposure: " in str(report)
    stored = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert stored["membership"]["examples, by loss"]["auc"] == attack.auc
    audit.audit_run(str(tmp_path), AuditConfig(references=200))
    assert (tmp_path / "report.md").read_text() == text


@pytest.mark.slow
def test_a_private_model_does_not(audited, tmp_path):
    report = audited(PRIVATE)
    attack = report.attacks["examples, by loss"]
    assert abs(attack.auc - 0.5) < 4 * attack.standard_error
    assert report.exposures[4].mean() < 3
    accounted = pd.read_csv(tmp_path / "metrics.csv")["privacy/epsilon"].iloc[-1]
    assert report.bound.epsilon < report.accounted == accounted
    assert report.bound.delta < 0.1
    assert f"{accounted:.3g} accounted" in str(report)


def test_a_directory_without_a_run_is_rejected(tmp_path):
    with pytest.raises(UserError, match="has no config.json"):
        audit.audit_run(str(tmp_path), AuditConfig())
