"""Engines: where and how the rounds of a `LearningProcess` run. The only room that touches TFF's internals."""

import contextlib

import tensorflow as tf

from tff_tx.runtime.engine import Engine, RoundOutput, TooFewClientsError, Traffic
from tff_tx.runtime.fed_buff import FedBuffEngine
from tff_tx.runtime.graphs import PRECISIONS
from tff_tx.runtime.local import LocalEngine
from tff_tx.runtime.native import NativeEngine


def configure_tensorflow() -> None:
    """Sets TensorFlow up for many small clients side by side; to be called before it starts.

    Each op gets one thread: an op split over threads adds up in an order that depends on their number, and so would the
    results. Grappler, which TFF has run over a round's graphs already, would run again over the functions of every
    client's data pipeline, which takes longer than the steps of a small model.
    """
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@contextlib.contextmanager
def profile(directory: str, enabled: bool = True):
    """Writes a trace of what runs inside the block, which TensorBoard shows with `tensorboard --logdir=DIRECTORY`."""
    if not enabled:
        yield
        return
    with tf.profiler.experimental.Profile(directory):
        yield


ENGINES = {"local": LocalEngine, "tff_native": NativeEngine}
"""By the name of `--engine`."""

__all__ = [
    "ENGINES",
    "PRECISIONS",
    "Engine",
    "FedBuffEngine",
    "LocalEngine",
    "NativeEngine",
    "RoundOutput",
    "TooFewClientsError",
    "Traffic",
    "configure_tensorflow",
    "profile",
]
