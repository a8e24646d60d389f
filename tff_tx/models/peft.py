"""Adapters in the format of Hugging Face PEFT, for the PyTorch model of the same architecture.

The format as of PEFT 0.21 (https://huggingface.co/docs/peft/developer_guides/checkpoint): `adapter_config.json`, and
`adapter_model.safetensors` with `base_model.model.MODULE.lora_A.weight` [r, in] and `lora_B.weight` [out, r] of each
adapted module, and the weights of trained modules under their own names. PEFT needs PyTorch and cannot write it here.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import transformers
from safetensors.numpy import save_file

from tff_tx.core.errors import UserError, setting
from tff_tx.models.functional import TransformerModel
from tff_tx.models.lora import Adapter
from tff_tx.models.tracing.adapted_layers import CONV1D, dense_layers
from tff_tx.models.tracing.hugging_face import model_classes, pytorch_module, pytorch_weight

_TASK_TYPES = {
    transformers.TFAutoModelForSequenceClassification: "SEQ_CLS",
    transformers.TFAutoModelForTokenClassification: "TOKEN_CLS",
    transformers.TFAutoModelForCausalLM: "CAUSAL_LM",
    transformers.TFAutoModelForSeq2SeqLM: "SEQ_2_SEQ_LM",
    transformers.TFAutoModelForQuestionAnswering: "QUESTION_ANS",
}
"""PEFT's name of a model's head, by the automatic class that the model is one of."""

_PREFIX = "base_model.model."


def check_adapter_format(model: TransformerModel) -> None:
    """Checks that a model's adapters can be written for PEFT.

    Raises:
      UserError: If the model is not of Hugging Face, or adapts other weights than kernels of dense layers.
    """
    if not isinstance(model.keras_model, transformers.TFPreTrainedModel):
        raise UserError(
            f"{type(model.keras_model).__name__} has no PyTorch counterpart, for which PEFT's adapters are: save the "
            "merged model instead."
        )
    dense = dense_layers(model.keras_model)
    for adapter in model.adapters:
        if id(adapter.weight) not in dense:
            raise UserError(
                f"{adapter.weight.name} is not the kernel of a dense layer: save the merged model, or leave it out "
                f"with {setting('lora.targets')}."
            )


def save_adapter(model: TransformerModel, weights: Any, directory: str, base: str | None = None) -> None:
    """Writes a directory that `peft.PeftModel.from_pretrained(base_model, directory)` opens.

    Where the server has changed the residual beside A and B, the factors of R + s A B are written, of the rank it has.
    The Keras model gets `weights`, unmerged.

    Args:
      model: One that `check_adapter_format` accepts.
      weights: Of `tff.learning.models.ModelWeights`.
      directory: An existing directory.
      base: Name or path of the base model, noted in the configuration.
    """
    model.read(weights)
    tensors, ranks, alphas = {}, {}, {}
    for adapter in model.adapters:
        module = pytorch_module(model.keras_model, adapter.weight)
        a, b, alpha = _factors(adapter, model.lora)
        tensors[f"{_PREFIX}{module}.lora_A.weight"] = np.ascontiguousarray(a.T)
        tensors[f"{_PREFIX}{module}.lora_B.weight"] = np.ascontiguousarray(b.T)
        ranks[module], alphas[module] = a.shape[1], alpha
    trained = _trained_modules(model)
    for variable in model.keras_model.weights:
        name, value = pytorch_weight(model.keras_model, variable)
        if any(name.startswith(f"{module}.") for module in trained):
            tensors[_PREFIX + name] = value
    dense = dense_layers(model.keras_model)
    kernels = {type(dense[id(adapter.weight)]) for adapter in model.adapters}
    config = {
        "peft_type": "LORA",
        "task_type": _task_type(model.keras_model),
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": model.lora.rank,
        "lora_alpha": model.lora.alpha,
        "lora_dropout": model.lora.dropout,
        "bias": "none",
        "fan_in_fan_out": kernels == {CONV1D},
        "target_modules": sorted(ranks),
        "modules_to_save": sorted(trained) or None,
        "rank_pattern": {m: r for m, r in ranks.items() if r != model.lora.rank},
        "alpha_pattern": {m: a for m, a in alphas.items() if a != model.lora.alpha},
    }
    save_file(tensors, os.path.join(directory, "adapter_model.safetensors"), metadata={"format": "pt"})
    with open(os.path.join(directory, "adapter_config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file, indent=2)
        file.write("\n")


def _task_type(keras_model) -> str | None:
    for auto, name in _TASK_TYPES.items():
        found = model_classes(auto).get(type(keras_model.config), ())
        if type(keras_model) in (found if isinstance(found, tuple) else (found,)):
            return name
    return None


def _factors(adapter: Adapter, lora) -> tuple[np.ndarray, np.ndarray, float]:
    """A [m, r], B [r, n] and alpha with alpha / r A B what the adapter adds to the weight."""
    if adapter.residual is None or not np.any(adapter.residual.numpy()):
        return adapter.a.numpy(), adapter.b.numpy(), lora.alpha
    u, s, v = np.linalg.svd(adapter.delta(lora.scale).astype(np.float64), full_matrices=False)
    rank = max(1, int(np.sum(s > s[0] * np.finfo(np.float32).eps)))
    root = np.sqrt(s[:rank])
    return (u[:, :rank] * root).astype(np.float32), (root[:, None] * v[:rank]).astype(np.float32), float(rank)


def _trained_modules(model: TransformerModel) -> set[str]:
    """The modules that are trained as they are, by the shortest names that have nothing else in them."""
    names = set(model.trainable_names)
    modules = [(pytorch_module(model.keras_model, v), v.name in names) for v in model.keras_model.weights]

    def others_in(name):
        return any(not trained and f"{module}.".startswith(f"{name}.") for module, trained in modules)

    found = set()
    for module, trained in modules:
        parts = module.split(".")
        prefixes = [".".join(parts[: i + 1]) for i in range(len(parts))]
        found.update([next((name for name in prefixes if not others_in(name)), module)] if trained else [])
    return found
