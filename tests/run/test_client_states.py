"""Runs of algorithms whose clients retain a state: resuming, what is sent, and what they cannot be combined with."""

import pytest

import tff_tx as ft
from tests.complaints import problem
from tff_tx.config import RunConfig, check, resolve

TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}

pytestmark = pytest.mark.usefixtures("made_once")


def states(directory):
    """Of each client the newest state of the run."""
    return {client.name: max(client.glob("*")).read_bytes() for client in (directory / "client_states").glob("*")}


@pytest.mark.slow
def test_a_resumed_run_has_the_same_control_variates(cache_dir, tmp_path):
    task = ft.load_task(
        data=ft.Data("digits", clients=ft.Dirichlet(4, alpha=0.1)), model=ft.Model(config=TINY), cache_dir=cache_dir
    )

    def fit(directory, rounds, algorithm):
        trainer = ft.Trainer(task, run_dir=str(directory), algorithm=algorithm, clients_per_round=2, progress=False)
        trainer.fit(rounds=rounds)
        return trainer.history

    scaffold = ft.Scaffold(client=ft.SGD(0.1), epochs=1)
    whole = fit(tmp_path / "whole", 3, scaffold)
    fit(tmp_path / "resumed", 2, scaffold)
    resumed = fit(tmp_path / "resumed", 3, scaffold)
    assert list(whole["train/loss"]) == list(resumed["train/loss"])
    assert states(tmp_path / "whole") == states(tmp_path / "resumed")
    dynamic = fit(tmp_path / "dynamic", 1, ft.FedDyn(alpha=0.5, client=ft.SGD(0.1), epochs=1))
    uploads = [history["comm/upload_bytes_per_client"].iloc[0] for history in (whole, dynamic)]
    counted = 4  # FedDyn's say that they count
    assert uploads[0] - uploads[1] == sum(w.nbytes for w in task.task.model.initial_weights[0]) - counted
    assert states(tmp_path / "dynamic")


LOCAL = {"local_privacy.clip_norm": 1.0, "local_privacy.noise_multiplier": 1.0}
SCAFFOLD = {"data.dataset": "digits", "algorithm.name": "scaffold"}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"algorithm.weighted": True}, "plain means over clients"),
        (
            {"privacy.mechanism": "gaussian", "privacy.noise_multiplier": 1.0},
            "it does not hide what clients send besides their update",
        ),
        ({"engine.name": "tff_native"}, "its clients retain a state"),
        ({"compression.upload": "top_k"}, "besides their update"),
        ({"algorithm.name": "fed_nova", **LOCAL}, "would leave without noise"),
        ({"algorithm.name": "fed_dyn", "aggregation.secure": "masks"}, "passes the engine beside the sums"),
        ({"algorithm.dynamic_strength": 0.5}, "has no effect with algorithm.name=scaffold"),
    ],
)
def test_rules(values, sentence):
    check(resolve(RunConfig.of(SCAFFOLD)))
    assert sentence in problem({**SCAFFOLD, **values})


def test_fed_dyn_combines_with_what_needs_one_update():
    dynamic = {**SCAFFOLD, "algorithm.name": "fed_dyn"}
    for values in (
        {"compression.upload": "top_k"},
        {"cohort.buffer_size": 2, "cohort.concurrency": 4, "devices.seconds_per_example": 0.1},
        {"privacy.mechanism": "gaussian", "privacy.noise_multiplier": 1.0, "cohort.sampling": "poisson"},
    ):
        check(resolve(RunConfig.of({**dynamic, **values})))
