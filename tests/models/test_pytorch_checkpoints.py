"""What is saved loads in PyTorch, with the newest transformers, with equal outputs: one model of each kind of layer."""

import json
import pathlib
import subprocess

import numpy as np
import pytest
import tensorflow as tf

from tff_tx import models

PYTHON = pathlib.Path(__file__).parents[2] / ".venv-pytorch" / "bin" / "python"
ENCODER = dict(
    vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, pad_token_id=1
)
PAIR = dict(
    vocab_size=60,
    d_model=16,
    encoder_layers=2,
    decoder_layers=2,
    encoder_ffn_dim=32,
    decoder_ffn_dim=32,
    encoder_attention_heads=2,
    decoder_attention_heads=2,
    pad_token_id=1,
    eos_token_id=59,
)
GPT = dict(vocab_size=60, n_embd=16, n_layer=2, n_head=2, n_positions=32, pad_token_id=1)
SMALL = dict(vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=32)
DEBERTA = dict(relative_attention=True, pos_att_type=["p2c", "c2p"], share_att_key=True)
SPEECH = {
    **dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, vocab_size=12),
    **dict(conv_dim=[8, 8], conv_kernel=[10, 3], conv_stride=[5, 4], num_feat_extract_layers=2, pad_token_id=0),
    **dict(num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, classifier_proj_size=16),
}
WHISPER = {
    **dict(d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2),
    **dict(encoder_ffn_dim=32, decoder_ffn_dim=32, num_mel_bins=8, max_source_positions=20, max_target_positions=16),
    **dict(vocab_size=60, pad_token_id=1, bos_token_id=2, eos_token_id=2, decoder_start_token_id=3),
    **dict(begin_suppress_tokens=None),
}
LLAMA = {**SMALL, "intermediate_size": 32, "num_key_value_heads": 1, "rope_theta": 500.0, "rms_norm_eps": 1e-5}
SPEECH_RECOGNITION = "tff_tx.models.speech:TFAutoModelForSpeechRecognition"
OUR_AUTO_CLASS = {"CTC": SPEECH_RECOGNITION, "SpeechSeq2Seq": SPEECH_RECOGNITION}
MEMBERS = (
    ("MaskedLM", "bert", ENCODER),
    ("MaskedLM", "convbert", {**ENCODER, "embedding_size": 16}),
    ("SequenceClassification", "albert", {**ENCODER, "embedding_size": 8}),
    # With projections of positions of their own, as no published model has, TensorFlow's class names them otherwise.
    ("SequenceClassification", "deberta-v2", {**ENCODER, **DEBERTA}),
    ("SequenceClassification", "distilbert", dict(vocab_size=60, dim=16, n_layers=2, n_heads=2, hidden_dim=32)),
    ("SequenceClassification", "gpt2", GPT),
    ("TokenClassification", "roberta", ENCODER),
    ("TokenClassification", "electra", {**ENCODER, "embedding_size": 8}),
    ("QuestionAnswering", "bert", ENCODER),
    ("CausalLM", "gpt2", GPT),
    ("CausalLM", "opt", {**SMALL, "ffn_dim": 32, "word_embed_proj_dim": 16}),
    ("CausalLM", "mistral", {**SMALL, "intermediate_size": 32, "num_key_value_heads": 1}),
    ("CausalLM", "llama", LLAMA),
    ("SequenceClassification", "llama", {**LLAMA, "tie_word_embeddings": True, "pad_token_id": 1}),
    ("AudioClassification", "wav2vec2", SPEECH),
    ("CTC", "hubert", {**SPEECH, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}),
    ("CTC", "wav2vec2", SPEECH),
    ("SpeechSeq2Seq", "whisper", WHISPER),
    ("Seq2SeqLM", "bart", PAIR),
    ("Seq2SeqLM", "t5", dict(vocab_size=60, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, pad_token_id=1)),
    ("ImageClassification", "vit", {**ENCODER, "image_size": 32, "patch_size": 8}),
    ("ImageClassification", "convnext", dict(hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1], image_size=32)),
    ("ImageClassification", "resnet", dict(embedding_size=8, hidden_sizes=[16, 16, 16, 16], depths=[1, 1, 1, 1])),
    ("ImageClassification", "mobilevit", dict(image_size=64, hidden_sizes=[16, 16, 16])),
    ("ImageClassification", "swiftformer", dict(depths=[1, 1, 1, 1], embed_dims=[16, 16, 16, 16])),
)


def write(directory, task, architecture, config):
    """A model with no weight at its initial value, and what it makes of some input."""
    auto_class, generator = f"TFAutoModelFor{task}", np.random.default_rng(0)
    ours = OUR_AUTO_CLASS.get(task, auto_class)
    vocabulary = {k: v for k, v in config.items() if k != "vocab_size" or task != "ImageClassification"}
    model = models.from_config(ours, architecture, vocabulary)
    for variable in model.weights:
        if variable.dtype.is_floating:
            noise = 0.05 * generator.standard_normal(variable.shape)
            variable.assign_add(tf.cast(np.abs(noise) if "variance" in variable.name else noise, variable.dtype))
    models.save_pretrained(model, directory)
    if task == "ImageClassification":
        shape = model.dummy_inputs["pixel_values"].shape
        inputs = {"pixel_values": generator.standard_normal(shape).astype(np.float32)}
    elif task in ("AudioClassification", "CTC"):
        inputs = {"input_values": generator.standard_normal([2, 300]).astype(np.float32)}
    elif task == "SpeechSeq2Seq":
        inputs = {"input_features": generator.standard_normal([2, 8, 40]).astype(np.float32)}
        inputs["decoder_input_ids"] = generator.integers(4, 50, (2, 8))
    else:
        names = ["input_ids", *(["decoder_input_ids"] if task == "Seq2SeqLM" else [])]
        inputs = {name: generator.integers(4, 50, (1, 8)) for name in names}
    expected = model({name: tf.constant(value) for name, value in inputs.items()}, training=False)[0]
    np.savez(directory / "io.npz", expected=expected, auto_class=auto_class, **inputs)


@pytest.mark.slow
def test_pytorch_reads_every_kind_of_layer(tmp_path):
    if not PYTHON.exists():
        pytest.skip("no environment with PyTorch: run make pytorch")
    for task, architecture, config in MEMBERS:
        write(tmp_path / f"{task}-{architecture}", task, architecture, config)
    script = pathlib.Path(__file__).parent / "pytorch" / "compare.py"
    done = subprocess.run([PYTHON, script, tmp_path], capture_output=True, text=True, check=False)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(MEMBERS), done.stderr
    for member in found:
        assert member["difference"] < 1e-4, member
        assert member["faults"] == [], member


@pytest.mark.slow
def test_checkpoints_of_pytorch_are_read(tmp_path):
    """Those of the Llama family, of which TensorFlow has no class: in float32 and bfloat16, with tied embeddings."""
    if not PYTHON.exists():
        pytest.skip("no environment with PyTorch: run make pytorch")
    script = pathlib.Path(__file__).parent / "pytorch" / "write_llama.py"
    done = subprocess.run([PYTHON, script, tmp_path], capture_output=True, text=True, check=False)
    found = sorted(tmp_path.iterdir())
    assert len(found) == 4, done.stderr
    for directory in found:
        arrays = np.load(directory / "io.npz")
        model = models.from_pretrained("TFAutoModelForCausalLM", str(directory))
        assert model.fresh_weights == ()
        logits = model(tf.constant(arrays["input_ids"]), training=False).logits.numpy()
        expected = arrays["expected"]
        assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max(), directory.name
