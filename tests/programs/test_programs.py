"""The programs as users start them: processes, tiny models."""

import importlib.util
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import transformers
from PIL import Image

from tests.processes import ROOT, run, start
from tests.workers import running_in
from tff_tx.config import FIELDS, SECTIONS

TINY_VIT = (
    '--model_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}'
)
TINY_GPT2 = '--model_config={"n_embd": 8, "n_layer": 1, "n_head": 2}'
DIGITS = ["--dataset=digits", "--num_clients=6", "--clients_per_round=2", "--local_steps=2", TINY_VIT]
STDLIB = [
    *("--dataset=stdlib", "--num_clients=6", "--test_fraction=2", "--clients_per_round=2", "--local_steps=2"),
    *("--batch_size=4", "--max_length=16", "--max_train_examples_per_client=20", TINY_GPT2),
]


@pytest.fixture(scope="module")
def digits_run(place, cache):
    run("train", *DIGITS, "--rounds=3", "--run_dir=digits", "--rounds_per_evaluation=2", cache, cwd=place)
    return place / "digits"


@pytest.fixture(scope="module")
def stdlib_run(place, cache):
    run("train", *STDLIB, "--rounds=2", "--run_dir=stdlib", "--engine=tff_native", cache, cwd=place)
    return place / "stdlib"


def test_a_run_directory_holds_what_is_promised(digits_run):
    table = pd.read_csv(digits_run / "metrics.csv")
    assert table["round_num"].tolist() == [1, 2, 3]
    config = json.loads((digits_run / "config.json").read_text())
    assert config["run"]["seed"] == 1
    assert config["data"]["num_clients"] == 6
    assert {"tensorflow", "transformers", "tensorflow-federated"} < set(config["facts"]["versions"])
    results = json.loads((digits_run / "results.json").read_text())
    report = (digits_run / "report.md").read_text()
    assert f"{results['test']['accuracy']:.4f}" in report
    images = re.findall(r"\((plots/.*?)\)", report)
    for image in images:
        assert Image.open(digits_run / image).width > 100
    assert (digits_run / "report.html").read_text().count('src="data:image/png;base64,') == len(images) > 0
    card = (digits_run / "model" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert f"{results['test']['accuracy']:.4f}" in card
    assert "Trained without differential privacy" in card
    assert any((digits_run / "tensorboard").iterdir())
    model = transformers.TFAutoModelForImageClassification.from_pretrained(digits_run / "model")
    assert model.config.id2label[7] == "7"


def test_evaluate_gives_a_runs_own_results(digits_run, place, cache):
    out, _ = run("evaluate", f"--run_dir={digits_run}", cache, cwd=place)
    results = json.loads((digits_run / "results.json").read_text())["test"]
    evaluation = json.loads((digits_run / "evaluation" / "test.json").read_text())
    assert evaluation["overall"]["accuracy"] == pytest.approx(results["accuracy"], abs=1e-6)
    assert evaluation["overall"]["loss"] == pytest.approx(results["loss"], rel=1e-4)
    assert set(evaluation["over_clients"]["accuracy"]) == {"mean", "std", "p10", "p50", "p90", "worst", "best"}
    assert "p90" in out
    assert Image.open(digits_run / "evaluation" / "test.png").width > 100


def test_predict_classifies_pictures(digits_run, place):
    pixels = np.random.default_rng(0).integers(0, 255, [8, 8]).astype(np.uint8)
    Image.fromarray(pixels).save(place / "digit.png")
    out, _ = run("predict", f"--run_dir={digits_run}", "--data=digit.png", "--top_k=2", cwd=place)
    prediction = json.loads(out)
    model = transformers.TFAutoModelForImageClassification.from_pretrained(digits_run / "model")
    logits = model(pixels[None, None].astype(np.float32) / 255).logits.numpy()[0]
    assert prediction["label"] == str(np.argmax(logits))
    assert len(prediction["probabilities"]) == 2


@pytest.mark.slow
def test_predict_continues_text(stdlib_run, place):
    flags = [f"--run_dir={stdlib_run}", "--text=import ", "--max_new_tokens=5", "--temperature=1"]
    first, _ = run("predict", *flags, cwd=place)
    again, _ = run("predict", *flags, cwd=place)
    assert first == again
    assert json.loads(first)["text"] == "import "
    tokenizer = transformers.AutoTokenizer.from_pretrained(stdlib_run / "model")
    assert tokenizer("a")["input_ids"] == [ord("a") + 3, 1]


def test_nothing_is_left_running(stdlib_run, place, tmp_path):
    """The native engine's worker is gone with the program that the fixture ran in this directory."""
    assert running_in(place) == []
    worker = pathlib.Path(importlib.util.find_spec("tensorflow_federated").origin).parent / "data" / "worker_binary"
    left = subprocess.Popen([worker, "--port=0"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert [process.pid for process in running_in(tmp_path)] == [left.pid]  # or the test could not fail
    finally:
        left.kill()
        left.wait()


@pytest.mark.slow
def test_killed_and_started_again_ends_the_same(digits_run, place, cache):
    """kill -9 in the middle, then the same command: the same metrics and the same model, to the bit."""
    flags = [*DIGITS, "--rounds=3", "--run_dir=killed", "--rounds_per_evaluation=2", "--rounds_per_checkpoint=1", cache]
    process = start("train", *flags, cwd=place, start_new_session=True)
    deadline = time.monotonic() + 300
    while not (place / "killed" / "checkpoints" / "round_1").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    run("train", *flags, cwd=place)

    def stable(directory):
        table = pd.read_csv(directory / "metrics.csv", dtype=str)
        return table[[c for c in table if not c.startswith("time/")]]

    pd.testing.assert_frame_equal(stable(place / "killed"), stable(digits_run))
    weights = [(d / "model" / "model.safetensors").read_bytes() for d in (place / "killed", digits_run)]
    assert weights[0] == weights[1]


def test_a_mistake_ends_with_one_sentence_and_code_2(tmp_path, cache):
    """Found before TensorFlow is imported."""
    flags = [*DIGITS, "--local_epochs=2", cache]
    check_mistake(tmp_path, flags, "--local_steps=2 cannot be combined with --local_epochs=2", forked=True)


def test_an_earlier_name_of_a_flag_is_rejected_with_the_present_one(tmp_path, cache):
    check_mistake(tmp_path, ["--clipping=1", cache], "--clipping was renamed: use --update_clip_norm.", forked=True)


def test_nothing_but_the_sentence_comes_from_starting(tmp_path, cache):
    """Of a mistake found after the data were read; importing and reading print nothing of their own."""
    flags = [*DIGITS, "--clients_per_round=99", cache]
    check_mistake(tmp_path, flags, "--clients_per_round=99 is more than the 6 training clients", forked=False)


def check_mistake(tmp_path, flags, sentence, forked):
    _, err = run("train", *flags, "--run_dir=run", cwd=tmp_path, code=2, forked=forked)
    assert sentence in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_help_is_grouped_by_subject(tmp_path):
    out, _ = run("train", "--help", cwd=tmp_path)
    titles = [section.title() for section in SECTIONS]
    order = [out.index(f"\n{title}:\n") for title in titles]
    assert order == sorted(order)
    for field in FIELDS.values():
        name = f"--[no]{field.flag}" if field.type is bool else f"--{field.flag}"
        assert f"  {name}" in out
        if field.option.choices is not None:
            assert all(choice in out for choice in field.option.choices)
    assert "; default: 30" in out
    assert not re.search(r"\{\w+\.\w+\}", out)


OWN_MAIN = """
from absl import app
import tff_tx

def main(argv):
    from tff_tx import models
    import tensorflow as tf

    loss = tf.function(models.ctc(0).loss_fn, autograph=False)
    print(float(loss(tf.zeros([1, 3, 2]), tf.constant([[3, 1]]))))

app.run(main)
"""


@pytest.mark.slow
def test_functions_of_ops_are_found_where_a_main_imports_tensorflow():
    """Of ops such as this loss, which register their functions eagerly. 6 of 8 paths of 3 frames say the token once."""
    environment = {name: value for name, value in os.environ.items() if name != "TF2_BEHAVIOR"}
    found = subprocess.run([sys.executable, "-c", OWN_MAIN], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-2000:]
    assert float(found.stdout) == pytest.approx(-np.log(6 / 8), rel=1e-5)
    assert "alias_inplace" not in found.stderr


def test_other_flags_in_the_same_directory_are_refused(digits_run, place, cache):
    flags = [*DIGITS, "--rounds=3", f"--run_dir={digits_run}", "--rounds_per_evaluation=2", "--seed=5", cache]
    _, err = run("train", *flags, cwd=place, code=2)
    assert "--seed was 1, is 5" in err


@pytest.mark.parametrize(
    ("program", "flags", "sentence", "forked"),
    [
        ("evaluate", [], "set exactly one", False),
        ("evaluate", ["--run_dir=nowhere"], "--run_dir=nowhere has no config.json", True),
        ("predict", ["--run_dir=digits"], "set --text or --data", False),
        ("predict", ["--run_dir=digits", "--data=metrics.txt"], "--data=metrics.txt is not a picture", True),
        ("predict", ["--run_dir=digits", "--input=digit.png"], "--input was renamed: use --data.", False),
    ],
)
def test_mistakes_of_the_other_programs(digits_run, place, program, flags, sentence, forked):
    _, err = run(program, *flags, cwd=place, code=2, forked=forked)
    assert sentence in err
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupting_saves_and_says_how_to_go_on(place, cache, number, tmp_path, monkeypatch):
    run_dir = place / f"interrupted_{number}"
    flags = [*DIGITS, "--rounds=2000", f"--run_dir={run_dir}", "--rounds_per_evaluation=0", cache]
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process = start("train", *flags, cwd=place, default_signals=[number])
    deadline = time.monotonic() + 300
    metrics = run_dir / "metrics.csv"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 4:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert os.listdir(tmp_path) == []
    stopped = re.search(r"stopped after round (\d+) of 2000; the same command resumes it", err)
    assert stopped, err
    assert (run_dir / "checkpoints" / f"round_{stopped[1]}").exists()
