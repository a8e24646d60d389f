"""What the library says names settings that exist, and no flag: the command line alone names flags."""

import ast
import pathlib
import re

import pytest

from tff_tx.config import FIELDS, tools

ROOT = pathlib.Path(__file__).resolve().parents[2] / "tff_tx"
FILES = sorted(ROOT.rglob("*.py"))
PATHS = {*FIELDS, *(field.path for section in tools.SECTIONS for field in section.fields())}
OTHERS = ("--logdir", "--port", "--max_concurrent_computation_calls", "--head", "--resources", "--no-deps", "--stop")
"""Flags of other programs."""
WRITERS = ("config/run_config.py", "run/trainer.py", "analysis/auditing/report.py", "run/reporting.py")
"""Files that write flags for the command line, as `Trainer.as_flags` does, or draw dashed lines."""


def strings(tree):
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return (n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in docs)


def name(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_settings_in_messages_exist(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setting":
            (argument,) = node.args
            if isinstance(argument, ast.Constant):
                assert argument.value in PATHS, f"{name(path)}, line {node.lineno}"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_no_message_names_a_flag(path):
    for node in strings(ast.parse(path.read_text())):
        flags = [flag for flag in re.findall(r"(?<![\w-])--[a-z][a-z_-]+", node.value) if flag not in OTHERS]
        if re.search(r"[ (]--$|^--$", node.value) and name(path) not in WRITERS:  # of f"--{name}"
            flags.append("--{}")
        assert not flags, f"{name(path)}, line {node.lineno}: {flags}"
