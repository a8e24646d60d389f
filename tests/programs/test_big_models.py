"""Long sequences and large models, as users say it."""

import json

import numpy as np
import pandas as pd
import pytest
import transformers

from tests.complaints import complaint
from tests.processes import run

DISTILBERT = '--model_config={"dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 16, "max_position_embeddings": 80}'
TEXTS = [
    *("--dataset=file", "--data=texts.csv", "--task=sequence_classification", "--architecture=distilbert"),
    *("--tokenizer=bytes", DISTILBERT, "--num_clients=4", "--clients_per_round=2", "--batch_size=4", "--rounds=2"),
    *("--max_length=80", "--rounds_per_evaluation=0"),
]
LORA = ["--trainable=lora", "--lora_rank=2"]
ALL = ["--gradient_accumulation_steps=2", "--gradient_checkpointing", "--frozen_dtype=bfloat16", "--bucket_by_length"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    directory = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abc "), n)) for n in rng.integers(3, 70, 60)]
    pd.DataFrame({"text": texts, "label": rng.choice(["x", "y"], 60)}).to_csv(directory / "texts.csv", index=False)
    return directory


@pytest.mark.slow
def test_a_run_with_all_of_it(place, cache):
    out, _ = run("train", *TEXTS, *LORA, *ALL, "--run_dir=all", cache, cwd=place)
    told = next(line for line in out.splitlines() if line.startswith("padding: "))
    with_buckets, without = (float(word.rstrip("%")) for word in told.split() if "%" in word)
    assert 0 < with_buckets < without / 1.5
    config = json.loads((place / "all" / "config.json").read_text())
    assert config["model"]["frozen_dtype"] == "bfloat16"
    sent = pd.read_csv(place / "all" / "metrics.csv")["comm/download_bytes_per_client"]
    assert (sent == 4 * config["facts"]["parameters"]["trainable"] + 4).all()  # and the learning rate
    model = transformers.TFAutoModelForSequenceClassification.from_pretrained(place / "all" / "model")
    assert {str(v.dtype.name) for v in model.weights} == {"float32"}
    table = model.distilbert.embeddings.weight.numpy()
    np.testing.assert_array_equal(table.view(np.uint32) & 0xFFFF, 0)  # the bits that bfloat16 has not

    # A run that goes on reads its frozen weights from the checkpoint.
    run("train", *TEXTS, *LORA, *ALL, "--rounds=2", "--run_dir=all", cache, cwd=place)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (
            ["--frozen_dtype=bfloat16"],
            "--frozen_dtype=bfloat16 cannot be combined with --trainable=all: no weight is frozen",
        ),
        (["--gradient_accumulation_steps=0"], "--gradient_accumulation_steps=0: must be at least 1"),
        (
            ["--dataset=digits", "--task=image_classification", "--architecture=vit", "--bucket_by_length"],
            "all examples of --task=image_classification have the same",
        ),
    ],
)
def test_mistakes(place, tmp_path, cache, flags, sentence):
    flags = [f"--data={place / 'texts.csv'}" if flag.startswith("--data=") else flag for flag in [*TEXTS, *flags]]
    if "--dataset=digits" in flags:
        flags = [f for f in flags if not f.startswith(("--data=", "--model_config", "--tokenizer", "--dataset=file"))]
        flags.append(
            '--model_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 4}'
        )
    assert sentence in complaint(*flags, f"--run_dir={tmp_path}/run", cache, loads=True)
    assert not (tmp_path / "run").exists()
