"""A file format from outside of the package: a reader, and a line that registers it."""

import pytest

from tff_tx import datasets
from tff_tx.core.errors import UserError
from tff_tx.datasets import FORMATS, DataSpec, Format


def read_fixed_width(path, columns):
    """Lines of a label in 8 characters, a client in 8, and a text."""
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            label, client, text = line[:8].strip(), line[8:16].strip(), line[16:].rstrip("\n")
            yield f"{path}, line {number}", {"label": label, "client": client, "text": text}


@pytest.fixture(autouse=True)
def fixed_width(monkeypatch):
    monkeypatch.setattr(FORMATS, "_entries", dict(FORMATS._entries))
    FORMATS.register("fixed_width")(Format(read_fixed_width, extensions=(".fw",), has_clients=True))


@pytest.fixture
def spec(tmp_path):
    rows = (f"{('even', 'odd')[n % 2]:8}{f'c{n % 3}':8}number {n}\n" for n in range(9))
    (tmp_path / "x.fw").write_text("".join(rows))
    return DataSpec("file", files=(str(tmp_path / "x.fw"),), cache_dir=str(tmp_path), test_fraction=0)


def test_a_format_of_ones_own_is_found_by_its_extension_and_loads(spec, byte_tokenizer):
    names = datasets.survey(spec).label_names
    assert names == ("even", "odd")
    clients = datasets.load(spec, datasets.SequenceClassificationEncoder(byte_tokenizer, names, 32)).train
    assert clients.sizes() == {"c0": 3, "c1": 3, "c2": 3}
    found = [
        (byte_tokenizer.decode(e["input_ids"].numpy(), skip_special_tokens=True), names[int(e["label"])])
        for e in clients.create_tf_dataset_for_client("c1")
    ]
    assert found == [("number 1", "odd"), ("number 4", "even"), ("number 7", "odd")]


def test_what_is_wrong_is_told_with_the_place_that_the_reader_gives(spec):
    with open(spec.files[0], "a") as file:
        file.write(f"{'':8}{'c1':8}no label\n")
    with pytest.raises(UserError, match=r"x\.fw, line 10: the column 'label'"):
        datasets.label_names(spec)
