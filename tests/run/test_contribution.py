"""The contribution of a run's clients: replayed by the run's own process, whatever that is."""

import functools
import json

import pandas as pd
import pytest

from tff_tx.config import RunConfig
from tff_tx.config.tools import ContributionConfig
from tff_tx.core.errors import UserError
from tff_tx.run import contribution
from tff_tx.run.trainer import Trainer

TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
RUN = {
    **{"data.dataset": "digits", "data.num_clients": 4, "model.config": TINY, "client.steps": 2},
    **{"client.learning_rate": 0.02, "cohort.clients_per_round": 3, "run.rounds": 3, "run.rounds_per_evaluation": 1},
    "run.keep_updates": True,
}
LORA = {"model.trainable": "lora", "lora.rank": (2,)}


pytestmark = pytest.mark.usefixtures("made_once")


@pytest.fixture(scope="module")
def train(tmp_path_factory, cache_dir):
    """Trains a run with further settings; gives its directory, and its loss on held-out data after each round."""

    @functools.lru_cache(1)
    def plain():
        return run()

    def run(**values):
        directory = tmp_path_factory.mktemp("run")
        config = RunConfig.of({**RUN, "run.directory": str(directory), "data.cache_dir": str(cache_dir), **values})
        history = Trainer.from_config(config, progress=False).fit()
        return directory, history["eval/loss"].tolist()

    return lambda **values: run(**values) if values else plain()


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        {},
        {**LORA, "lora.aggregation": "svd", "attack.name": "sign_flip", "attack.share": 0.5},
        {**LORA, "compression.upload": "top_k", "compression.fraction": 0.1},
        {**LORA, "lora.rank": (2, 4), "lora.aggregation": "stack"},
    ],
    ids=["plain", "lora-svd, attack", "lora, error-feedback", "lora-stack"],
)
def test_values_add_up_to_what_the_run_gained(train, values):
    directory, losses = train(**values)
    settings = ContributionConfig(method="exact", first_round=2)
    report = contribution.value_run(str(directory), settings, progress=False)
    gain = losses[0] - losses[2]
    assert report.table.attrs["gain"] == pytest.approx(gain, rel=1e-3, abs=1e-5)
    assert report.table["value"].sum() == pytest.approx(gain, rel=1e-3, abs=1e-5)
    assert report.table["value"].abs().min() > 0
    stored = json.loads((directory / "contribution" / "exact.json").read_text())
    assert stored["clients"].keys() == set(report.table.index)
    assert "(decrease)" in str(report)


@pytest.fixture(scope="module")
def run(train):
    """A plain run."""
    return str(train()[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"method": "exact", "tolerance": 0.1},
            "contribution.tolerance=0.1 has no effect with contribution.method=exact",
        ),
        ({"method": "leave_one_out", "max_sweeps": 2}, "contribution.max_sweeps=2 has no effect with"),
        ({"method": "truncated_monte_carlo", "round_truncation": 0.1}, "remove it, or use gtg_shapley"),
        ({"first_round": 9}, "contribution.first_round=9 and contribution.last_round=None leave none of the 3 rounds"),
        ({"metric": "num_items"}, "contribution.metric=num_items: must be one of loss, accuracy((?!num_).)*$"),
        ({"split_name": "validation"}, "contribution.split_name=validation: the run held no such data out"),
    ],
)
def test_wrong_settings_are_rejected(run, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        contribution.value_run(run, ContributionConfig(**settings), progress=False)


@pytest.mark.slow
def test_a_metric_that_grows_is_no_decrease(run):
    report = contribution.value_run(run, ContributionConfig(metric="accuracy", method="leave_one_out"), progress=False)
    assert report.subject == "contribution to accuracy"
    assert isinstance(report.table, pd.DataFrame)


def test_a_directory_without_updates_is_rejected(tmp_path):
    with pytest.raises(UserError, match="has no config.json"):
        contribution.value_run(str(tmp_path), ContributionConfig())
