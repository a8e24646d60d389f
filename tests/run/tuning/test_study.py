"""Studies end to end: results, resuming, and mistakes in a sentence."""

import dataclasses
import json
import os

import pandas as pd
import pytest

import tff_tx as ft
from tff_tx.config import RunConfig
from tff_tx.config.budget import BYTES, CLIENT_SECONDS, SECONDS, Budget
from tff_tx.config.space import Space
from tff_tx.config.tools import TuneConfig
from tff_tx.core import locks
from tff_tx.core.errors import UserError
from tff_tx.run import loop, tuning
from tff_tx.run.tuning import private, study
from tff_tx.run.tuning.arms import Arms, cost_of_rounds
from tff_tx.run.tuning.records import Records
from tff_tx.tasks import FeatureCache

TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SPACE = {"client_optimizer": ["sgd", "adam"], "client_learning_rate": True, "client_momentum": True}
SMALL = {"reduction": 2, "first_clients": 2}
PRIVATE = {"privacy.mechanism": "gaussian", "privacy.target_epsilon": 4.0, "data.validation_fraction": 0.1}

pytestmark = pytest.mark.usefixtures("made_once")


@pytest.fixture(scope="module")
def task(cache_dir):
    return ft.load_task(
        data=ft.Data("digits", clients=ft.Iid(12), validation=0.2, test=20),
        model=ft.Model(config=TINY),
        cache_dir=cache_dir,
    )


@pytest.fixture(scope="module")
def whole(task, tmp_path_factory):
    """Two arms of one round, and one of them to the end, undisturbed; and its directory."""
    directory = tmp_path_factory.mktemp("whole") / "study"
    return trainer(task).tune(SPACE, "3 rounds", study_dir=str(directory), **SMALL), directory


def trainer(task, **more):
    parts = {"algorithm": ft.FedAvg(steps=1), "clients_per_round": 2, "rounds": 2, "progress": False}
    return ft.Trainer(task, **{**parts, **more})


@pytest.mark.slow
def test_a_study_that_is_killed_goes_on_to_the_same_result(task, whole, tmp_path, monkeypatch):
    trained, train = [], Arms.train

    def killed(self, arm, values, rounds):
        if len(trained) == 1:
            raise KeyboardInterrupt
        if not self._records.trained(arm, rounds):
            trained.append((arm, rounds))
        train(self, arm, values, rounds)

    monkeypatch.setattr(Arms, "train", killed)
    begun = tmp_path / "begun"
    with pytest.raises(KeyboardInterrupt):
        trainer(task).tune(SPACE, "3 rounds", study_dir=str(begun), **SMALL)
    monkeypatch.setattr(Arms, "train", train)
    resumed = trainer(task).tune(SPACE, "3 rounds", study_dir=str(begun), **SMALL)
    _check_same(resumed, begun, *whole)
    assert resumed.flags == whole[0].flags
    assert (begun / "best.flags").read_text() == (whole[1] / "best.flags").read_text()
    _check_results(task, *whole)


@pytest.mark.slow
def test_arms_side_by_side_on_a_cluster_make_the_same_study(task, whole, tmp_path, monkeypatch):
    """Its processes train all rounds of rungs with several arms: here no arm is trained that has its checkpoint."""
    pytest.importorskip("ray")
    here, measured = [], loop._Attempt.measured

    def counted(attempt, run, *arguments):
        here.append(os.path.basename(run.directory))
        return measured(attempt, run, *arguments)

    monkeypatch.setattr(loop._Attempt, "measured", counted)
    beside = trainer(task, engine=ft.Ray(threads=2)).tune(SPACE, "3 rounds", study_dir=str(tmp_path), **SMALL)
    _check_same(beside, tmp_path, *whole)
    assert here == [f"{beside.table['arm'][0]:04}"]  # the last rung has one arm


@pytest.mark.slow
def test_studies_end_within_budgets_of_what_they_cost(task, tmp_path):
    """By the mean cost of rounds, which differ. Of time on this machine the study says whether it was enough."""
    spent, seconds = {}, None
    for cost in (BYTES, CLIENT_SECONDS, SECONDS):
        budget = {BYTES: "0.12 MB", CLIENT_SECONDS: "60 client-seconds", SECONDS: f"{seconds} s"}[cost]
        devices = ft.Devices(seconds_per_example=0.1)
        more = {"study_dir": str(tmp_path / cost), **SMALL, "metric": "accuracy"}
        found = trainer(task, devices=devices).tune({"client_learning_rate": True}, budget, **more)
        spent[cost] = Records(str(tmp_path / cost)).spent
        share = spent[cost][cost] / Budget.of(budget).amount
        assert ("of the budget" if share <= 1 else "over the budget") in str(found)
        assert found.table["rounds"].is_monotonic_decreasing
        assert found.table.groupby("rounds")["accuracy"].is_monotonic_decreasing.all()
        assert cost == SECONDS or 0.3 < share < 1.1
        seconds = round(1.2 * spent[BYTES][SECONDS], 1)
    assert spent[BYTES]["rounds"] >= 2


@pytest.mark.slow
def test_a_study_of_arms_that_all_diverge_at_once_ends(task, tmp_path):
    """Of MB they have spent nothing, and so would the next ones, without end."""
    algorithm = ft.FedAvg(steps=2, client=ft.SGD(1e30))
    with pytest.raises(UserError, match="every arm has made a model that is not finite"):
        trainer(task, algorithm=algorithm).tune(
            {"client_learning_rate": [1e30, 1e31, 1e32]}, "1 MB", study_dir=str(tmp_path / "study"), **SMALL
        )
    assert len(Records(str(tmp_path / "study")).brackets) == 1


@pytest.mark.slow
def test_arms_take_the_features_of_frozen_layers_from_one_another(cache_dir, tmp_path, monkeypatch):
    """Each client's are computed once in a study; the drawn cohorts of all arms are the same."""
    written, write = [], FeatureCache._write

    def counted(cache, split, item):
        written.append((split, item[1]))
        return write(cache, split, item)

    monkeypatch.setattr(FeatureCache, "_write", counted)
    data = ft.Data("digits", clients=ft.Iid(12), validation=0.2, test=20)
    model = ft.Model(config=TINY, trainable="head", cache_features=True)
    own = trainer(ft.load_task(data=data, model=model, cache_dir=cache_dir), rounds=4)
    more = {"sampler": "random", "reduction": 2, "study_dir": str(tmp_path)}
    found = own.tune({"client_learning_rate": True}, "8 rounds", **more)
    assert (found.table["rounds"] > 1).sum() > 1
    assert written
    assert len(set(written)) == len(written)


def _check_same(found, directory, whole, expected):
    """Their tables and their best models."""
    pd.testing.assert_frame_equal(found.table, whole.table)
    models = [(d / "best" / "model" / "model.safetensors").read_bytes() for d in (directory, expected)]
    assert models[0] == models[1]


def _check_results(task, whole, directory):
    """The table and the directory of a study of two arms, and what another space or run makes of it."""
    assert list(whole.table["rounds"]) == [2, 1]
    assert whole.table["verdict"][0] == "best"
    assert (whole.table["standard_error"] > 0).all()
    assert "standard error" in str(whole)
    assert {"table.csv", "incumbent.png", "optuna.db", "best.flags", "best"} <= set(os.listdir(directory))
    with pytest.raises(UserError, match="holds a study of another tune.space"):
        trainer(task).tune({"client_learning_rate": True}, "3 rounds", study_dir=str(directory), **SMALL)
    with pytest.raises(UserError, match="holds a study of another run.rounds"):
        trainer(task, rounds=3).tune(SPACE, "9 rounds", study_dir=str(directory), **SMALL)


@pytest.mark.parametrize(
    ("settings", "budget", "sentence"),
    [
        ({"run.rounds": 30}, "29 rounds", "too small for one arm of run.rounds=30"),
        ({}, "100 client-seconds", "needs clients that take time"),
        ({"run.patience": 3}, None, "run.patience=3 cannot be combined with tuning"),
        ({"ensemble.enabled": True}, None, "it trains several models"),
        ({**PRIVATE, "data.split": "within_client"}, None, "exact validation would choose the released model"),
        ({**PRIVATE, "privacy.noise_seed": 1}, None, "arms would have the same noise"),
        ({**PRIVATE, "devices.seconds_per_example": 1.0}, "9 client-seconds", "give it in rounds"),
        ({"example_privacy.clip_norm": 1.0}, None, "not accounted for; tune on public data"),
    ],
)
def test_what_cannot_be_tuned_is_a_sentence(settings, budget, sentence):
    config = RunConfig.of(settings)
    with pytest.raises(UserError, match=sentence):
        study.budget_of(config, budget)


def test_a_space_without_effect_is_rejected_before_data_are_read():
    settings = {"data.files": ("missing.csv",), "task.kind": "sequence_classification", "model.architecture": "bert"}
    config = RunConfig.of(settings)
    space = Space.of({"client_momentum": True})
    with pytest.raises(UserError, match="client_momentum has no effect with client.optimizer=adam"):
        tuning.tune_config(config, space, TuneConfig())


def test_the_cost_of_rounds_is_that_of_their_clients(tmp_path):
    """Also of a run that made no model: its table has no rows."""
    names = ("clients", "reported", "dropped", "stragglers")
    lines = [{"round_num": r, **dict.fromkeys(names, ["a", "b"]), "reported": ["a"]} for r in (1, 2, 3)]
    lines.append({"round_num": 4, **dict.fromkeys(names, [])})
    (tmp_path / "cohorts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "metrics.csv").write_text("round_num\n")
    nothing = {"rounds": 2.0, "client_seconds": 0.0, "bytes": 0.0, "seconds": 0.0}
    assert cost_of_rounds(str(tmp_path), 1, 3, lambda client, num_bytes: 1.0) == nothing
    (tmp_path / "metrics.csv").write_text(
        "round_num,comm/download_bytes_per_client,comm/upload_bytes_per_client,time/round_seconds\n"
        "1,10,1,9\n2,20,2,1\n3,30,3,2\n4,40,,4\n"
    )
    cost = cost_of_rounds(str(tmp_path), 1, 4, lambda client, num_bytes: num_bytes / 2)
    assert cost == {"rounds": 3.0, "client_seconds": (22 + 33) / 2, "bytes": 2 * 20 + 2 + 2 * 30 + 3.0, "seconds": 7.0}


@pytest.mark.parametrize(
    ("budget", "spent", "shown"),
    [("12 rounds", 7.0, "7/12 rounds"), ("0.08 MB", 65_712.0, "0.065712/0.08 MB"), ("1 h", 4000.0, "3,600/3,600 s")],
)
def test_progress_is_in_the_unit_of_the_budget_and_begins_where_the_study_is(budget, spent, shown, capsys):
    with study._progress_bar(Budget.of(budget), spent, True) as bar:
        assert bar.n == bar.initial
        bar.set_description("round 1")
    lines = capsys.readouterr().err.split("\r")
    assert all("%|" in line and f"| {shown} [" in line for line in lines if line.strip())
    assert lines[-1].startswith("round 1: ")
    assert ": :" not in lines[-1]


def test_a_study_has_one_writer(task, tmp_path):
    directory = tmp_path / "study"
    directory.mkdir()
    with (
        locks.sole_writer(str(directory), "another"),
        pytest.raises(UserError, match="study_dir.* is being"),
    ):
        trainer(task).tune(SPACE, "2 rounds", study_dir=str(directory))
    assert os.listdir(directory) == [locks.LOCK]


def test_arms_must_be_comparable_before_their_end_and_on_validation_clients(task, tmp_path):
    bare = dataclasses.replace(task, task=dataclasses.replace(task.task, validation=None))
    with pytest.raises(UserError, match="tuning needs a validation split"):
        trainer(bare).tune(SPACE, "2 rounds", study_dir=str(tmp_path / "study"))
    with pytest.raises(UserError, match="metric=num_examples: must be one of loss, accuracy((?!num_).)*$"):
        trainer(task).tune(SPACE, "2 rounds", study_dir=str(tmp_path / "study"), metric="num_examples")
    with pytest.raises(UserError, match="least_rounds=3 is more than run.rounds=2"):
        trainer(task).tune(SPACE, "2 rounds", study_dir=str(tmp_path / "study"), least_rounds=3)
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_a_study_of_private_runs_has_the_noise_of_all_its_arms(task):
    config = trainer(task, privacy=ft.DPFedAvg(target_epsilon=4.0, population=10_000)).config
    one, few = (private.plan_study(config, task.task, Budget(rounds)) for rounds in (2.0, 6.0))
    assert few[1].noise_multiplier > one[1].noise_multiplier
    assert few[0].privacy.noise_multiplier == few[1].noise_multiplier
    assert few[0].privacy.target_epsilon is None
    runs = [private.draw_runs(dataclasses.replace(few[1], mean_runs=5.0)) for _ in range(500)]
    assert min(runs) == 1
    assert sum(runs) / 500 == pytest.approx(5.0, rel=0.25)


@pytest.mark.slow
def test_private_selection_trains_whole_runs_and_releases_the_best(task, tmp_path, monkeypatch):
    """Of many runs selection is the cheaper way; how many there are is drawn once, also for a study that is resumed."""
    drawn = []

    def draw(plan):
        drawn.append(plan.mean_runs)
        return 3

    monkeypatch.setattr(private, "draw_runs", draw)
    many = trainer(task, rounds=1, privacy=ft.DPFedAvg(target_epsilon=4.0, population=10_000))
    found = many.tune({"client_learning_rate": True}, "400 rounds", study_dir=str(tmp_path))
    statement = (tmp_path / "privacy.md").read_text()
    assert "by private selection" in statement
    assert "the best run alone, of a geometric number of runs with the mean 400" in statement
    assert drawn == [400.0]
    assert len(found.table) == 3
    assert found.table["client_learning_rate"].is_unique
    assert (found.table["rounds"] == 1).all()
    assert found.table["loss"].is_monotonic_increasing
    of_selection = private.plan_study(many.config, task.task, Budget(400.0))[1].by_method["private selection"]
    assert found.trainer.config.privacy.noise_multiplier == of_selection
    again = many.tune({"client_learning_rate": True}, "400 rounds", study_dir=str(tmp_path))
    assert drawn == [400.0]
    pd.testing.assert_frame_equal(again.table, found.table)
