"""A kernel of another Python that lives as long as this process."""

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time

import zmq
from jupyter_client import KernelManager

from tff_cells.problems import Problem, cell_error

_SECONDS_TO_START = 120


class Kernel:
    """Starts at once, without waiting until it is ready.

    Args:
      python: The Python to run, with ipykernel.
      variables: Its environment variables.
    """

    def __init__(self, python, variables):
        context = zmq.Context()
        context.setsockopt(zmq.RCVHWM, 0)  # an output that comes faster than it is shown waits, and is not dropped
        context.setsockopt(zmq.LINGER, 0)
        self._manager = KernelManager(context=context)  # for the connection file and the sockets; starts nothing
        self._manager.write_connection_file()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the kernel
        self._process = subprocess.Popen(
            [python, "-m", "tff_cells.child", str(os.getpid()), "-f", self._manager.connection_file],
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,  # an interrupt of this process is not one of the kernel
        )
        self._session = self._manager.session
        self._iopub, self._shell, self._stdin = (
            connect(identity=self._session.bsession)
            for connect in (self._manager.connect_iopub, self._manager.connect_shell, self._manager.connect_stdin)
        )
        self._poller = zmq.Poller()
        for socket in (self._iopub, self._shell, self._stdin):
            self._poller.register(socket, zmq.POLLIN)
        self._ready = False

    @property
    def pid(self):
        """The process, which leads a process group."""
        return self._process.pid

    def is_alive(self):
        """Whether the process runs."""
        return self._process.poll() is None

    def close(self):
        """Kills the kernel and what it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        for socket in (self._iopub, self._shell, self._stdin):
            socket.close()
        self._manager.cleanup_connection_file()
        self._log.close()

    def run(self, code, show, ask=None, expressions=None):
        """Runs code, showing its output as it comes.

        Args:
          code: The cell.
          show: Called with the type and the content of each message of output.
          ask: Called with a prompt and whether the answer is a password; None: the cell cannot read input.
          expressions: Expressions to evaluate afterwards, by name.

        Returns:
          The results of the expressions, as Jupyter's protocol has them.

        Raises:
          CellError: If the cell fails.
          Problem: If the kernel dies.
        """
        self._wait_until_ready()
        content = {
            "code": code,
            "silent": not code,
            "store_history": bool(code),
            "user_expressions": expressions or {},
            "allow_stdin": ask is not None,
            "stop_on_error": False,  # else a cell right after one that failed may be aborted
        }
        request = self._session.send(self._shell, "execute_request", content)["header"]["msg_id"]
        is_idle, reply = False, None
        with self._interrupts():
            while not (is_idle and reply):
                for kind, message, is_own in self._messages(request):
                    if kind == "execute_reply" and is_own:
                        reply = message
                    elif kind == "status":
                        is_idle |= is_own and message["execution_state"] == "idle"
                    elif kind == "input_request":
                        self._answer(ask, message)
                    elif kind != "error":  # comes with the reply, too
                        show(kind, message)
        if reply["status"] == "ok":
            return reply["user_expressions"]
        raise cell_error(reply.get("ename", "Aborted"), reply.get("evalue", ""), reply.get("traceback", []))

    def _messages(self, request):
        """What has come, waited for briefly: type, content and whether it belongs to the request."""
        sockets = dict(self._poller.poll(200))
        if not sockets and not self.is_alive():
            raise Problem(f"{self.death()} The next cell starts a fresh one.")
        for socket in sockets:
            _, message = self._session.recv(socket, mode=zmq.NOBLOCK)
            if message is not None:
                yield message["msg_type"], message["content"], message["parent_header"].get("msg_id") == request

    def _wait_until_ready(self):
        """Asks until an answer comes on the channel of outputs, too, which would otherwise miss the first of them."""
        deadline = time.monotonic() + _SECONDS_TO_START
        while not self._ready:
            if time.monotonic() > deadline:
                raise Problem(f"The kernel of {self._process.args[0]} has not started in {_SECONDS_TO_START} s.")
            self._session.send(self._shell, "kernel_info_request")
            for kind, _, _ in self._messages(None):
                self._ready |= kind == "status"

    def _answer(self, ask, message):
        try:
            with _default_interrupts():
                value = ask(message["prompt"], message["password"])
        except (KeyboardInterrupt, EOFError):
            os.killpg(self.pid, signal.SIGINT)
        else:
            self._session.send(self._stdin, "input_reply", {"value": value})

    @contextlib.contextmanager
    def _interrupts(self):
        """Passes interrupts on, rather than raising between any two lines of ours."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, lambda *_: os.killpg(self.pid, signal.SIGINT))
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def death(self):
        """A sentence on how the process has ended."""
        code = self._process.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        self._log.seek(0)
        last = (self._log.read().decode("utf-8", "replace").strip().splitlines() or [""])[-1]
        hint = ", perhaps for lack of memory" if code == -signal.SIGKILL else f" ({last})" if last else ""
        return f"The kernel of %%tff cells {how}{hint}: its variables are gone."


@contextlib.contextmanager
def _default_interrupts():
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
