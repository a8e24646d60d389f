"""Engines: where and how the rounds of a `LearningProcess` run. The only room that touches TFF's internals."""

import atexit
import contextlib

import psutil
import tensorflow as tf
from tensorflow_federated.python.core.impl.context_stack import set_default_context

from tff_tx.runtime.client_compression import ClientCompression
from tff_tx.runtime.configure import configure_tensorflow
from tff_tx.runtime.engine import Engine, process_state, with_model
from tff_tx.runtime.fed_buff import Staleness
from tff_tx.runtime.graphs import PRECISIONS, step_function
from tff_tx.runtime.hooks import Hook, Job
from tff_tx.runtime.local import LocalEngine
from tff_tx.runtime.native import NativeContext, NativeEngine
from tff_tx.runtime.pipelines import numbered, untuned
from tff_tx.runtime.ray_cluster import RayCluster
from tff_tx.runtime.ray_engine import MOST_LEAVES, RayEngine
from tff_tx.runtime.ray_record import Limits
from tff_tx.runtime.reading import ClientReader
from tff_tx.runtime.rounds import RoundOutput, TooFewClientsError, Traffic


@atexit.register
def _end_default_context() -> None:
    """Ends TFF's default context, used or not, while Python can.

    Left to Python it is deleted after the modules that it needs for it, which prints an error and leaves its worker
    running. It asks the worker to end by SIGINT and waits, for ever where a shell started the program with that signal
    ignored (`nohup python x.py &`): so the worker is ended before.
    """
    for child in psutil.Process().children():
        if "worker_binary" in child.name():
            child.kill()
    set_default_context.set_no_default_context()


@contextlib.contextmanager
def profile(directory: str, enabled: bool = True):
    """Writes a trace of what runs inside the block, which TensorBoard shows with `tensorboard --logdir=DIRECTORY`."""
    if not enabled:
        yield
        return
    with tf.profiler.experimental.Profile(directory):
        yield


ENGINES = {"local": LocalEngine, "tff_native": NativeEngine, "ray": RayEngine}
"""By the name of `--engine`."""

__all__ = [
    "ENGINES",
    "MOST_LEAVES",
    "PRECISIONS",
    "ClientCompression",
    "ClientReader",
    "Engine",
    "Hook",
    "Job",
    "Limits",
    "LocalEngine",
    "NativeContext",
    "NativeEngine",
    "RayCluster",
    "RayEngine",
    "RoundOutput",
    "Staleness",
    "TooFewClientsError",
    "Traffic",
    "configure_tensorflow",
    "numbered",
    "process_state",
    "profile",
    "step_function",
    "untuned",
    "with_model",
]
