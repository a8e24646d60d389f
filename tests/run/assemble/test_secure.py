"""Secure aggregation as configurations build it, and whole runs of it."""

import numpy as np
import pytest

from tests.run import test_trainer
from tff_tx.aggregators import AttentionFactory, FigureSumFactory, GridSumFactory, SecureAttentionFactory
from tff_tx.config import RunConfig
from tff_tx.core.errors import UserError
from tff_tx.run.assemble import aggregation, secure

SECURE = {"aggregation.secure": "masks", "cohort.clients_per_round": 100}


def config(**values):
    return RunConfig.of({**SECURE, **{name.replace("__", "."): value for name, value in values.items()}})


def test_figures_and_updates_have_sums_of_their_own():
    parts = aggregation.build_aggregation(config(aggregation__aggregator="attention"))
    assert isinstance(parts["aggregator"], SecureAttentionFactory)
    assert isinstance(parts["figures_sum"], FigureSumFactory)
    assert not isinstance(parts["aggregator"], AttentionFactory)


@pytest.mark.parametrize(("upload", "bits"), [("none", 20), ("uniform8", 15), ("rotated2", 9)])
def test_a_quantizer_has_its_bits_for_each_client(monkeypatch, upload, bits):
    made = []
    original = GridSumFactory.__init__

    def seen(self, bits, *arguments, **more):
        made.append((bits, more))
        original(self, bits, *arguments, **more)

    monkeypatch.setattr(GridSumFactory, "__init__", seen)
    aggregation.build_aggregation(config(compression__upload=upload))
    assert made == [(bits, {"stochastic": upload != "uniform8", "rotate": upload == "rotated2", "seed": 1})]


def test_bits_must_hold_the_cohort():
    with pytest.raises(
        UserError, match="aggregation.secure_bits=8.*a sum of 200 clients needs at least 9 bits.*Raise it"
    ):
        aggregation.build_aggregation(config(aggregation__secure_bits=8, cohort__clients_per_round=200))


def test_the_sizes_of_the_protocol_are_told_before_the_run():
    told = secure.describe_sizes(config())
    assert "each of 100 clients masks with 42 others; 32 shares rebuild a secret, and at least 90" in told
    assert "withstands 20 that collude with a server that may deviate" in told


def test_what_the_protocol_cannot_withstand_is_an_error_of_settings():
    with pytest.raises(UserError, match="aggregation.secure=masks: 2 clients.*too few.*cohort.clients_per_round"):
        secure.describe_sizes(config(cohort__clients_per_round=2))


task = test_trainer.task


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
def test_runs_with_masks_are_those_of_arithmetic_and_near_those_without(task, tmp_path):
    models = {}
    for how in ("none", "arithmetic", "masks"):
        trained = test_trainer.trainer(task, tmp_path / how, secure_aggregation=how, clients_per_round=4)
        trained.fit(rounds=2)
        models[how] = test_trainer.model_bytes(tmp_path / how)
        rows = test_trainer.figures(tmp_path / how)
        models[how, "examples"] = rows["train/num_examples"].tolist()
        models[how, "upload"] = np.float64(rows["comm/upload_bytes_per_client"].iloc[-1])
    assert models["masks"] == models["arithmetic"] != models["none"]
    assert models["masks", "examples"] == models["none", "examples"]
    assert models["masks", "upload"] == models["arithmetic", "upload"] < 0.8 * models["none", "upload"]
