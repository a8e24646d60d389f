"""Engines: where and how the rounds of a `LearningProcess` run. The only room that touches TFF's internals."""

import tensorflow as tf

from tff_tx.runtime.engine import Engine, Traffic
from tff_tx.runtime.local import LocalEngine
from tff_tx.runtime.native import NativeEngine


def configure_threads() -> None:
    """Gives each op one thread, before TensorFlow starts: clients run side by side instead.

    An op split over threads adds up in an order that depends on their number; so do the results.
    """
    tf.config.threading.set_intra_op_parallelism_threads(1)


ENGINES = {"local": LocalEngine, "tff_native": NativeEngine}
"""By the name of `--engine`."""

__all__ = ["ENGINES", "Engine", "LocalEngine", "NativeEngine", "Traffic", "configure_threads"]
