"""The environment of `%%tff`: found, made, or one sentence that says why not."""

import os
import pathlib
import shutil
import sys
import time

import pytest

from tests.notebooks.hosts import ROOT, Host

COPIED = ("Makefile", "requirements.txt", "setup.py", "tff_tx/core/platform_check.py")
TOOLS = ("make", "sh", "dirname", "touch", "rm", "cat", "git")


@pytest.fixture
def checkout(tmp_path):
    """What the extension needs of the repository."""
    root = tmp_path / "checkout"
    for name in COPIED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    shutil.copytree(ROOT / "notebooks" / "tff_cells", root / "notebooks" / "tff_cells")
    return root


@pytest.fixture
def offline(tmp_path):
    """A machine without any Python but the notebook's, nor a network."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(shutil.which(name))
    return {"PATH": str(tools), "HOME": str(tmp_path), "PIP_NO_INDEX": "1"}


def first_cell(checkout, environment):
    """What loading the extension prints, and its seconds."""
    host = Host(sys.executable, environment, cwd=checkout)
    try:
        # This Python could run the cells itself.
        hide = "u.find_spec = lambda name: name != 'tensorflow_federated' and found(name)"
        host.run("import importlib.util as u; found = u.find_spec; " + hide)
        started = time.monotonic()
        return host.text("import sys; sys.path.insert(0, 'notebooks')\n%load_ext tff_cells"), time.monotonic() - started
    finally:
        host.close()


def test_no_python_anywhere_is_one_sentence(checkout, offline):
    said, _ = first_cell(checkout, offline)
    fetching, sentence = said.splitlines()
    assert fetching == "Found no Python 3.9, 3.10 or 3.11: fetching Python 3.11 with uv."
    assert sentence.startswith("No Python 3.9, 3.10 or 3.11 is on this machine, and uv could not fetch one")
    assert sentence.endswith("install Python 3.11 with its venv module, or check the network.")


def test_no_make_is_one_sentence(checkout, offline):
    os.remove(pathlib.Path(offline["PATH"], "make"))
    said, _ = first_cell(checkout, offline)
    assert said == "The environment of %%tff cells is made by make, which is not installed: install it."


def test_a_named_python_must_have_the_packages(checkout, offline, tmp_path):
    said, _ = first_cell(checkout, {**offline, "TFF_PYTHON": str(tmp_path / "python")})
    assert said.startswith(f"TFF_PYTHON={tmp_path / 'python'}: must be a Python 3.9 to 3.11 with the packages")
    assert "\n" not in said


def test_an_environment_that_is_complete_is_ready_at_once(checkout, offline):
    for name in ("requirements.txt", "setup.py"):
        os.utime(checkout / name, (0, 0))
    (checkout / ".venv").symlink_to(sys.prefix)
    if not (checkout / ".venv" / "complete").exists():
        pytest.skip("this environment was not made by make setup")
    said, seconds = first_cell(checkout, offline)
    assert f"%%tff cells run on {checkout / '.venv' / 'bin' / 'python'}. Ready after" in said
    assert seconds < 20  # to make one takes more than a minute


@pytest.mark.slow
def test_packages_that_cannot_be_had_are_one_sentence(checkout, offline):
    base = os.path.realpath(sys.executable)
    pathlib.Path(offline["PATH"], "python3.11").symlink_to(base)
    said, _ = first_cell(checkout, offline)
    assert said.startswith("Setting up .venv with")
    assert said.splitlines()[-1].startswith("The packages of requirements.txt could not be installed into")
    assert "Traceback" not in said
