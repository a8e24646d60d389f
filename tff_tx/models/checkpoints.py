"""Checkpoints as directories that transformers reads without PyTorch: hub ids, and weights from pickles."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import huggingface_hub
import numpy as np
import transformers
from safetensors.numpy import save_file

from tff_tx.core import files
from tff_tx.models.torch_file import read_torch_file

_DESCRIPTIONS = ("*.json", "*.txt", "*.model", "*.spm", "*.jinja")
_WEIGHTS = (
    ("model*.safetensors", "adapter_model.safetensors"),
    ("tf_model*.h5",),
    ("pytorch_model*.bin", "adapter_model.bin"),
)
"""Patterns of files, those to take first; the others are not downloaded."""


@functools.cache
def local(name: str) -> str:
    """The directory of a checkpoint.

    Args:
      name: A directory; a hub id; or "ID@REVISION", with a branch, a tag or a commit. What the hub asks a token for is
        downloaded with that of `HF_TOKEN` or of `huggingface-cli login`, which is stored nowhere else.

    Raises:
      OSError, ValueError: If there is no such directory, and no such model on the hub, or it cannot be reached.
    """
    if os.path.isdir(name):
        return name
    repo, _, revision = name.partition("@")
    if os.path.isdir(repo):
        raise ValueError(f"{repo} is a directory, which has no revisions")
    download = functools.partial(huggingface_hub.snapshot_download, repo, revision=revision or None)
    path = download(allow_patterns=[*_DESCRIPTIONS, *_WEIGHTS[0]])
    for patterns in _WEIGHTS[1:]:
        if not any(file.endswith((".safetensors", ".h5")) for file in os.listdir(path)):
            path = download(allow_patterns=list(patterns))
    return path


@contextlib.contextmanager
def opened(path: str) -> Iterator[str]:
    """A directory with the same model in files that need no PyTorch: itself, or one of the length of the block."""
    names = [name for name in _pickles(path) if os.path.exists(os.path.join(path, name))]
    if not names or any(file.endswith((".safetensors", ".h5")) for file in os.listdir(path)):
        yield path
        return
    weights = {}
    for name in names:
        weights |= read_torch_file(os.path.join(path, name))
    with written(weights, transformers.AutoConfig.from_pretrained(path)) as directory:
        yield directory


@contextlib.contextmanager
def written(weights: Mapping[str, np.ndarray], config: Any) -> Iterator[str]:
    """A directory, of the length of the block, with weights by their names in PyTorch."""
    with tempfile.TemporaryDirectory() as directory:
        config.save_pretrained(directory)
        path = os.path.join(directory, transformers.utils.SAFE_WEIGHTS_NAME)
        save_file(dict(weights), path, metadata={"format": "pt"})
        yield directory


def _pickles(path):
    index = os.path.join(path, "pytorch_model.bin.index.json")
    if not os.path.exists(index):
        return ["pytorch_model.bin"]
    return sorted({os.path.basename(name) for name in files.read_json(index)["weight_map"].values()})
