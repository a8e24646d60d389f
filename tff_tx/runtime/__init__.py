"""Engines: where and how the rounds of a `LearningProcess` run."""

import contextlib

import tensorflow as tf

from tff_tx.runtime.client_compression import ClientCompression
from tff_tx.runtime.client_states import PersonalWeights, RetainedState
from tff_tx.runtime.engine import Engine, ProcessEngine, process_state, with_model
from tff_tx.runtime.fed_buff import Staleness
from tff_tx.runtime.graphs import step_function
from tff_tx.runtime.hooks import Hook, Job
from tff_tx.runtime.internals.calls import PRECISIONS
from tff_tx.runtime.local import LocalEngine
from tff_tx.runtime.native import NativeContext, NativeEngine
from tff_tx.runtime.pipelines import ClientReader, UnreadableClient, configure_tensorflow, numbered, untuned
from tff_tx.runtime.ray_cluster import RayCluster
from tff_tx.runtime.ray_engine import MOST_LEAVES, RayEngine
from tff_tx.runtime.rounds import RoundOutput, TooFewClientsError, Traffic
from tff_tx.runtime.secure_form import MOST_CLIENTS
from tff_tx.runtime.usage import Limits


@contextlib.contextmanager
def profile(directory: str, enabled: bool = True):
    """Writes a trace of what runs inside the block, which TensorBoard shows with `tensorboard --logdir=DIRECTORY`."""
    with tf.profiler.experimental.Profile(directory) if enabled else contextlib.nullcontext():
        yield


ENGINES = {"local": LocalEngine, "tff_native": NativeEngine, "ray": RayEngine}
"""By the name of `engine.name`."""

__all__ = [
    *("ENGINES", "MOST_CLIENTS", "MOST_LEAVES", "PRECISIONS", "ClientCompression", "ClientReader", "Engine", "Hook"),
    *("Job", "Limits", "LocalEngine", "NativeContext", "NativeEngine", "PersonalWeights", "ProcessEngine"),
    *("RayCluster", "RayEngine", "RoundOutput", "Staleness", "TooFewClientsError", "Traffic", "UnreadableClient"),
    *(
        "RetainedState",
        "configure_tensorflow",
        "numbered",
        "process_state",
        "profile",
        "step_function",
        "untuned",
        "with_model",
    ),
]
