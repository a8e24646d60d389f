"""What is trained and travels, as users say it."""

import json

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import transformers

from tests.complaints import complaint
from tests.processes import run

TINY_VIT = (
    '--model_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}'
)
DIGITS = [
    *("--dataset=digits", "--num_clients=6", "--clients_per_round=3", "--local_steps=2", "--rounds=2", TINY_VIT),
    "--rounds_per_evaluation=0",
]


def columns(run_dir):
    return pd.read_csv(run_dir / "metrics.csv")


@pytest.mark.slow
def test_clients_of_different_ranks_and_a_residual(place, cache):
    flags = ["--trainable=lora", "--lora_rank=1,2", "--lora_aggregation=residual", "--lora_dropout=0.1"]
    run("train", *DIGITS, *flags, "--run_dir=lora", cache, cwd=place)
    config = json.loads((place / "lora" / "config.json").read_text())
    adapters, head = 2 * 2 * (8 * 2), 8 * 10 + 10
    assert config["facts"]["parameters"]["trainable"] == adapters + head
    sent = columns(place / "lora")["comm/download_bytes_per_client"]
    assert 0 <= sent[0] - 4 * (adapters + head + 2 * 8 * 8) < 50
    assert sum(config["facts"]["parameters"].values()) > 2 * sent[0] / 4

    model = transformers.TFAutoModelForImageClassification.from_pretrained(place / "lora" / "model")
    adapter = json.loads((place / "lora" / "adapter" / "adapter_config.json").read_text())
    tensors = safetensors.numpy.load_file(place / "lora" / "adapter" / "adapter_model.safetensors")
    assert adapter["target_modules"] == [f"vit.encoder.layer.0.attention.attention.{n}" for n in ("query", "value")]
    np.testing.assert_array_equal(
        tensors["base_model.model.classifier.weight"].T, model.classifier.kernel, "the merged model has the same head"
    )


@pytest.mark.slow
def test_the_head_alone_is_sent(place, cache):
    run("train", *DIGITS, "--trainable=head", "--run_dir=head", cache, cwd=place)
    assert columns(place / "head")["comm/download_bytes_per_client"].tolist() == [4 * (8 * 10 + 10)] * 2
    assert not (place / "head" / "adapter").exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--lora_rank=4"], "--lora_rank=4 has no effect with --trainable=all: remove it, or set --trainable=lora"),
        (["--trainable=heads"], "--trainable=heads: must be one of all, head, bias, layers:RE, lora"),
        (["--trainable=lora", "--lora_rank=big"], "--lora_rank=big: must be a list of whole numbers"),
        (
            ["--trainable=lora", "--lora_aggregation=svd", "--algorithm=mime_lite"],
            "--lora_aggregation=svd cannot be combined with --algorithm=mime_lite",
        ),
        (
            ["--trainable=lora", "--lora_rank=2,4", "--buffer_size=2", "--seconds_per_example=1"],
            "--lora_rank=2,4 cannot be combined with --buffer_size=2: all clients of a round must start from the same",
        ),
        (
            ["--trainable=lora", "--lora_aggregation=residual", "--aggregator=median"],
            "--lora_aggregation=residual cannot be combined with --aggregator=median",
        ),
        (
            ["--trainable=lora", "--lora_aggregation=stack", "--server_optimizer=adam"],
            "it sets A and B, so that the server optimizer",
        ),
    ],
)
def test_mistakes(tmp_path, cache, flags, sentence):
    assert sentence in complaint(*DIGITS, *flags, f"--run_dir={tmp_path}/run", cache, loads=True)
    assert not (tmp_path / "run").exists()
