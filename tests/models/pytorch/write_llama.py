"""Writes tiny models of the Llama family as a user of PyTorch does; run by the Python of .venv-pytorch.

Each has a directory below the one that is given, with `io.npz`: token ids and the logits that it makes of them.
"""

import pathlib
import sys

import numpy as np
import torch
import transformers

SMALL = dict(vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32)
MEMBERS = {
    "llama": (transformers.LlamaConfig, dict(num_key_value_heads=2, rms_norm_eps=1e-5), torch.float32, 500.0),
    "llama-bfloat16": (transformers.LlamaConfig, dict(num_key_value_heads=4), torch.bfloat16, 10_000.0),
    "llama-tied": (transformers.LlamaConfig, dict(num_key_value_heads=1, tie_word_embeddings=True), torch.float32, 1e6),
    "mistral": (transformers.MistralConfig, dict(num_key_value_heads=2, sliding_window=None), torch.float32, 10_000.0),
}

torch.manual_seed(0)
for name, (config_class, fields, dtype, theta) in MEMBERS.items():
    directory = pathlib.Path(sys.argv[1]) / name
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": theta}}
    config = config_class(**SMALL, **fields, **rope, max_position_embeddings=64, initializer_range=0.2)
    model = transformers.AutoModelForCausalLM.from_config(config).eval().to(dtype)
    model.save_pretrained(directory)
    ids = torch.randint(4, 50, (2, 9))
    with torch.no_grad():
        expected = model.float()(ids).logits.numpy()
    np.savez(directory / "io.npz", input_ids=ids.numpy(), expected=expected)
