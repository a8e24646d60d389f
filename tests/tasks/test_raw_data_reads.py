"""How often raw data are parsed before the first batch: once for the survey, once for encoding, then no more."""

import dataclasses
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tff_tx import datasets, tasks
from tff_tx.config.algorithm import ClientConfig

LINES = {
    "text": "text,label\n" + "".join(f"t{n},l{n % 2}\n" for n in range(30)),
    "table": "age,ward,label\n" + "".join(f"{n},w{n % 3},l{n % 2}\n" for n in range(30)),
    "items": "user,item\n" + "".join(f"u{n % 5},i{n * 7 % 11}\n" for n in range(60)),
}
BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
CASES = {
    "text": ("sequence_classification", {}, {"architecture": "bert", "tokenizer": "bytes", "config": BERT}),
    "labels_dealt": (
        "sequence_classification",
        {"partition": "dirichlet", "num_clients": 3},
        {"architecture": "bert", "tokenizer": "bytes", "config": BERT},
    ),
    "table": (
        "tabular_classification",
        {"numeric_columns": ("age",), "categorical_columns": ("ward",)},
        {"architecture": "ft_transformer", "config": {"hidden_size": 4, "num_attention_heads": 1}},
    ),
    "items": (
        "next_item",
        {"client_column": "user", "label_column": "item", "split": "time", "test_fraction": 1},
        {"architecture": "sasrec", "config": {"hidden_size": 4, "num_attention_heads": 1}},
    ),
    "images": ("image_classification", {}, {"architecture": "vit", "config": {**BERT, "patch_size": 4}}),
}


def write(case, tmp_path):
    if case == "images":
        images = []
        for number in range(12):
            file = io.BytesIO()
            Image.fromarray(np.full([8, 8, 3], 20 * number, np.uint8)).save(file, "PNG")
            images.append({"image": {"bytes": file.getvalue()}, "label": number % 2})
        pd.DataFrame(images).to_parquet(tmp_path / "x.parquet")
        return tmp_path / "x.parquet"
    name = "text" if case == "labels_dealt" else case
    (tmp_path / "x.csv").write_text(LINES[name])
    return tmp_path / "x.csv"


@pytest.fixture
def parses(monkeypatch):
    """The paths of which a row was read, once for every time that reading started."""
    started = []

    def counting(read):
        def rows(path, columns, **settings):
            for number, row in enumerate(read(path, columns, **settings)):
                if not number:
                    started.append(path)
                yield row

        return rows

    for name in ("csv", "parquet"):
        file_format = datasets.FORMATS[name]
        monkeypatch.setitem(
            datasets.FORMATS._entries, name, dataclasses.replace(file_format, read=counting(file_format.read))
        )
    return started


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_raw_data_are_parsed_twice_and_then_no_more(case, tmp_path, parses):
    kind, fields, model = CASES[case]
    path = str(write(case, tmp_path))
    data = datasets.DataSpec("file", files=(path,), cache_dir=str(tmp_path / "cache"), **fields)

    def create(**others):
        model_spec = tasks.ModelSpec(max_length=16, **model)
        return tasks.create_task(kind, dataclasses.replace(data, **others), model_spec, ClientConfig(), progress=False)

    first = create()
    assert parses == [path, path]
    again = create()
    assert parses == [path, path]
    assert again.train.path == first.train.path
    create(seed=1)  # deals anew what has been surveyed
    assert parses == [path, path, path]
