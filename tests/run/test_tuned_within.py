"""Algorithms that tune themselves within a run: a resumed run is the uninterrupted one, to the bit."""

import shutil

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import tff_tx as ft
from tests.complaints import problem

TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
CHOICES = {
    "client_learning_rate": [0.01, 0.1],
    "client_momentum": [0.0, 0.9],
    "client_clip_norm": [0.5],
    "local_epochs": [1, 2],
    "dropout": [0.3],
}

pytestmark = pytest.mark.usefixtures("made_once")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "more"),
    [
        (
            ft.FedEx(CHOICES, client=ft.SGD(0.1), epochs=2),
            {"compression": "stochastic8", "secure_aggregation": "arithmetic"},
        ),
        (ft.FedExP(steps=1), {"secure_aggregation": "arithmetic"}),
        (ft.DeltaSGD(steps=2), {"compression": "stochastic8"}),
    ],
    ids=["fed_ex", "fed_exp", "delta_sgd"],
)
def test_a_resumed_run_is_the_uninterrupted_one(algorithm, more, cache_dir, tmp_path):
    """With quantized updates and secure sums, where they go together."""
    data = ft.Data("digits", clients=ft.Iid(4))
    task = ft.load_task(data=data, model=ft.Model(config=TINY), cache_dir=cache_dir)
    run_dir, parts = tmp_path / "run", {"algorithm": algorithm, "clients_per_round": 3, "rounds": 3, **more}
    trainer = ft.Trainer(task, run_dir=str(run_dir), progress=False, **parts)

    def figures():
        table = pd.read_csv(run_dir / "metrics.csv")
        return table[[name for name in table if not name.startswith("time/")]]

    trainer.advance(1)
    shutil.copytree(run_dir, tmp_path / "begun")
    resumed, in_parts = trainer.advance(3), figures()
    shutil.rmtree(run_dir)
    whole = trainer.advance(3)
    tf.nest.map_structure(np.testing.assert_array_equal, tuple(resumed.trainable), tuple(whole.trainable))
    pd.testing.assert_frame_equal(in_parts, figures())
    assert len(in_parts) == 3
    shutil.rmtree(run_dir)
    shutil.copytree(tmp_path / "begun", run_dir)  # as a run that was killed after a round
    again = trainer.advance(3)
    tf.nest.map_structure(np.testing.assert_array_equal, tuple(again.trainable), tuple(whole.trainable))


@pytest.mark.parametrize(
    ("choices", "more", "sentence"),
    [
        ({"local_epochs": [1, 3]}, {"client.epochs": 2}, "has 3, which is more than client.epochs=2"),
        ({"local_epochs": [1, 2]}, {"client.steps": 4}, "local_epochs has no effect with client.steps=4"),
        ({"local_epochs": [1, 1.5]}, {"client.epochs": 2}, "1.5 must be a whole number"),
        ({"client_clip_norm": [0.0, 1.0]}, {}, "client_clip_norm: 0.0 must be"),
        ({"dropout": [0.1, 1.0]}, {}, "dropout: 1.0 must be"),
        ({"dropout": [0.1, 0.2]}, {"model.gradient_checkpointing": True}, "which computes with one rate"),
        ({"lora_learning_rate_factor": [1, 2]}, {}, "has no effect with model.trainable=all"),
        ({"client_momentum": [0.0, 0.9]}, {}, "has no effect with client.optimizer=adam"),
        ({"batch_size": [8, 16]}, {}, "batch_size cannot be drawn; settings that can are client_learning_rate"),
    ],
)
def test_choices_without_effect_are_a_sentence(choices, more, sentence):
    assert sentence in problem({"algorithm.name": "fed_ex", "algorithm.client_choices": choices, **more})
