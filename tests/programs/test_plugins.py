"""A module of plug-ins (algorithm, aggregator, task, file format), from the command line and from Python."""

import importlib
import inspect
import sys

import numpy as np
import pandas as pd
import pytest

import tff_tx as ft
from tests import tiny
from tests.aggregators import test_plugin as aggregator
from tests.algorithms import test_plugin as algorithm
from tests.datasets import test_plugin as file_format
from tests.processes import run
from tests.tasks import test_plugin as task
from tff_tx.config import registries

IMPORTS = """
import collections

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx import datasets, models, tasks
from tff_tx.aggregators import Aggregator
from tff_tx.algorithms import Algorithm, capabilities, client
from tff_tx.algorithms.fed_avg import client_update
from tff_tx.config.registries import AGGREGATORS, ALGORITHMS, FORMATS, TASKS
from tff_tx.datasets import Format
from tff_tx.tasks.recipe import PADDING

STEP = 0.01
"""
LINES = """
ALGORITHMS.register("sign_fed_avg")(
    Algorithm("sign_fed_avg", "SignFedAvg", "", build_sign_fed_avg, capabilities.ALL)
)
AGGREGATORS.register("majority_vote")(Aggregator(lambda settings, cohort: MajorityVote(), breakdown=0.5))
TASKS.register("sentence_regression")(SentenceRegression())
FORMATS.register("fixed_width")(Format(read_fixed_width, extensions=(".fw",), has_clients=True))
"""
PARTS = (algorithm.build_sign_fed_avg, aggregator.MajorityVote, *task.SOURCES, file_format.read_fixed_width)
NAMES = {
    "ALGORITHMS": "sign_fed_avg",
    "AGGREGATORS": "majority_vote",
    "TASKS": "sentence_regression",
    "FORMATS": "fixed_width",
}
SETTINGS = {
    "max_length": 8,
    "rounds": 2,
    "clients_per_round": 2,
    "batch_size": 4,
    "local_steps": 2,
    "test_fraction": 1,
    "rounds_per_evaluation": 1,
}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """The module, sentences whose score is their share of good words, and a tokenizer."""
    directory = tmp_path_factory.mktemp("plugins")
    sources = "\n\n".join(inspect.getsource(part) for part in PARTS)
    (directory / "my_plugins.py").write_text(IMPORTS + "\n\n" + sources + "\n" + LINES)
    rng = np.random.default_rng(0)
    sentences = [rng.choice(["good", "bad"], 4) for _ in range(48)]
    rows = (f"{np.mean(s == 'good'):<8}{f'c{n % 4}':8}{' '.join(s)}\n" for n, s in enumerate(sentences))
    (directory / "x.fw").write_text("".join(rows))
    tiny.words_tokenizer(["good", "bad"]).save_pretrained(directory / "words")
    return directory


@pytest.fixture
def imported(workplace, monkeypatch):
    """The module, imported here for the length of a test."""
    for name in NAMES:
        registry = getattr(registries, name)
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.syspath_prepend(workplace)
    yield importlib.import_module("my_plugins")
    del sys.modules["my_plugins"]


def figures(run_dir):
    table = pd.read_csv(run_dir / "metrics.csv", dtype=str)
    return table[[column for column in table if not column.startswith("time/")]]


def test_help_lists_plug_ins(workplace):
    out, _ = run("train", "--help", "--import=my_plugins", cwd=workplace)
    text = " ".join(out.split())
    for name in NAMES.values():
        assert f", {name}." in text, f"{name} is no choice of its setting"


@pytest.mark.slow
def test_plug_ins_train_from_the_command_line_and_from_python(workplace, imported, cache, cache_dir):
    flags = [f"--{name}={value}" for name, value in SETTINGS.items()]
    model = (
        '--model_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}'
    )
    run(
        *("train", "--import=my_plugins", "--algorithm=sign_fed_avg", "--aggregator=majority_vote"),
        *("--task=sentence_regression", "--dataset=file", "--data=x.fw", "--architecture=bert", model),
        *("--tokenizer=words", *flags, cache, "--run_dir=by_flags"),
        cwd=workplace,
    )
    loaded = ft.load_task(
        "sentence_regression",
        data=ft.Data(str(workplace / "x.fw")),
        model=ft.Model(architecture="bert", config=task.BERT, tokenizer=str(workplace / "words")),
        cache_dir=cache_dir,
        **SETTINGS,
    )
    trainer = ft.Trainer(
        loaded,
        algorithm=ft.Algorithm("sign_fed_avg"),
        aggregation=ft.aggregator("majority_vote"),
        run_dir=str(workplace / "by_trainer"),
        progress=False,
    )
    history = trainer.fit()
    assert history["train/loss"].between(0, np.inf, inclusive="neither").all()
    assert history["eval/loss"].notna().all()
    pd.testing.assert_frame_equal(figures(workplace / "by_flags"), figures(workplace / "by_trainer"))
