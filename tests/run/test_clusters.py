"""A run of several models, from training to prediction."""

import numpy as np
import pandas as pd
import pytest

import tff_tx as ft
from tests.complaints import problem
from tests.run.test_personal import TINY, trainer
from tff_tx.config import RunConfig, check, resolve

pytestmark = pytest.mark.usefixtures("made_once")


@pytest.mark.slow
def test_each_client_has_the_best_of_several_models(cache_dir, tmp_path):
    held_out = ft.load_task(
        data=ft.Data("digits", clients=ft.Dirichlet(5, alpha=0.3), test=2, split="client"),
        model=ft.Model(config=TINY),
        cache_dir=cache_dir,
    )
    algorithm = ft.IFCA(clusters=3, cluster_spread=1.0, client=ft.Adam(1e-2))
    run = trainer(held_out, tmp_path, algorithm=algorithm, secure_aggregation="masks", clients_per_round=3)
    row = run.fit(rounds=2).iloc[-1]
    found = run.evaluate("test")
    assert sorted(path.name for path in (tmp_path / "clusters").iterdir()) == ["0", "1", "2"]
    assert row["eval/clients_mean/accuracy"] == pytest.approx(found.by_client["accuracy"].mean())
    losses = found.others["global model"]["loss"]
    assert (found.by_client["loss"] <= losses * 1.1).all()
    images = list(np.random.default_rng(0).uniform(size=[2, 1, 8, 8]).astype(np.float32))
    assert len(run.predict(images, client=found.by_client.index[0])) == 2
    assert pd.notna(row["eval/share_hurt"])


IFCA = {"data.dataset": "digits", "algorithm.name": "ifca"}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"algorithm.name": "fed_avg", "algorithm.clusters": 3}, "has no effect with algorithm.name=fed_avg"),
        ({"aggregation.aggregator": "median"}, "most updates of each of its models are zeros"),
        ({"example_privacy.clip_norm": 1.0, "example_privacy.noise_multiplier": 1.0}, "more than once"),
        ({"local_privacy.clip_norm": 1.0, "local_privacy.noise_multiplier": 1.0}, "besides their update"),
        ({"model.personal": "head", "data.split": "within_client"}, "do not train one model"),
        ({"run.keep_updates": True}, "contributions are judged by one model"),
    ],
)
def test_rules(values, sentence):
    check(resolve(RunConfig.of(IFCA)))
    assert sentence in problem({**IFCA, **values})
