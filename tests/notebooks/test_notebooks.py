"""The notebooks that are committed, and the cell that all of them begin with; `make test-notebooks` runs them."""

import json
import os
import sys

import pytest

from tests.notebooks.hosts import ROOT, Host
from tools import notebooks

SOURCES = notebooks.sources()


def cells(source):
    return json.loads(source.with_suffix(".ipynb").read_text("utf-8"))["cells"]


def first_cell():
    return "".join(cells(SOURCES[0])[1]["source"])


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_has_a_badge_the_first_cell_and_no_outputs(source):
    title, first, *lesson = cells(source)
    assert notebooks.badge(source.stem, notebooks.repository()) in "".join(title["source"])
    assert "".join(first["source"]) == first_cell()
    assert [cell for cell in lesson if cell.get("outputs") or cell.get("execution_count")] == []
    assert f"({source.stem}.ipynb)" in (ROOT / "notebooks" / "README.md").read_text("utf-8")


def test_there_are_ten_in_order():
    assert [int(path.stem.partition("_")[0]) for path in SOURCES] == [*range(1, 11)]
    assert len(list((ROOT / "notebooks").glob("*.ipynb"))) == 10


def test_a_forks_address_is_set_in_one_place():
    address = "https://github.com/someone/fork"
    assert notebooks.badge("1_news", address).endswith("/github/someone/fork/blob/main/notebooks/1_news.ipynb)")
    assert f'"TFF_TX_SOURCE", "{address}")' in notebooks.first_cell(address)
    assert first_cell() == notebooks.first_cell(notebooks.repository()).replace("# %load", "%load").strip()


@pytest.fixture
def elsewhere(tmp_path):
    hosts = []

    def start(source):
        hosts.append(Host(sys.executable, {**os.environ, "TFF_TX_SOURCE": source}, cwd=tmp_path))
        return hosts[-1]

    yield start
    for host in hosts:
        host.close()


def test_the_wrong_directory_is_one_sentence(elsewhere, tmp_path):
    said = elsewhere(f"{tmp_path}/none").text(first_cell())
    assert f"{tmp_path} is in no checkout of tff_tx, and {tmp_path}/none cannot be cloned" in said
    assert "Traceback" not in said


def test_no_repository_to_clone_is_one_sentence(elsewhere, tmp_path):
    said = elsewhere("").text(first_cell())
    assert f"{tmp_path} is in no checkout of tff_tx, and TFF_TX_SOURCE names no repository to clone" in said
    assert "Traceback" not in said


def test_where_there_is_no_checkout_one_is_fetched(elsewhere, tmp_path):
    said = elsewhere(f"file://{ROOT}").text(first_cell())
    assert "%%tff cells run" in said
    assert (tmp_path / "tff_tx_checkout" / "tff_tx" / "__init__.py").exists()
