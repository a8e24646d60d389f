"""Files whose names do not say what they are: told by their first lines, or refused."""

import gzip

import pytest

from tests.datasets.test_everyday_files import read
from tff_tx import datasets
from tff_tx.core.errors import UserError
from tff_tx.datasets import DataSpec


@pytest.mark.parametrize("name", ["SMSSpamCollection", "x.txt", "x.dat", "x.txt.gz"])
@pytest.mark.parametrize("delimiter", ["\t", "::", ";", ","])
def test_tables_whose_names_do_not_say_so_are_told_by_their_lines(name, delimiter, tmp_path):
    rows = [["spam" if n % 2 else "ham", f'call "{n}" now', str(n)] for n in range(6)]
    path = tmp_path / name
    with (gzip.open if name.endswith("gz") else open)(path, "wt") as file:
        file.writelines(delimiter.join(row).replace('"', "'") + "\n" for row in rows)
    found = read(path, "label", "text", columns=("label", "text", "number"))
    assert found == [[row[0] for row in rows], [row[1].replace('"', "'") for row in rows]]
    trained_on, other = DataSpec("file", files=(str(path),)), tmp_path / "other.txt"
    other.write_bytes(path.read_bytes() if not name.endswith("gz") else gzip.decompress(path.read_bytes()))
    assert datasets.format_of_table(str(path), trained_on) == "csv"
    assert datasets.format_of_table(str(other), trained_on) == ("csv" if ".txt" in name else None)  # texts, a line each


def test_words_and_tags_in_files_called_txt_are_sentences(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("EU B-ORG\nrejects O\n\nPeter B-PER\n\n")
    assert read(path, "tokens") == [[["EU", "rejects"], ["Peter"]]]


@pytest.mark.parametrize(
    "text",
    [
        "It was dark, and stormy.\nIt fell, and fell.\nHe said no, she yes.\nThey went, and came.\nThe end, at last.\n",
        "EU NNP\nrejects VBZ\n\nPeter NNP\nsings VBZ\n\nhere RB\n",  # tags of any names
        "a\tb\nc\td\n",  # too few lines
        "a\tb\n" * 5 + "c\n",
    ],
)
def test_what_may_as_well_be_no_table_is_not_taken_for_one(text, tmp_path):
    path = tmp_path / "x.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=r"the format of .* cannot be told"):
        read(path, "text")
