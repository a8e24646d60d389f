"""Whether the working tree computes what another commit computes: `python tools/same_numbers.py BASE`.

The same commands run on both trees; metrics.csv (but its `time/` columns), results.json and the bytes of models and
adapters are compared. The exit code is 1 if anything differs that EXPLAINED does not list. What BASE computes is
stored by its commit and read the next time.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import csv
import faulthandler
import hashlib
import importlib
import itertools
import json
import os
import pathlib
import pkgutil
import runpy
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import traceback

from same_numbers_commands import COMMANDS, write_files

ROOT = pathlib.Path(__file__).resolve().parent.parent

TRANSLATED: dict[str, str | None] = {f"dp_noise_seed={n}": f"dp_noise_seed={n} --dp_sampling_seed=1" for n in (3, 7)}
"""What a flag of BASE is called in the working tree, without dashes, beyond what the settings say of their earlier
names: {"old": "new"}, {"old=value": "new=value --another"}, and None for a flag that is gone. Of a boolean, `old` and
`noold` are two flags."""

EXPLAINED: dict[str, str] = {
    "example_dp": "delta of examples is 1e-5 at most",
    "several_texts": "e10d108 joins them with a blank, and has no such setting",
    "sequence_regression": "e10d108 has no such task",
    "dp_adaptive": "columns outside of the guarantee are withheld with the metrics",
}
"""Why a command's numbers differ from BASE's, by its name; a law test must hold the new ones."""

_STORE = pathlib.Path(tempfile.gettempdir(), "same_numbers")
_COMPARED = ("**/metrics.csv", "**/results.json", "**/model/*.safetensors", "**/adapter/*.safetensors")
_DONE = "done.json"
_SECONDS = 900
_FOR_BASE = {"TF_NUM_INTEROP_THREADS": "16"}
"""BASE waits for ever, on two processors, when two clients' steps have control flow that TensorFlow does not inline:
each blocks a thread of the pool and waits for another. With a larger pool the numbers are the same."""


def main() -> int:
    """Runs what has not been run, compares and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("base", help="commit, branch or tag to compare with")
    parser.add_argument("--only", default="", help="commands with this in their name; several, separated by commas")
    parser.add_argument("--jobs", type=int, default=2, help="programs at a time")
    parser.add_argument("--keep", action="store_true", help="keep the runs of the working tree, and print where")
    parser.add_argument("--store", type=pathlib.Path, default=_STORE, help="where results of BASE are; %(default)s")
    flags = parser.parse_args()
    names = [name for name in COMMANDS if any(part in name for part in flags.only.split(","))]
    commit = subprocess.run(
        ["git", "rev-parse", "--verify", f"{flags.base}^{{commit}}"], cwd=ROOT, capture_output=True, text=True
    )
    if commit.returncode or not names:
        parser.error(commit.stderr.strip() or f"--only={flags.only} names no command")
    commit = commit.stdout.strip()
    base = flags.store / commit[:12]
    place = pathlib.Path(tempfile.mkdtemp(prefix="same_numbers_"))
    try:
        missing = [name for name in names if not _is_stored(base / name, name)]
        if missing:
            _check_out(commit, place / "base")
            run_all(place / "base", {name: COMMANDS[name] for name in missing}, base, flags.jobs, _FOR_BASE)
        mine = place / "runs"
        new_names = renamed()
        run_all(ROOT, {name: translated(COMMANDS[name], new_names) for name in names}, mine, flags.jobs)
        failed = report(names, base, mine)
    finally:
        if flags.keep:
            print(f"Runs of the working tree: {place / 'runs'}")
        else:
            shutil.rmtree(place, ignore_errors=True)
    print(f"Runs of {commit[:12]}: {base}")
    return 1 if failed else 0


def _is_stored(directory, name):
    """Whether a command's results are stored; those of a command that has changed since, or failed, are not."""
    try:
        done = json.loads((directory / _DONE).read_text())
    except FileNotFoundError:
        return False
    return done["code"] == 0 and done["steps"] == json.loads(json.dumps(COMMANDS[name]))


def _check_out(commit, directory):
    directory.mkdir()
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    subprocess.run(["tar", "-x"], cwd=directory, input=archive.stdout, check=True)


def renamed() -> dict:
    """Flags by their earlier names, as the settings of the working tree have them, and TRANSLATED."""
    sys.path.insert(0, str(ROOT))
    try:
        fields = importlib.import_module("tff_tx.config").FIELDS.values()
    except ImportError:  # a tree whose settings are not data
        return TRANSLATED
    former = {f"{no}{name}": f"{no}{f.flag}" for f in fields for name in f.option.formerly for no in ("", "no")}
    return {**former, **TRANSLATED}


def translated(steps: list, names: dict) -> list:
    """The steps of a command with flags by their new names."""

    def new(flag):
        name, equals, value = flag[2:].partition("=")
        if flag[2:] in names:
            found = names[flag[2:]]
            return [] if found is None else f"--{found}".split()
        found = names.get(name, name)
        return [] if found is None else [f"--{found}{equals}{value}"]

    return [(program, [f for flag in flags for f in new(flag)]) for program, flags in steps]


def run_all(tree: pathlib.Path, commands: dict, directory: pathlib.Path, jobs: int, variables=()) -> None:
    """Runs commands on a tree, each in a directory of its name with the files it reads.

    They are forked from a process that has imported the tree's libraries, which takes six seconds of a core.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name in commands:
        shutil.rmtree(directory / name, ignore_errors=True)
        (directory / name).mkdir()
        write_files(directory / name)
    quiet = {"HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    with tempfile.TemporaryDirectory() as elsewhere:
        work = {"commands": commands, "directory": str(directory), "jobs": jobs, "cache": elsewhere}
        server = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            stdin=subprocess.PIPE,
            text=True,
            cwd=elsewhere,
            env={**os.environ, "PYTHONPATH": str(tree), **quiet, **dict(variables)},
            start_new_session=True,
        )
        try:
            server.communicate(json.dumps(work))
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGTERM)
    if server.returncode:
        raise SystemExit(f"The server of {tree} ended with {server.returncode}.")


def serve() -> None:
    """Imports, then forks what standard input names, so many at a time."""
    sys.path.remove(str(pathlib.Path(__file__).resolve().parent))  # tools are no part of a tree
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    work = json.load(sys.stdin)
    _import_libraries()
    running, waiting = {}, list(work["commands"].items())
    try:
        for count in itertools.count(1):
            while waiting and len(running) < work["jobs"]:
                name, steps = waiting.pop(0)
                running[_fork(name, steps, work)] = name, steps
            if not running:
                return
            pid, status = os.wait()
            name, steps = running.pop(pid)
            _end(pid)
            code = os.waitstatus_to_exitcode(status)
            pathlib.Path(work["directory"], name, _DONE).write_text(json.dumps({"code": code, "steps": steps}))
            print(f"  {count}/{len(work['commands'])} {name}{f': exit code {code}' if code else ''}", file=sys.stderr)
    finally:
        for pid in running:
            _end(pid)


def _end(session):
    """Ends what is left of a session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(session, signal.SIGKILL)


def _import_libraries():
    """Whatever of the tree can be imported without defining flags."""
    for name in ("programs", "tensorflow", "tensorflow_federated", "transformers", "tf_keras", "matplotlib.pyplot"):
        importlib.import_module(name)
    package = importlib.import_module("tff_tx")
    for module in pkgutil.iter_modules(package.__path__, "tff_tx."):
        importlib.import_module(module.name)
    os.environ["PYTHONWARNINGS"] = "ignore"


def _fork(name, steps, work):
    """Starts a process that runs the steps one after another; gives its id."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.chdir(pathlib.Path(work["directory"], name))
        os.dup2(os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
        os.dup2(1, 2)
        faulthandler.register(signal.SIGALRM, file=2, chain=True)  # says where it hangs, and ends it
        signal.alarm(_SECONDS)
        code = _run_steps(steps, work["cache"])
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _run_steps(steps, cache):
    """Runs each but the last in a process of its own: flags are defined once a process."""
    *first, (program, flags) = steps
    for step in first:
        pid = os.fork()
        if not pid:
            os._exit(_run_steps([step], cache))
        _, status = os.waitpid(pid, 0)
        if status:
            return os.waitstatus_to_exitcode(status) or 1
    sys.argv = [program, *flags, f"--cache_dir={cache}"]
    code = 0
    try:
        runpy.run_module(f"programs.{program}", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def report(names: list, base: pathlib.Path, mine: pathlib.Path) -> list:
    """Prints a line for each command; gives the names of those that differ without an explanation."""
    differing = {name: difference(base / name, mine / name) for name in names}
    differing = {name: found for name, found in differing.items() if found}
    width = max(map(len, names))
    for name in names:
        found = differing.get(name, "equal")
        if name in differing and name in EXPLAINED:
            found = f"explained ({EXPLAINED[name]}): {found}"
        print(f"{name:{width}}  {found}")
    failed = [name for name in differing if name not in EXPLAINED]
    explained = len(differing) - len(failed)
    print(f"{len(names) - len(differing)} of {len(names)} equal, {explained} explained, {len(failed)} different")
    for name in EXPLAINED:
        if name in names and name not in differing:
            print(f"{name} is equal: it needs no explanation")
    return failed


def difference(base: pathlib.Path, mine: pathlib.Path) -> str | None:
    """What differs first between two directories of a command's runs; None: nothing."""
    for directory, whose in ((base, "BASE"), (mine, "the working tree")):
        done = json.loads((directory / _DONE).read_text())
        if done["code"]:
            log = (directory / "log").read_text(errors="replace").strip().splitlines()
            return f"exit code {done['code']} on {whose}: {log[-1] if log else ''}"
    found = [{str(p.relative_to(d)) for glob in _COMPARED for p in d.glob(glob)} for d in (base, mine)]
    if found[0] != found[1]:
        return f"files only on one side: {', '.join(sorted(found[0] ^ found[1]))}"
    if not found[0]:
        return "no files to compare"
    for name in sorted(found[0], key=lambda n: (not n.endswith(".csv"), n)):
        compare = {".csv": _table_difference, ".json": _json_difference}.get(
            pathlib.Path(name).suffix, _model_difference
        )
        what = compare(base / name, mine / name)
        if what:
            return f"{name}: {what}"
    return None


def _table_difference(*paths):
    tables = []
    for path in paths:
        with open(path, newline="") as lines:
            rows = list(csv.DictReader(lines))
        tables.append([{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows])
    if len(tables[0]) != len(tables[1]):
        return f"{len(tables[0])} and {len(tables[1])} rounds"
    columns = [set(itertools.chain(*table)) for table in tables]
    if columns[0] != columns[1]:
        return f"columns only on one side: {', '.join(sorted(columns[0] ^ columns[1]))}"
    for old, new in zip(*tables):
        for column in old:
            if old[column] != new[column]:
                return f"{column}, round {old.get('round_num')}: {old[column]} and {new[column]}"
    return None


def _json_difference(*paths):
    old, new = (json.dumps(json.loads(path.read_text()), sort_keys=True) for path in paths)
    return None if old == new else f"{old[:200]} and {new[:200]}"


def _model_difference(*paths):
    old, new = (path.read_bytes() for path in paths)
    if old == new:
        return None
    old, new = (_tensors(data) for data in (old, new))
    if list(old) != list(new):
        return f"tensors only on one side, or in another order: {', '.join(sorted(set(old) ^ set(new))[:3])}"
    for name in old:
        if old[name] != new[name]:
            return f"{name}: {old[name]} and {new[name]}"
    return "another header"


def _tensors(data):
    """By name, a hash of each tensor of a safetensors file, with its dtype and shape."""
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    content = data[8 + size :]
    return {
        name: (t["dtype"], t["shape"], hashlib.sha256(content[slice(*t["data_offsets"])]).hexdigest()[:8])
        for name, t in header.items()
    }


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        sys.exit(main())
