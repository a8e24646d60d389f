"""TensorFlow's settings in every process that runs clients."""

import os

import tensorflow as tf

_BLOCKED = 16
"""Threads that steps of one client may block at a time: one for each level of nested control flow."""


def configure_tensorflow() -> None:
    """Sets TensorFlow up for many small clients side by side; to be called before it starts.

    Each op gets one thread: an op split over threads adds up in an order that depends on their number, and so would the
    results. Grappler, which TFF has run over a round's graphs already, would run again over the functions of every
    client's data pipeline, which takes longer than the steps of a small model.

    A step with control flow that is not inlined (`tf.cond`, `tf.while_loop`) blocks a thread of the pool that runs ops,
    and waits for another one of it: with a pool of as many threads as processors, as many clients at a time wait for
    ever. The pool is larger; its size does not change the numbers.
    """
    tf.config.threading.set_inter_op_parallelism_threads(_BLOCKED * (os.cpu_count() or 1))
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
