"""Kernels of notebooks under the newest Python that has ipykernel."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import time

import zmq
from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpec

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / ".venv-docs" / "bin" / "python"
NEWEST = str(DOCS) if DOCS.exists() else sys.executable
"""Of `make notebooks`; this Python where it has not been made."""
FIRST_CELL = f"import sys; sys.path.insert(0, {str(ROOT / 'notebooks')!r})\n%load_ext tff_cells"

# As `ipykernel_launcher`, which however drops outputs that this process, on a busy machine, is slow to read.
_LAUNCH = """
import sys, zmq
sys.path.remove("")
from ipykernel.kernelapp import IPKernelApp

class App(IPKernelApp):
    def init_iopub(self, context):
        context.setsockopt(zmq.SNDHWM, 0)
        super().init_iopub(context)

App.launch_instance()
"""


class _Manager(KernelManager):
    python = sys.executable

    @property
    def kernel_spec(self):
        return KernelSpec(argv=[self.python, "-c", _LAUNCH, "-f", "{connection_file}"])


class Host:
    """A notebook's kernel; `environment` None: one whose %%tff cells run in a second kernel of this Python."""

    def __init__(self, python=NEWEST, environment=None, cwd=None):
        self.manager = _Manager()
        self.manager.python = python
        variables = {**os.environ, "TFF_PYTHON": sys.executable} if environment is None else environment
        self.manager.start_kernel(env=variables, cwd=cwd or os.getcwd())
        self.client = self.manager.client()
        self.client.context.setsockopt(zmq.RCVHWM, 0)  # or what comes while this process is kept waiting is dropped
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def start(self, code, allow_stdin=False):
        return self.client.execute(code, allow_stdin=allow_stdin, stop_on_error=False)

    def outputs(self, request, until=None, answers=None, timeout=180):
        """Messages of a cell, up to its end or the first one of which `until` is true, with seconds since now."""
        started, found = time.monotonic(), []
        while time.monotonic() - started < timeout:
            if answers and self.client.stdin_channel.msg_ready():
                self.client.get_stdin_msg(timeout=1)
                self.client.input(answers.pop(0))
            try:
                message = self.client.get_iopub_msg(timeout=0.2)
            except Exception:
                assert self.manager.is_alive(), "the host died"
                continue
            kind, content = message["msg_type"], message["content"]
            if message["parent_header"].get("msg_id") != request or kind == "execute_input":
                continue
            if kind == "status":
                if content["execution_state"] == "idle":
                    return found
                continue
            found.append((kind, content, time.monotonic() - started))
            if until is not None and until(kind, content):
                return found
        raise AssertionError(f"the cell has not ended in {timeout} s: {found}")

    def run(self, code, **options):
        return self.outputs(self.start(code, allow_stdin="answers" in options), **options)

    def text(self, code, **options):
        return text(self.run(code, **options))

    def inner_pid(self):
        return int(self.text("print(get_ipython().tff_cells._kernel.pid)"))

    def close(self):
        self.client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=True)


def text(outputs):
    """All that streams, results and errors say."""
    parts = []
    for kind, content, _ in outputs:
        if kind == "stream":
            parts.append(content["text"])
        elif kind == "error":
            parts += content["traceback"]
        else:
            parts.append(content.get("data", {}).get("text/plain", ""))
    return "".join(parts)


def is_running(pid):
    run = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    state = run.stdout.strip()
    return bool(state) and (state[0] != "Z" or "l" in state)  # dead, but threads have not ended


def ends(pid, seconds=10):
    """Whether a process ends in time."""
    deadline = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not is_running(pid)
