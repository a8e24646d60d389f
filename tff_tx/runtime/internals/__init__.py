"""What reaches into TFF and TensorFlow to run rounds as plain graphs, or in TFF's own executors."""

from tff_tx.core.internals import Internal

_TF, _TFF = "TensorFlow 2.14", "TFF 0.87"
_CORE = "tensorflow_federated.python.core"

INTERNALS = (
    Internal(
        "tensorflow.types.experimental.ConcreteFunction._call_flat",
        "Calls a function without binding arguments to its signature, which costs more than a step.",
        _TF,
        "runtime/test_step_function.py::test_it_is_traced_once_and_called_from_many_threads",
    ),
    *(
        Internal(
            f"tensorflow.python.eager.context.{name}",
            "Runs a step in the calling thread alone: TensorFlow's pool of threads costs a third of the time.",
            _TF,
            "runtime/test_client_work.py::test_mixed_precision_is_near_and_an_unknown_one_is_refused",
        )
        for name in ("FunctionCallOptions", "context")
    ),
    Internal(
        "tensorflow.python.util.tf_stack.extract_stack",
        "Graphs that are serialized lose the Python stacks of their operations, whose making takes a while.",
        _TF,
        "runtime/test_stacks.py::test_operations_are_made_without_stacks",
    ),
    Internal(
        "tensorflow.Tensor.__dict__",
        "One for all tensors that stay within this package: from Python 3.11 on TensorFlow does not free their own.",
        _TF,
        "runtime/test_tensors.py::test_nothing_is_lost_with_tensors_that_drop_their_state",
    ),
    Internal(
        "FunctionDef.experimental_ints_on_device",
        "Lets functions of a client's pipeline be placed on one device at once.",
        _TF,
        "runtime/test_pipelines.py::test_only_functions_of_pipelines_are_simplified",
    ),
    Internal(
        "tensorflow_federated.proto.v0.computation_pb2.Computation",
        "The graph of a computation, and the tensors of its parameter and result.",
        _TFF,
        "runtime/test_client_work.py::test_the_form_travels_as_bytes",
    ),
    Internal(
        f"{_CORE}.environments.tensorflow_backend.compiled_computation_transformations.optimize_tensorflow_graphs",
        "Inlines functions of a client's work, so that its loop over batches can be found.",
        _TFF,
        "runtime/test_client_work.py::test_every_loop_over_batches_is_found",
    ),
    Internal(
        f"{_CORE}.impl.types.type_analysis.contains",
        "Whether clients are datasets, which do not travel.",
        _TFF,
        "runtime/test_engines.py::test_all_engines_give_the_same_state_and_metrics",
    ),
    Internal(
        f"{_CORE}.impl.types.type_conversions.type_to_py_container",
        "The Python containers of a process' state and metrics.",
        _TFF,
        "runtime/test_engines.py::test_all_engines_give_the_same_state_and_metrics",
    ),
    Internal(
        f"{_CORE}.impl.context_stack.set_default_context.set_no_default_context",
        "Lets go of TFF's default context while its destructor can still run.",
        _TFF,
        "runtime/test_exit.py::test_a_program_ends_without_noise",
    ),
    *(
        Internal(
            f"{_CORE}.{name}",
            "A context like TFF's own, of a worker that ends with the program.",
            _TFF,
            "runtime/test_engines.py::test_no_worker_outlives_its_program",
        )
        for name in (
            "backends.native.compiler.desugar_and_transform_to_native",
            "environments.tensorflow_frontend.tensorflow_computation.transform_args",
            "environments.tensorflow_frontend.tensorflow_computation.transform_result",
            "impl.execution_contexts.sync_execution_context.SyncExecutionContext",
            "impl.executor_stacks.python_executor_stacks.ResourceManagingExecutorFactory",
            "impl.executors.remote_executor.RemoteExecutor",
            "impl.executors.remote_executor_grpc_stub.RemoteExecutorGrpcStub",
        )
    ),
)
"""What is used or replaced here that its library does not promise to keep."""
