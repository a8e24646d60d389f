"""Adapters in the format of Hugging Face PEFT as a start: merged into the weights of their base model."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from tff_tx.core import files
from tff_tx.models.torch_file import read_torch_file

_PREFIX = "base_model.model."


def adapter_config(path: str) -> dict[str, Any] | None:
    """What a directory with an adapter, and no model, says of it; None: it is none.

    Raises:
      ValueError: If it is another kind of adapter than LoRA on dense layers, or names no base model.
    """
    file = os.path.join(path, "adapter_config.json")
    if not os.path.exists(file) or os.path.exists(os.path.join(path, "config.json")):
        return None
    config = files.read_json(file)
    if config.get("peft_type") != "LORA" or config.get("use_dora"):
        raise ValueError(f"{file} describes no LoRA, or one with DoRA: merge it into its model with PEFT")
    if not config.get("base_model_name_or_path"):
        raise ValueError(f"{file} names no base_model_name_or_path: add the directory or hub id of the base model")
    return config


def merged(
    weights: Mapping[str, np.ndarray], path: str, config: Mapping[str, Any], transposed: Collection[str]
) -> dict[str, np.ndarray]:
    """The base model's weights with an adapter's added, and those that were trained beside it in place of them.

    Args:
      weights: Of the base model, by their names in PyTorch.
      path: The directory of the adapter.
      config: Of `adapter_config`.
      transposed: Names of the weights that are [in, out] in PyTorch too (GPT-2's Conv1D).

    Raises:
      ValueError: If the adapter is of another model.
    """
    file = os.path.join(path, "adapter_model.safetensors")
    found = load_file(file) if os.path.exists(file) else read_torch_file(os.path.join(path, "adapter_model.bin"))
    found = {name.removeprefix(_PREFIX).replace(".modules_to_save", ""): value for name, value in found.items()}
    result = dict(weights)
    for name, value in found.items():
        module, lora, part = name.partition(".lora_")
        target = f"{module}.weight" if lora else name
        if lora and target not in weights:
            raise ValueError(f"{path} adapts {module}, which its base model does not have")
        if not lora:
            result[target] = value
        elif part.startswith("A."):
            change = _scale(config, module, len(value)) * (found[f"{module}.lora_B.weight"] @ value)
            result[target] = weights[target] + (change.T if target in transposed else change).astype(np.float32)
        elif not part.startswith("B.weight"):
            raise ValueError(f"{path} has {name}, which is no LoRA of a dense layer: merge it into its model with PEFT")
    return result


def _scale(config, module, rank):
    patterns = (config.get("alpha_pattern") or {}).items()
    alpha = next((a for name, a in patterns if re.fullmatch(rf"(.*\.)?({name})", module)), config["lora_alpha"])
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)
