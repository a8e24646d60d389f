"""TFF's own C++ runtime as an engine, with its worker process under control.

`worker_binary` outlives the program that started it and keeps its terminal's pipe open; started by the default context
it makes `python x.py | tee log` hang. Here it runs under a shell that ends it as soon as the program is gone, however
it went: the program holds the write end of a pipe, and its death is the pipe's end of file.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from typing import Any

import grpc
import numpy as np
import portpicker
import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.core.errors import UserError, setting
from tff_tx.runtime import form as form_lib
from tff_tx.runtime.engine import ProcessEngine, process_state
from tff_tx.runtime.internals.contexts import RemoteContext
from tff_tx.runtime.rounds import RoundOutput, TooFewClientsError, Traffic

_WORKER = os.path.join(os.path.dirname(tff.__file__), "data", "worker_binary")
# Ends the worker with its parent, and itself with the worker, whose number may be another process's from then on.
_UNTIL_PARENT_DIES = 'exec 3<&0; "$@" & worker=$!; (cat <&3 >/dev/null; kill -9 $worker) & wait $worker; kill -9 $!'
_MESSAGE_BYTES = 2 * 1000**3
_START_SECONDS = 60.0


class NativeContext(contextlib.AbstractContextManager):
    """Runs computations of TFF in its C++ executors, which hold what all clients give in memory at once.

    Call it with a computation and its arguments. A context manager; leaving it ends the worker.

    Args:
      threads: Clients at work at the same time.
    """

    def __init__(self, threads: int = 2):
        port = portpicker.pick_unused_port()
        self._process = subprocess.Popen(
            [
                *("/bin/sh", "-c", _UNTIL_PARENT_DIES, "worker", _WORKER, f"--port={port}"),
                f"--max_concurrent_computation_calls={threads}",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        sizes = ("max_message_length", "max_receive_message_length", "max_send_message_length")
        channel = grpc.insecure_channel(f"localhost:{port}", [(f"grpc.{size}", _MESSAGE_BYTES) for size in sizes])
        remote = RemoteContext(grpc.intercept_channel(channel, _WhileItRuns(self._process)))
        deadline = time.monotonic() + _START_SECONDS
        while not remote.is_ready:
            if time.monotonic() > deadline:
                self.close()
                raise RuntimeError(f"TFF's worker did not start within {_START_SECONDS:.0f} s.")
            time.sleep(0.05)
        self._context = remote.context

    def __call__(self, computation: tff.Computation, *arguments: Any) -> Any:
        """What the computation gives."""
        with tff.framework.get_context_stack().install(self._context):
            return computation(*arguments)

    def close(self) -> None:
        """Ends the worker, also if somebody has killed the shell above it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.stdin.close()
        self._process.wait()

    def __exit__(self, *unused):
        self.close()


class _WhileItRuns(grpc.UnaryUnaryClientInterceptor):
    """Lets no call through to a worker that has ended: TFF would try again for ever."""

    def __init__(self, process):
        self._process = process

    def intercept_unary_unary(self, continuation, client_call_details, request):
        if self._process.poll() is not None:
            raise UserError(
                f"{setting('engine.name')}=tff_native: TFF's worker has ended (it was killed or ran out of memory): "
                "give the same command again, which goes on from the last checkpoint."
            )
        return continuation(client_call_details, request)


class NativeEngine(ProcessEngine):
    """Runs whole rounds in TFF's C++ executors, which hold every client of the cohort in memory at once.

    The reference for other engines: it does not take a round apart, and so has no hooks and shows no contributions. A
    client that fails fails the round.

    Args:
      process: Any `LearningProcess` the runtime takes.
      threads: Clients at work at the same time.
    """

    def __init__(self, process: tff.learning.templates.LearningProcess, threads: int = 2):
        super().__init__(process)
        self._call = NativeContext(threads)

    def initialize(self) -> Any:
        return self._call(self.process.initialize)

    def _run(self, state, clients, gathered):
        if gathered.observers:
            raise ValueError("TFF's runtime does not show contributions: use another engine.")
        if len(clients) < gathered.min_clients:
            raise TooFewClientsError(len(clients), gathered.min_clients, {})
        output = self._call(self.process.next, state, list(clients))
        gathered.progress(len(clients))
        return RoundOutput(output.state, output.metrics)

    def _collect(self, clients, job_fn, gathered):
        raise NotImplementedError("whole rounds run at once")

    def model_weights(self, state: Any) -> tff.learning.models.ModelWeights:
        return tf.nest.map_structure(np.asarray, self._call(self.process.get_model_weights, process_state(state)))

    def traffic(self) -> Traffic:
        return form_lib.RoundForm.of(self.process).traffic

    def close(self) -> None:
        self._call.close()
