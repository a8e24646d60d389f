"""Data that come with the installation: nothing to download."""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Iterator

import numpy as np
import pandas as pd

from tff_tx.datasets.records import FILES_PER_CHUNK, Source, chunks_of

# Test suites are generated or deliberately odd text, site-packages differ from machine to machine,
# and these packages are programs and grammars shipped beside the library rather than the library.
_NOT_LIBRARY = frozenset(
    ["site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"]
    + ["idlelib", "turtledemo", "lib2to3", "ensurepip"]
)


def stdlib() -> Source:
    """The Python standard library's own sources: real text, naturally unequal, one client a module.

    One record a module; its `text` is the whole file, its `client` the dotted module path. Left out
    are empty modules, files that are not UTF-8, and test suites.
    """

    def read(wants: frozenset) -> Iterator[pd.DataFrame]:
        return chunks_of(_modules(), size=FILES_PER_CHUNK)

    def digest() -> str:
        content = hashlib.sha256()
        for module in _modules():
            content.update(f"{module['client']}\0{module['text']}\0".encode())
        return content.hexdigest()

    return Source({"train": read}, digest, True, lambda: frozenset(["text", "client"]))


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


def digits() -> Source:
    """Handwritten digits (E. Alpaydin and C. Kaynak, UCI 1998; scikit-learn's `load_digits`).

    1,797 images of 8x8 pixels; `pixels` is float32 [1, 8, 8] in [0, 1] (the data have 0..16),
    `label` one of "0" .. "9". They have no clients of their own.
    """

    def load():
        from sklearn.datasets import load_digits

        bunch = load_digits()
        return (bunch.images[:, np.newaxis] / 16.0).astype(np.float32), bunch.target

    def read(wants: frozenset) -> Iterator[pd.DataFrame]:
        images, targets = load()
        return chunks_of(
            {"pixels": image, "label": str(target), "where": f"digits, image {number}"}
            for number, (image, target) in enumerate(zip(images, targets), start=1)
        )

    def digest() -> str:
        images, targets = load()
        return hashlib.sha256(images.tobytes() + targets.tobytes()).hexdigest()

    columns = frozenset(["pixels", "label"])
    names = tuple(str(digit) for digit in range(10))
    return Source({"train": read}, digest, False, lambda: columns, label_names=names)


def breast_cancer() -> Source:
    """Breast cancer Wisconsin, diagnostic (W. Wolberg et al., UCI 1995; scikit-learn's `load_breast_cancer`).

    569 tumours; `numbers` are 30 measures of their cells' nuclei, `label` is "malignant" or "benign". They have no
    clients of their own.
    """

    def load():
        from sklearn.datasets import load_breast_cancer

        bunch = load_breast_cancer()
        return bunch.data.astype(np.float64), bunch.target, bunch

    def read(wants: frozenset) -> Iterator[pd.DataFrame]:
        measures, targets, bunch = load()
        return chunks_of(
            {"numbers": row, "label": str(bunch.target_names[target]), "where": f"breast_cancer, row {number}"}
            for number, (row, target) in enumerate(zip(measures, targets), start=1)
        )

    def digest() -> str:
        measures, targets, _ = load()
        return hashlib.sha256(measures.tobytes() + targets.tobytes()).hexdigest()

    columns = frozenset(["numbers", "label"])
    names = tuple(str(name).replace(" ", "_") for name in load()[2].feature_names)
    return Source(
        {"train": read}, digest, False, lambda: columns, label_names=("malignant", "benign"), numeric_names=names
    )
