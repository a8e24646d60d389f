"""Recordings are heard in PyTorch's pipelines as by `programs.predict`."""

import json
import pathlib
import subprocess

import numpy as np
import pandas as pd
import pytest
import soundfile

from tests.models.test_pytorch_checkpoints import PYTHON
from tests.processes import run

SMALL = {
    **dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, conv_dim=[8, 8]),
    **dict(conv_kernel=[10, 3], conv_stride=[5, 4], num_feat_extract_layers=2, num_conv_pos_embeddings=4),
    **dict(num_conv_pos_embedding_groups=2),
}
TASKS = {
    "audio_classification": ("audio-classification", ["--label_column=tone"]),
    "speech_recognition": (
        "automatic-speech-recognition",
        ["--target_column=said", "--tokenizer=characters", "--client_learning_rate=0.02"],
    ),
}


def record(directory):
    """24 tones of different lengths, low and high, with what is said in each."""
    directory.mkdir()
    generator, rows = np.random.default_rng(0), []
    for n in range(24):
        time = np.arange(4000 + 100 * n) / 16000
        tone = 0.3 * np.sin(2 * np.pi * (300 + 200 * (n % 2)) * time) + 0.01 * generator.standard_normal(len(time))
        soundfile.write(directory / f"{n}.wav", tone, 16000, subtype="PCM_16")
        rows.append((f"{n}.wav", ["low", "high"][n % 2], ["ab", "ba"][n % 2], n % 3))
    pd.DataFrame(rows, columns=["file_name", "tone", "said", "who"]).to_csv(directory / "metadata.csv", index=False)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_pipelines_hear_the_same(task, tmp_path):
    if not PYTHON.exists():
        pytest.skip("no environment with PyTorch: run make pytorch")
    record(tmp_path / "wav")
    pipeline, more = TASKS[task]
    common = ["--rounds=4", "--clients_per_round=2", "--local_steps=4", "--batch_size=4", "--run_dir=run"]
    model = ["--architecture=wav2vec2", f"--model_config={json.dumps(SMALL)}", "--sampling_rate=16000"]
    run("train", "--data=wav", f"--task={task}", "--client_column=who", *more, *common, *model, cwd=tmp_path)
    files = ["wav/0.wav", "wav/1.wav", "wav/23.wav"]
    out, _ = run("predict", "--run_dir=run", f"--data={','.join(files)}", cwd=tmp_path)
    script = pathlib.Path(__file__).parent / "pytorch" / "listen.py"
    command = [PYTHON, script, pipeline, "run/model", *files]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    heard = [json.loads(line) for line in done.stdout.splitlines()]
    expected = [json.loads(line) for line in out.splitlines()]
    assert len(heard) == len(expected) == 3, done.stderr
    for ours, theirs in zip(expected, heard):
        if task == "speech_recognition":
            assert theirs["text"] == ours["transcript"] != ""
        else:
            assert {row["label"]: pytest.approx(row["score"], abs=2e-4) for row in theirs} == ours["probabilities"]
