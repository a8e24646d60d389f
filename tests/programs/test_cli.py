"""What programs say of mistakes."""

import subprocess
import sys

import pytest

from tests.processes import ROOT

FAILS = """
import sys
from programs import cli
from tff_tx.config.tools import EvaluateConfig, PredictConfig
from tff_tx.core.errors import UserError, setting

def main(settings):
    if "train with" == sys.argv[0]:
        raise UserError(f"no model: train with {setting('model.personal')}.")
    raise UserError(f"x.csv, line 2: the problem: set {setting('SETTING')}, or {setting('run.directory')}.")

sys.argv = [NAME]
cli.Program(PROGRAM).run()
"""
FILES = "; write files as those of training are written."


@pytest.mark.parametrize(
    ("program", "setting", "flag", "more"),
    [
        ("main, PredictConfig", "data.encoding", "encoding", FILES),
        ("main, PredictConfig", "task.max_length", "max_length", "."),
        ("main, PredictConfig", "data.files", "data", None),
        ("main, PredictConfig", "evaluate.words", "words", None),
        ("main, EvaluateConfig", "data.encoding", "encoding", FILES),
        ("main, EvaluateConfig, settings=['data']", "data.encoding", "encoding", None),
        ("main", "data.encoding", "encoding", None),
    ],
)
def test_a_remedy_that_the_program_has_no_flag_for(program, setting, flag, more):
    """It goes by the run; another program's flag of the same name is its own."""
    code = FAILS.replace("PROGRAM", program).replace("SETTING", setting).replace("NAME", "'x'")
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    expected = f"Error: x.csv, line 2: the problem: set --{flag}, or --run_dir."
    if more is not None:
        expected += f" This program has no --{flag}: it goes by what the run was trained with{more}"
    assert (ended.returncode, ended.stderr) == (2, f"{expected}\n")


def test_a_remedy_that_is_to_train_otherwise():
    code = FAILS.replace("PROGRAM", "main, PredictConfig").replace("NAME", "'train with'")
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (2, "Error: no model: train with --personal.\n")
