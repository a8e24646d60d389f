"""`tf.function`s within a model, run as plain Python while the model is traced."""

from __future__ import annotations

import threading
import types

import tensorflow as tf
from tensorflow.python.eager.polymorphic_function import tf_method_target
from tensorflow.python.util import tf_decorator

from tff_tx.core import internals


def inlined():
    """Runs `tf.function`s of the model as plain Python in the calling thread, inside the block.

    They would keep what they are traced to, and with it the tensors that stand for the variables
    for this one call, and use them in the next.
    """
    kind, thread = type(tf.function(lambda: None)), threading.get_ident()
    original = kind.__call__

    def call(self, *args, **kwargs):
        if threading.get_ident() != thread:
            return original(self, *args, **kwargs)
        status = tf.__internal__.autograph.control_status_ctx()
        return tf.__internal__.autograph.tf_convert(_python_function(self), status)(*args, **kwargs)

    return internals.swapped((kind, "__call__", call))


def _python_function(function):
    """What a `tf.function` was made of; of one that is bound to an object, the bound method.

    TensorFlow binds it to a stand-in for the object instead. AutoGraph would call it with that, and change the function
    itself to do so from then on.
    """
    _, method = tf_decorator.unwrap(function.python_function)
    owner = getattr(method, "__self__", None)
    if not isinstance(owner, tf_method_target.TfMethodTarget):
        return function.python_function
    return types.MethodType(owner.weakrefself_func__(), owner.target)
