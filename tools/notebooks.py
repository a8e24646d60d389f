"""Makes the notebooks of notebooks/ from their sources, and runs them: in the environment of `make notebooks`.

python tools/notebooks.py build    write notebooks/*.ipynb, without outputs
python tools/notebooks.py check    fail if they are not what build would write
python tools/notebooks.py run      run them, with outputs into .notebooks/; --small: as the tests do
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = ROOT / "notebooks"
RUN = ROOT / ".notebooks"
_BADGE = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/{})"
)
_SOURCE = 'os.environ.get("TFF_TX_SOURCE", "{}")'
_SMALL = re.compile(r"(?m)^(\w+ = ).*?  # in tests: (.*)$")
SECONDS = 900
"""A notebook's time limit."""


def sources(names=()):
    """The lessons in order; those of the given names."""
    found = sorted(SOURCES.glob("[0-9]*_*.py"), key=lambda path: int(path.stem.partition("_")[0]))
    return [path for path in found if not names or path.stem in names]


def repository():
    """The public address that mkdocs.yml names, empty if it names none."""
    import yaml

    return yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["extra"]["repository"].rstrip("/")


def badge(name, address):
    """Opens a lesson in Colab; without an address, Colab's browser of GitHub's repositories."""
    path = f"{address.partition('github.com/')[2]}/blob/main/notebooks/{name}.ipynb" if address else ""
    return _BADGE.format(path)


def first_cell(address):
    """What each notebook begins with, as jupytext reads it: clones the address where there is no checkout."""
    return (SOURCES / "first_cell.py").read_text("utf-8").replace(_SOURCE.format(""), _SOURCE.format(address))


def notebook(source, small=False):
    """The notebook of a source: title and badge, the cell that all begin with, the lesson."""
    import jupytext

    text = source.read_text("utf-8")
    found = jupytext.reads(_SMALL.sub(r"\1\2", text) if small else text, fmt="py:percent")
    address = repository()
    found.cells[0].source += "\n\n" + badge(source.stem, address)
    found.cells[1:1] = jupytext.reads(first_cell(address), fmt="py:percent").cells
    for i, cell in enumerate(found.cells):
        cell.id, cell.metadata = f"cell-{i}", {}  # the same at each build
    found.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return found


def build(names, check):
    """Writes the notebooks, or names those that are not what would be written."""
    import nbformat

    stale = []
    for source in sources(names):
        path, text = source.with_suffix(".ipynb"), nbformat.writes(notebook(source), indent=1) + "\n"
        if check and (not path.exists() or path.read_text("utf-8") != text):
            stale.append(path.name)
        elif not check:
            path.write_text(text, "utf-8")
    if stale:
        sys.exit(f"{', '.join(stale)}: not what the sources say; run 'make notebooks'.")


def run(names, small):
    """Runs the notebooks, each in a directory of its own, and keeps them with their outputs; small ones two at once."""
    RUN.mkdir(exist_ok=True)
    chosen = sources(names)
    with concurrent.futures.ProcessPoolExecutor(2 if small else 1) as pool:
        for line in pool.map(_run, chosen, [small] * len(chosen)):
            print(line, flush=True)
    print(f"{len(chosen)} passed, 0 failed")


def _run(source, small):
    import nbformat
    from nbclient import NotebookClient

    target = RUN / f"{source.stem}{'.small' if small else ''}.ipynb"
    newest = max(path.stat().st_mtime for path in (source, SOURCES / "first_cell.py"))
    if not small and target.exists() and target.stat().st_mtime > newest:
        return f"{source.name}: has been run"
    directory = RUN / "files" / target.stem
    directory.mkdir(parents=True, exist_ok=True)
    found, started = notebook(source, small), time.monotonic()
    place = {"metadata": {"path": str(directory)}}
    NotebookClient(found, timeout=SECONDS, resources=place, coalesce_streams=True).execute()
    nbformat.write(found, target)  # one that failed is run again
    return f"{source.name}: {time.monotonic() - started:.0f} s on Python {sys.version.split()[0]}"


def main():
    """Does what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("build", "check", "run"))
    parser.add_argument("names", nargs="*", help="lessons such as 1_news; none: all")
    parser.add_argument("--small", action="store_true", help="run with the settings of the tests")
    arguments = parser.parse_intermixed_args()
    if arguments.action == "run":
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        run(arguments.names, arguments.small)
    else:
        build(arguments.names, arguments.action == "check")


if __name__ == "__main__":
    main()
