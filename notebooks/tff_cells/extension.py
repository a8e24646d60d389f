"""`%%tff`: cells in the second kernel, or in place."""

import ast
import atexit
import getpass
import platform
import sys
import time

from IPython.core.error import UsageError
from IPython.display import clear_output, publish_display_data

from tff_cells import environment, values
from tff_cells.kernel import Kernel
from tff_cells.problems import Problem

MAGIC = "%%tff"
_EXPORT = "__import__('tff_cells.values', fromlist=['dump']).dump({})"


class Cells:
    """Runs cells of a notebook in a second kernel, which is started afresh where it has died."""

    def __init__(self, shell, python):
        self._shell, self._python, self._kernel = shell, python, None
        self.start()
        atexit.register(self.close)

    def start(self):
        """Starts a kernel unless one is running."""
        if self._kernel is not None and not self._kernel.is_alive():
            print(f"{self._kernel.death()} A fresh one runs this cell.", file=sys.stderr)
            self.close()
        if self._kernel is None:
            self._kernel = Kernel(self._python, environment.variables(self._python))

    def close(self):
        """Ends the kernel."""
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None

    def run(self, line, cell):
        """Runs a cell in the Python of TensorFlow Federated; with --out NAME its variable NAME is there here, too."""
        name = output_name(line)
        self.start()
        kernel = getattr(self._shell, "kernel", None)  # of a notebook; a terminal has none, and can always read
        can_read = getattr(kernel, "_allow_stdin", kernel is None)
        try:
            self._kernel.run(cell, _show, _ask if can_read else None)
        except Problem:
            self.close()
            raise
        if name is not None:
            found = self._kernel.run("", _show, expressions={"value": _EXPORT.format(name)})["value"]
            if found["status"] != "ok":
                raise Problem(f"{MAGIC} --out {name}: {found['evalue']}.")
            self._shell.user_ns[name] = values.load(ast.literal_eval(found["data"]["text/plain"]))


def output_name(line):
    """The variable that a cell hands over, None if it hands over none."""
    words = line.split()
    if not words:
        return None
    if len(words) != 2 or words[0] != "--out" or not words[1].isidentifier():
        raise UsageError(f"{MAGIC} {line}: must be {MAGIC}, or {MAGIC} --out NAME of one variable.")
    return words[1]


def load(shell):
    """Offers `%%tff` in a shell; makes the environment first where it is needed and not there."""
    started = time.monotonic()
    version = platform.python_version()
    unload(shell)
    if environment.runs_in_place():
        sys.path.insert(0, str(environment.ROOT))
        shell.input_transformers_cleanup.append(_bare)
        print(f"{MAGIC} cells run in place, on Python {version}.")
        return
    python = environment.prepare()
    shell.tff_cells = Cells(shell, python)
    shell.register_magic_function(shell.tff_cells.run, "cell", MAGIC.strip("%"))
    seconds = time.monotonic() - started
    print(f"This notebook is on Python {version}; {MAGIC} cells run on {python}. Ready after {seconds:.1f} s.")


def unload(shell):
    """Ends the second kernel and forgets the magic."""
    if cells := getattr(shell, "tff_cells", None):
        cells.close()
        atexit.unregister(cells.close)
        del shell.tff_cells
    if _bare in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.remove(_bare)
        sys.path.remove(str(environment.ROOT))


def _bare(lines):
    """A cell without its magic."""
    if lines and lines[0].split()[:1] == [MAGIC]:
        output_name(lines[0].strip().removeprefix(MAGIC))
        return lines[1:]
    return lines


def _ask(prompt, is_password):
    return getpass.getpass(prompt) if is_password else input(prompt)


def _show(kind, content):
    """Shows a message of the second kernel as if it came from this one."""
    if kind == "stream":
        stream = getattr(sys, content["name"])
        stream.write(content["text"])
        stream.flush()
    elif kind in ("display_data", "execute_result", "update_display_data"):
        publish_display_data(
            content["data"],
            content["metadata"],
            transient=content.get("transient", {}),
            update=kind == "update_display_data",
        )
    elif kind == "clear_output":
        clear_output(content["wait"])
