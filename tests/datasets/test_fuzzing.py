"""Every reader ends in records or in a sentence, whatever is damaged in a file."""

import os
import pathlib
import shutil
import time

import pytest

from tests.datasets import fuzzing
from tff_tx.config.registries import FORMATS


def test_every_format_has_a_file_to_damage():
    assert set(fuzzing.SEEDS) == set(FORMATS)


@pytest.mark.parametrize("name", fuzzing.SEEDS)
def test_a_good_file_and_those_that_readers_failed_at(name, tmp_path):
    for number, content in enumerate(fuzzing.seeds(name)):
        (tmp_path / str(number)).write_bytes(content)
        fuzzing.read(name, str(tmp_path / str(number)))


OF_LIBRARIES = {"hdf5": "no end"}
"""What no reader can help: HDF5's library never ends where the heap of texts is damaged, and cannot be interrupted."""


@pytest.mark.slow
@pytest.mark.parametrize("name", fuzzing.SEEDS)
def test_mutants(name, tmp_path, monkeypatch):
    shutil.copytree(fuzzing.CORPUS, tmp_path / "corpus")
    monkeypatch.setattr(fuzzing, "CORPUS", tmp_path / "corpus")  # finds stay out of the source
    finds = fuzzing.fuzz(name, 200)
    assert [what for what in finds.values() if not what.startswith(OF_LIBRARIES.get(name, "\0"))] == []


def test_finds_are_kept(tmp_path, monkeypatch):
    """A reader that crashes, hangs or raises is a find, and its file a seed from then on."""
    shutil.copytree(fuzzing.CORPUS, tmp_path / "corpus", dirs_exist_ok=True)
    monkeypatch.setattr(fuzzing, "CORPUS", tmp_path / "corpus")
    monkeypatch.setattr(fuzzing, "_SECONDS", 1)
    monkeypatch.setattr(fuzzing, "mutant", lambda files, number: str(number).encode())
    before = len(fuzzing.seeds("csv"))

    def read(name, path):
        ends = {"3": lambda: 1 / 0, "5": os.abort, "6": lambda: time.sleep(60)}
        ends.get(pathlib.Path(path).read_text(), lambda: None)()

    monkeypatch.setattr(fuzzing, "read", read)
    found = fuzzing.fuzz("csv", 7)
    ends = [what.split(":")[0] for what in found.values()]
    assert [end for end in ends if end != "no end after 1 s"] == ["ZeroDivisionError", "exit code -6"]
    assert "no end after 1 s" in ends  # on a busy machine others, too
    assert len(fuzzing.seeds("csv")) == before + len(ends)
