"""The comparison of two trees: which differences it sees, and that all there is occurs among its commands."""

import collections
import importlib.util
import json
import pathlib
import re
import struct

import pytest

from tests.complaints import config_of
from tff_tx.config import FIELDS, check, resolve
from tff_tx.config.aggregation import COMPRESSORS

TOOLS = pathlib.Path(__file__).resolve().parent.parent / "tools"


@pytest.fixture(scope="module")
def tool():
    """The module tools/same_numbers.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOOLS))
        spec = importlib.util.spec_from_file_location("same_numbers", TOOLS / "same_numbers.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


def run_directory(place, rows="round_num,train/loss,time/s\n1,0.5,{time}\n", time=1.0, weight=1.0, code=0):
    """A command's directory with a run in it."""
    (place / "run" / "model").mkdir(parents=True)
    (place / "done.json").write_text(json.dumps({"code": code, "steps": []}))
    (place / "log").write_text("fine\nError: no")
    (place / "run" / "metrics.csv").write_text(rows.format(time=time))
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    content = struct.pack("<Q", len(header)) + header + struct.pack("<f", weight)
    (place / "run" / "model" / "model.safetensors").write_bytes(content)
    return place


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"time": 2.0}, None),
        ({"weight": 1.0000001}, r"model.safetensors: w: \('F32', \[1\]"),
        ({"rows": "round_num,train/loss,time/s\n1,0.25,1\n"}, r"metrics.csv: train/loss, round 1: 0.5 and 0.25"),
        ({"rows": "round_num,train/loss,eval/loss\n1,0.5,1\n"}, "columns only on one side: eval/loss"),
        ({"rows": "round_num,train/loss,time/s\n1,0.5,1\n2,0.5,1\n"}, "1 and 2 rounds"),
        ({"code": 2}, "exit code 2 on the working tree: Error: no"),
    ],
)
def test_it_tells_what_differs_first(tool, tmp_path, change, found):
    base, mine = run_directory(tmp_path / "base"), run_directory(tmp_path / "mine", **change)
    difference = tool.difference(base, mine)
    assert difference is None if found is None else re.search(found, difference)


def test_only_unexplained_differences_fail(tool, tmp_path, monkeypatch, capsys):
    for name in ("a", "b", "c"):
        run_directory(tmp_path / "base" / name)
        run_directory(tmp_path / "mine" / name, weight=1.0 if name == "a" else 2.0)
    monkeypatch.setattr(tool, "EXPLAINED", {"b": "a law"})
    assert tool.report(["a", "b", "c"], tmp_path / "base", tmp_path / "mine") == ["c"]
    assert "1 of 3 equal, 1 explained, 1 different" in capsys.readouterr().out


def test_flags_are_translated_by_name_and_by_value(tool):
    names = {"old": "new", "noold": "nonew", "mean=x": "median=y", "gone": None, "two": "two --three=3"}
    flags = ["--old=1", "--noold", "--mean=x", "--mean=z", "--gone=3", "--two", '--same={"a --b": 1}']
    found = tool.translated([("train", flags)], names)
    assert found == [
        ("train", ["--new=1", "--nonew", "--median=y", "--mean=z", "--two", "--three=3", '--same={"a --b": 1}'])
    ]


def test_every_flag_of_the_commands_is_one(tool):
    known = {f"{no}{field.flag}" for field in FIELDS.values() for no in ("", "no")}
    names = tool.renamed()
    flags = {f for steps in tool.COMMANDS.values() for _, fs in tool.translated(steps, names) for f in fs}
    assert {flag[2:].partition("=")[0] for flag in flags} - known == set()


def test_every_command_is_a_configuration(tool):
    """One that is rejected would be equal on all trees."""
    names = tool.renamed()
    for steps in tool.COMMANDS.values():
        for program, flags in tool.translated(steps, names):
            distills = {"ensemble.enabled": True} if program == "distill" else {}
            check(resolve(config_of(*flags).replace(distills)))


EXEMPT = {
    *("data.format", "privacy.accountant", "privacy.amplification", "lora.aggregation", "algorithm.name"),
    *("compression.upload", "compression.download"),
}
"""Choices of which more than one is of a kind; those that matter are in the test."""

UNNAMED = {
    *("column", "example", "constant", "causal_lm", "image_classification", "tabular_classification"),
    *("audio_classification", "speech_recognition", "federation"),
    *("multi_label_classification", "instruction_tuning"),
    *("mlflow", "wandb", "flower"),
}
"""What is chosen where no flag says so, mostly by the data set; and what needs recordings, conversations, several
labels, other processes or packages."""


def test_every_choice_is_made_by_a_command(tool):
    """But for data sets that are elsewhere. What clients' and server's optimizers can be, one of them is."""
    names = tool.renamed()
    flags = [f for steps in tool.COMMANDS.values() for _, fs in tool.translated(steps, names) for f in fs]
    used = collections.defaultdict(set)
    for flag in flags:
        name, _, value = flag[2:].partition("=")
        used[name].add(value)
    made, wanted = collections.defaultdict(set), {}
    for path, field in FIELDS.items():
        choices = tuple(field.option.choices or ())
        if choices and path not in EXEMPT:
            made[choices] |= used[field.flag] | {field.default}
            wanted[choices] = {choice for choice in choices if not choice.startswith("tff:")}
    missing = {choice for choices in wanted for choice in wanted[choices] - made[choices]}
    assert missing - UNNAMED == set()
    assert {"fed_prox", "fed_sgd", "mime_lite"} <= used["algorithm"]
    assert any(flag.startswith("--distillation_weight=") for flag in flags)  # FedGKD
    assert {"residual", "stack", "svd"} <= used["lora_aggregation"]
    families = {name.rstrip("12345678") for name in COMPRESSORS}
    assert {name.rstrip("12345678") for name in used["compression"] | used["download_compression"]} == families
