"""Speech recognition by CTC, from WAV files to transcripts, as users run it."""

import json

import numpy as np
import pytest
import soundfile

from tests.processes import run

CONFIG = {
    **dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, classifier_proj_size=8),
    **dict(conv_dim=[8, 8], conv_kernel=[10, 3], conv_stride=[5, 4], num_feat_extract_layers=2),
    **dict(num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2),
}


@pytest.mark.slow
def test_recordings_are_trained_on_evaluated_and_transcribed(tmp_path):
    lines = ["audio,target,client"]
    for number in range(9):
        tone = np.sin(2 * np.pi * (200 + 800 * (number % 2)) * np.arange(400 + 40 * number) / 8000)
        soundfile.write(tmp_path / f"{number}.wav", tone / 2, 8000)
        lines.append(f"{number}.wav,{('one', 'two')[number % 2]},c{number // 3}")
    (tmp_path / "wavs.csv").write_text("\n".join(lines) + "\n")
    run(
        *("train", "--task=speech_recognition", "--data=wavs.csv", "--client_column=client", "--run_dir=run"),
        *("--split=client", "--test_fraction=1", "--rounds=1", "--clients_per_round=2", "--batch_size=3"),
        *("--architecture=wav2vec2", f"--model_config={json.dumps(CONFIG)}", "--tokenizer=characters"),
        *("--sampling_rate=8000", "--max_seconds=1", "--cache_dir=cache"),
        cwd=tmp_path,
    )
    trained = json.loads((tmp_path / "run" / "results.json").read_text())["test"]
    run("evaluate", "--run_dir=run", "--cache_dir=cache", cwd=tmp_path)
    found = json.loads((tmp_path / "run" / "evaluation" / "test.json").read_text())["overall"]
    assert trained["num_examples"] == 3
    assert {name: found[name] for name in trained} == pytest.approx(trained, rel=1e-4)
    assert found["wer"] > 0
    out, _ = run("predict", "--run_dir=run", "--data=0.wav,1.wav", cwd=tmp_path)
    assert [json.loads(line)["file"] for line in out.splitlines()] == ["0.wav", "1.wav"]
