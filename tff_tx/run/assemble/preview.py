"""What a task and a checkpoint would make of data: the first examples, and how much of them is cut off."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from tff_tx import datasets, tasks
from tff_tx.config import RunConfig
from tff_tx.core.errors import setting, shown
from tff_tx.run.assemble.tasks import data_spec, model_spec

_EXAMPLES, _MEASURED, _SHOWN = 3, 1000, 24


def preview(config: RunConfig, tokenizer: str | None = None) -> list[str]:
    """What a task would make of the training data, in lines.

    Args:
      config: With a task, and a checkpoint if the task needs its tokenizer.
      tokenizer: The tokenizer without a checkpoint, such as "bytes".

    Raises:
      UserError: If the data do not have what the task reads, or the checkpoint cannot be loaded.
    """
    if config.model.pretrained is None:
        config = config.replace({"model.tokenizer": None if tokenizer == "whitespace" else tokenizer})
    definition, data, model = tasks.task_kind(config.task.kind), data_spec(config), model_spec(config)
    facts = tasks.find_facts(definition, data, model, datasets.survey(data))
    encoder = definition.encoder(facts)
    lines = [f"Task: {definition.title}", *filter(None, [facts.note])]
    if facts.label_names:
        lines.append(f"Labels: {_cut(', '.join(facts.label_names), 300)}")
    chunk = next(datasets.open_source(data).pools["train"](encoder.columns)).head(_MEASURED)
    examples = encoder.encode(chunk)
    lengths = [len(example["input_ids"]) for example in examples if "input_ids" in example]
    if lengths:
        full = np.mean([length >= model.max_length for length in lengths])
        lines.append(
            f"Tokens of {len(lengths):,} examples: median {np.median(lengths):.0f}, at most {max(lengths)}; {full:.1%} "
            f"fill {shown(setting('task.max_length'))}={model.max_length} and may be cut."
        )
    for number, example in enumerate(itertools.islice(examples, _EXAMPLES), start=1):
        lines += [f"Example {number}:", *(f"  {n}: {_value(n, v, facts)}" for n, v in example.items())]
    return lines


def _value(name: str, value: Any, facts: tasks.Facts) -> str:
    value = np.asarray(value)
    if name in ("label", "labels") and facts.label_names and value.ndim == 0 and value.dtype.kind == "i":
        return f"{value} ({facts.label_names[value]})"
    if name.endswith("input_ids") and facts.tokenizer is not None:
        return _cut(" ".join(facts.tokenizer.convert_ids_to_tokens(value.tolist())), 300)
    if value.ndim > 1 or value.size > _SHOWN:
        return f"{value.dtype} {list(value.shape)}, {value.min():.4g} to {value.max():.4g}"
    return str(value.tolist())


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
