"""TensorFlow's settings in every process that runs clients."""

import tensorflow as tf


def configure_tensorflow() -> None:
    """Sets TensorFlow up for many small clients side by side; to be called before it starts.

    Each op gets one thread: an op split over threads adds up in an order that depends on their number, and so would the
    results. Grappler, which TFF has run over a round's graphs already, would run again over the functions of every
    client's data pipeline, which takes longer than the steps of a small model.
    """
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
