"""The Python standard library's own sources: real text, naturally unequal, one client a module.

One record a module; its `text` is the whole file, its `client` the dotted module path. Left out are empty modules,
files that are not UTF-8, and test suites.
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator

from tff_tx.datasets.sources import FILES_PER_CHUNK, DataSet, Source, record_pool

# Test suites are generated or deliberately odd text, site-packages differ from machine to machine,
# and these packages are programs and grammars shipped beside the library rather than the library.
_NOT_LIBRARY = frozenset(
    ["site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"]
    + ["idlelib", "turtledemo", "lib2to3", "ensurepip"]
)


def _modules() -> Iterator[dict]:
    root = sysconfig.get_path("stdlib")
    for directory, subdirectories, files in os.walk(root):
        subdirectories[:] = sorted(name for name in subdirectories if name not in _NOT_LIBRARY and "-" not in name)
        for name in sorted(files):
            path = os.path.join(directory, name)
            if not name.endswith(".py"):
                continue
            with open(path, "rb") as file:
                content = file.read()
            try:
                text = content.decode("utf-8")
            except UnicodeDecodeError:
                continue
            if text:
                module = os.path.relpath(path, root)[: -len(".py")].replace(os.sep, ".")
                if module.endswith(".__init__"):
                    module = module[: -len(".__init__")]
                yield {"text": text, "client": module, "where": path}


def _open(spec) -> Source:
    return Source(
        {"train": record_pool("stdlib", frozenset(["text", "client"]), _modules, FILES_PER_CHUNK)}, has_clients=True
    )


STDLIB = DataSet(
    _open,
    defaults={
        "task": "causal_lm",
        "architecture": "gpt2",
        "tokenizer": "bytes",
        "local_steps": 16,
        "model_config": {
            "n_embd": 128,
            "n_layer": 2,
            "n_head": 4,
            "activation_function": "gelu",
            "attn_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "resid_pdrop": 0.0,
        },
    },
)
