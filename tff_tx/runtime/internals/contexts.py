"""TFF's contexts: the end of its default one, and one of its C++ executors, reached through a channel to a worker.

TFF sets the default context when it is imported, used or not. Its destructor needs modules that Python has deleted by
the end: it fails with a message, and leaves its worker, if there is one, to outlive the program.
"""

from __future__ import annotations

import atexit
import signal

import grpc
import psutil
import tensorflow_federated as tff
from tensorflow_federated.python.core.backends.native import compiler
from tensorflow_federated.python.core.environments.tensorflow_frontend import tensorflow_computation
from tensorflow_federated.python.core.impl.context_stack import set_default_context
from tensorflow_federated.python.core.impl.execution_contexts import sync_execution_context
from tensorflow_federated.python.core.impl.executor_stacks import python_executor_stacks
from tensorflow_federated.python.core.impl.executors import remote_executor, remote_executor_grpc_stub

_stack = tff.framework.get_context_stack()
_default = _stack.current


@atexit.register
def _let_go() -> None:
    """Lets go of the default context, so that its destructor runs while it can and ends its own worker, if any.

    A context that was set by the program since is left alone, and so are all other processes.
    """
    global _default
    # It interrupts a worker that ignores it, as in `nohup python x.py &`, and would wait for ever.
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    waits = ignored and any("worker_binary" in child.name() for child in psutil.Process().children())
    if _stack.current is _default and not waits:
        set_default_context.set_no_default_context()
    _default = None


class RemoteContext:
    """A context of TFF, `context`, that runs computations in the worker at the other end of a channel."""

    def __init__(self, channel: grpc.Channel):
        self._stub = remote_executor_grpc_stub.RemoteExecutorGrpcStub(channel)
        self.context = sync_execution_context.SyncExecutionContext(
            executor_fn=python_executor_stacks.ResourceManagingExecutorFactory(self._executor),
            compiler_fn=compiler.desugar_and_transform_to_native,
            transform_args=tensorflow_computation.transform_args,
            transform_result=tensorflow_computation.transform_result,
        )

    @property
    def is_ready(self) -> bool:
        """Whether the worker answers."""
        return self._stub.is_ready

    def _executor(self, cardinalities):
        cardinalities.setdefault(tff.CLIENTS, 0)
        executor = remote_executor.RemoteExecutor(self._stub)
        executor.set_cardinalities(cardinalities)
        return executor
