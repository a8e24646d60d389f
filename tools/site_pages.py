"""Pages of the site that are made, as a hook of MkDocs: the notebooks with their outputs, and the API."""

import ast
import pathlib
import re

import nbconvert
import nbformat
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).resolve().parent.parent
RUN = ROOT / ".notebooks"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_PROGRESS = re.compile(r"[^\n]*\r(?=[^\n])")


def on_config(config):
    """Puts the notebooks into the navigation."""
    tutorials = next(entry for entry in config.nav if "Tutorials" in entry)
    tutorials["Tutorials"] = [f"{path.stem}.md" for path in _lessons()]
    return config


def on_files(files, config):
    """Adds the pages."""
    for path in _lessons():
        for name, content in _lesson(path):
            files.append(File.generated(config, name, content=content))
    files.append(File.generated(config, "api.md", content=_api()))
    return files


def on_page_markdown(markdown, config, **_):
    """Links out of docs/ lead to the repository; they become plain text where its address is not known."""
    address = config.extra["repository"].rstrip("/")
    link = rf"[\1]({address}/blob/main/\2)" if address else r"\1"
    return re.sub(r"\[([^\[\]]*)\]\(\.\./([^)]*)\)", link, markdown)


def _lessons():
    found = (ROOT / "notebooks").glob("[0-9]*_*.py")
    return sorted(found, key=lambda path: int(path.stem.partition("_")[0]))


def _lesson(source):
    """A notebook's page and its pictures, by name."""
    paths = [RUN / f"{source.stem}{small}.ipynb" for small in ("", ".small")]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        raise PluginError(f"{source.name} has not been run: build the site with 'make docs', which runs it.")
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "stream":  # a progress bar as it was at its end
                output.text = _PROGRESS.sub("", _COLOURS.sub("", output.text))
    text, resources = nbconvert.MarkdownExporter().from_notebook_node(notebook)
    for name, content in resources["outputs"].items():
        yield f"{source.stem}/{name}", content
        text = text.replace(f"({name})", f"({source.stem}/{name})")
    # The site shows no picture of elsewhere: the badge becomes a link.
    yield f"{source.stem}.md", re.sub(r"\[!\[(.*?)\]\(https:.*?\)\]", r"[\1]", text)


def _api():
    """What `tff_tx` offers, as `tff_tx/__init__.py` lists it."""
    tree = ast.parse((ROOT / "tff_tx" / "__init__.py").read_text("utf-8"))
    offered = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "_OFFERED"
    )
    titles = {"run.trainer": "Runs", "run.parts": "Parts of a run", "run.callbacks": "Callbacks", "config": "Settings"}
    parts = ["# API\n\nWhat `import tff_tx as ft` offers; [extending](extending.md) shows the layers below."]
    for module in sorted(offered, key=lambda name: [*titles, name].index(name)):
        parts.append(f"## {titles.get(module, 'Errors')}")
        parts += [f"::: tff_tx.{module}.{name}" for name in offered[module].split()]
    return "\n\n".join(parts) + "\n"
