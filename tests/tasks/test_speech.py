"""Recordings from files to predictions: what is read of them, and that training, evaluation and prediction agree."""

import io
import json

import jiwer
import numpy as np
import pandas as pd
import pytest
import soundfile
import transformers

from tff_tx import datasets, inference, models, tasks
from tff_tx.config.algorithm import ClientConfig
from tff_tx.core.errors import UserError
from tff_tx.datasets.sources import open_source
from tff_tx.run import evaluation

WAV2VEC2 = {
    **dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, classifier_proj_size=8),
    **dict(conv_dim=[8, 8], conv_kernel=[10, 3], conv_stride=[5, 4], num_feat_extract_layers=2),
    **dict(num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2),
}
WHISPER = {
    **dict(d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2),
    **dict(encoder_ffn_dim=16, decoder_ffn_dim=16, num_mel_bins=8, max_target_positions=16),
}
WORDS = ("one", "two")


def encoded(pitch, rate=8000, seconds=0.05, channels=1, **how):
    """A tone as a WAV file, or another."""
    tone = 0.5 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)
    file = io.BytesIO()
    soundfile.write(file, np.stack([tone] * channels, 1), rate, **{"format": "WAV", **how})
    return file.getvalue()


@pytest.mark.parametrize("rate", [1, 999, 1_000_001, 2**31 - 1])
def test_a_header_with_an_unusual_rate_is_refused(rate):
    """A second of sound at it would be gigabytes, or the filter that leads to a usual one."""
    content = bytearray(encoded(300))
    content[24:28] = rate.to_bytes(4, "little")
    with pytest.raises(ValueError, match=f"it has {rate:,} samples a second"):
        datasets.as_recording(bytes(content))


@pytest.fixture
def table(tmp_path):
    """Two words as tones, by two clients, of different lengths."""
    rows = [
        {"audio": {"bytes": encoded(200 + 800 * (i % 2), seconds=0.03 + 0.01 * i), "path": f"{i}.wav"}}
        | {"label": WORDS[i % 2], "target": WORDS[i % 2], "client": f"c{i // 4}"}
        for i in range(8)
    ]
    path = str(tmp_path / "words.parquet")
    pd.DataFrame(rows).to_parquet(path)
    return path


def load(kind, path, architecture="wav2vec2", config=WAV2VEC2, **fields):
    data = datasets.DataSpec(
        dataset="file",
        files=(path,),
        test_fraction=1,
        split="client",
        client_column="client",
        cache_dir=path + ".cache",
    )
    tokenizer = fields.pop("tokenizer", "characters")
    spec = tasks.ModelSpec(
        architecture=architecture, config=config, tokenizer=tokenizer, sampling_rate=8000, max_seconds=1.0, **fields
    )
    return data, tasks.create_task(kind, data, spec, ClientConfig(batch_size=4), eval_batch_size=3, progress=False)


@pytest.mark.parametrize("how", [{"format": "FLAC"}, {"subtype": "PCM_U8"}, {"subtype": "FLOAT"}, {"format": "OGG"}])
def test_files_in_any_format_are_the_same_recording(how):
    plain, other = (datasets.as_recording(encoded(300, **h)) for h in ({}, {**how, "channels": 2}))
    assert other.rate == 8000
    assert other.samples.shape == plain.samples.shape
    tolerance = 0.1 if how.get("format") == "OGG" else 0.01
    np.testing.assert_allclose(other.samples, plain.samples, atol=tolerance)


def test_resampling_keeps_the_tone_and_drops_what_the_lower_rate_cannot_hold():
    recording = datasets.as_recording(encoded(300, rate=16_000, seconds=0.5))
    expected = datasets.as_recording(encoded(300, rate=11_025, seconds=0.5)).samples
    found = recording.resampled(11_025)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[500:5000], expected[500:5000], atol=0.01)
    too_high = datasets.as_recording(encoded(7000, rate=16_000, seconds=0.5)).resampled(8000)
    assert np.abs(too_high[100:-100]).max() < 0.01


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"RIFF but no sound", "a file of 17 bytes"),
        ("no_such_file.wav", "'no_such_file.wav'"),
        ({"path": "a.wav", "bytes": b"RIFF"}, "'a.wav'"),
        ({"bytes": b"RIFF"}, "a file of 4 bytes"),
        ({"path": None}, "what has neither bytes nor a path"),
        (3, "3"),
    ],
)
def test_what_is_no_recording_is_rejected_with_its_place(value, shown):
    with pytest.raises(UserError, match=f"row 7: {shown} is no recording .*audio_column"):
        datasets.read_recording(value, "row 7")


def test_recordings_are_normalized_by_themselves_and_cut():
    extractor = transformers.Wav2Vec2FeatureExtractor(sampling_rate=8000)
    encoder = datasets.AudioClassificationEncoder(extractor, WORDS, max_seconds=0.02, least_samples=100)
    rows = pd.DataFrame({"audio": [encoded(300, rate=16_000)], "label": ["two"], "where": ["row 1"]})
    (example,) = encoder.encode(rows)
    assert example["label"] == 1
    assert example["input_values"].shape == (160,)
    assert example["input_values"].mean() == pytest.approx(0, abs=1e-5)
    assert example["input_values"].std() == pytest.approx(1, abs=1e-3)
    with pytest.raises(UserError, match="row 1: the recording has 80 samples at 8000 Hz, and the model takes 100"):
        encoder.input(encoded(300, seconds=0.01), "row 1")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("Hi, there!", "hi there"),
        ("it's 5", "it's 5"),
        ("naïve", "row 1: the tokenizer has no token for 'ï' of the transcript"),
        ("...", "row 1: the transcript '...' gives no token"),
        ("oooooo", "row 1: the transcript 'oooooo' needs 11 frames, and the model makes 10"),
    ],
)
def test_transcripts_become_characters(target, expected):
    extractor, tokenizer = (
        transformers.Wav2Vec2FeatureExtractor(sampling_rate=8000),
        models.load_tokenizer("characters"),
    )
    encoder = datasets.CTCEncoder(extractor, tokenizer, 1.0, 1, lambda samples: 10)
    rows = pd.DataFrame({"audio": [encoded(300)], "target": [target], "where": ["row 1"]})
    if ":" in expected:
        with pytest.raises(UserError, match=expected):
            encoder.encode(rows)
        return
    (example,) = encoder.encode(rows)
    assert tokenizer.decode(example["labels"], group_tokens=False) == expected


def evaluate(task):
    import tensorflow_federated as tff

    evaluator = evaluation.Evaluator(task.model, task.eval_batches_fn(task.test), 1)
    weights = tff.learning.models.ModelWeights(*task.model.initial_weights)
    return evaluator.evaluate(weights, task.test.client_ids, show_progress=False)[0]


@pytest.mark.slow
def test_words_are_classified_alike_in_evaluation_and_prediction(table, tmp_path):
    data, task = load("audio_classification", table)
    assert task.label_names == WORDS
    x, y = next(iter(task.client_batches(tasks.client_arguments(task.train.client_ids, 1, 1)[0])))
    assert sorted(y.numpy().tolist()) == [0, 0, 1, 1]
    lengths = sorted(x["attention_mask"].numpy().sum(1).tolist())
    assert x["input_values"].shape[1] == lengths[-1]
    directory = str(tmp_path / "model")
    models.save_pretrained(task.model.keras_model, directory, task.processor)
    predictor = inference.build_predictor("audio_classification", directory, tasks.ModelSpec(), data=data, batch_size=3)
    found = pd.DataFrame(predictor.predict(predictor.read(files=[table])))
    assert "audio" not in found  # which a table of results has no place for
    one = found[found["client"] == task.test.client_ids[0]]
    metrics = evaluate(task)
    assert np.mean(one["label"] == one["predicted_label"]) == pytest.approx(metrics["accuracy"])
    chances = [row["probabilities"][row["label"]] for _, row in one.iterrows()]
    assert -np.log(chances).mean() == pytest.approx(metrics["loss"], abs=1e-3)
    (tmp_path / "all" / "more").mkdir(parents=True)
    paths = [str(tmp_path / "all" / name) for name in ("a.wav", "b.WAV", "more/c.wav")]
    for path in paths:
        with open(path, "wb") as file:
            file.write(encoded(200, rate=22_050))
    (tmp_path / "all" / "README.md").write_text("# Recordings")
    several = list(predictor.predict(predictor.read(files=[str(tmp_path / "all")])))
    assert [one["file"] for one in several] == paths
    assert set(several[0]) == {"file", "label", "probabilities"}
    assert list(predictor.predict(predictor.read(files=paths[:1]))) == several[:1]
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "x.py").write_text("")
    with pytest.raises(UserError, match="predict.data=.*/none: the folder has no recordings"):
        predictor.read(files=[str(tmp_path / "none")])
    (tmp_path / "all" / "metadata.csv").write_text("file_name,note\nmore/c.wav,last\n")
    (listed,) = predictor.predict(predictor.read(files=[str(tmp_path / "all")]))
    assert (listed["note"], listed["label"]) == ("last", several[2]["label"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "config", "tokenizer"),
    [
        ("wav2vec2", WAV2VEC2, "characters"),
        ("hubert", WAV2VEC2 | {"feat_extract_norm": "layer"}, "bytes"),
        ("whisper", WHISPER, "bytes"),
    ],
)
def test_speech_is_transcribed_and_scored(table, tmp_path, architecture, config, tokenizer):
    data, task = load("speech_recognition", table, architecture, config, tokenizer=tokenizer, max_target_length=8)
    directory = str(tmp_path / "model")
    models.save_pretrained(task.model.keras_model, directory, task.tokenizer, task.processor)
    spec = tasks.ModelSpec(max_target_length=8)
    predictor = inference.build_predictor("speech_recognition", directory, spec, data=data, batch_size=3)
    found = list(predictor.predict(predictor.read(files=[table])))
    assert len(found) == 8
    # The same whatever the company.
    alone = inference.build_predictor("speech_recognition", directory, spec, data=data, batch_size=1)
    assert [one["transcript"] for one in alone.predict(alone.read(files=[table]))] == [o["transcript"] for o in found]
    metrics = evaluate(task)
    assert 0 < metrics["loss"] < np.inf
    scores = predictor.score_split("test")
    assert scores["words"].tolist() == [1] * 4
    assert scores["characters"].tolist() == [3] * 4
    rates = predictor.pooled(scores.drop(columns="client").mean())
    wrong = sum(o["transcript"].strip() != o["target"] for o in found if o["client"] == task.test.client_ids[0])
    assert rates["wer"] >= wrong / 4
    assert json.loads((tmp_path / "model" / "preprocessor_config.json").read_text())["sampling_rate"] == 8000


def test_word_and_character_error_rates_equal_those_of_jiwer(monkeypatch):
    """All errors over all words, of any records: insertions, deletions, substitutions, and nothing that was heard."""
    true = ["a b c e", "y z", "grüße aus köln", "one two three", "seven"]
    said = ["a b c d", "x", "grusse aus", "", "seven ate nine"]
    task = tasks.task_kind("speech_recognition")
    predictor = inference.build_predictor(task.name, None, tasks.ModelSpec(), tokenizer=object(), batch_size=2)
    monkeypatch.setattr(predictor, "_said", lambda audio: [said[place] for place in audio])
    monkeypatch.setattr(predictor, "_as_written", str)
    scores = predictor.score(pd.DataFrame({"audio": range(len(true)), "target": true}))
    assert predictor.pooled(scores.mean()).to_dict() == pytest.approx(
        {"wer": jiwer.wer(true, said), "cer": jiwer.cer(true, said)}
    )
    assert scores["word_errors"].tolist() == [1, 2, 2, 3, 2]
    silent = predictor.score(pd.DataFrame({"audio": [2], "target": [" "]}))
    assert silent.iloc[0].to_dict() == {"word_errors": 2, "words": 0, "character_errors": 10, "characters": 0}


def test_folders_and_tables_of_recordings(tmp_path):
    for client, word in (("ann", "one"), ("ann", "two"), ("bob", "one")):
        (tmp_path / "all" / client / word).mkdir(parents=True)
        (tmp_path / "all" / client / word / "0.wav").write_bytes(encoded(200 if word == "one" else 900))
    (tmp_path / "words.csv").write_text("audio,target\nall/ann/two/0.wav,two\n")
    found = {
        name: pd.concat(open_source(datasets.DataSpec("file", files=(str(tmp_path / name),))).pools["train"](columns))
        for name, columns in (("all", ["audio", "label", "client"]), ("words.csv", ["audio", "target"]))
    }
    assert found["all"][["client", "label"]].to_numpy().tolist() == [["ann", "one"], ["ann", "two"], ["bob", "one"]]
    expected = datasets.as_recording(encoded(900)).samples
    for recording in (found["all"]["audio"].iloc[1], found["words.csv"]["audio"].iloc[0]):
        np.testing.assert_array_equal(datasets.read_recording(recording, "").samples, expected)
