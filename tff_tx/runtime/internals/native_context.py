"""TFF's C++ executors, reached through a channel to a worker."""

from __future__ import annotations

import grpc
import tensorflow_federated as tff
from tensorflow_federated.python.core.backends.native import compiler
from tensorflow_federated.python.core.environments.tensorflow_frontend import tensorflow_computation
from tensorflow_federated.python.core.impl.execution_contexts import sync_execution_context
from tensorflow_federated.python.core.impl.executor_stacks import python_executor_stacks
from tensorflow_federated.python.core.impl.executors import remote_executor, remote_executor_grpc_stub


class RemoteContext:
    """A context of TFF that runs computations in a worker.

    Attributes:
      context: To be installed in TFF's stack of contexts.

    Args:
      channel: To the worker.
    """

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
