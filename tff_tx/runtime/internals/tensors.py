"""Tensors that are freed to the last byte."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import tensorflow as tf

_LEAKS = sys.version_info >= (3, 11)
_NO_ATTRIBUTES: dict = {}


def drop_python_state(tensors: Sequence[tf.Tensor]) -> None:
    """Ensures that tensors are freed to the last byte when they are dropped; only for tensors that no user gets.

    From Python 3.11 on an object is made with space for attributes, which the type of the object must free, and that of
    TensorFlow 2.14 does not: 32 bytes and more are lost with every tensor, kilobytes with every client, gigabytes in a
    long run. Given a dictionary, an object drops that space at once. The dictionary is one for all of them, as it would
    be lost in turn: an attribute set on one such tensor shows on all.

    Args:
      tensors: Eager.
    """
    if _LEAKS:
        for tensor in tensors:
            tensor.__dict__ = _NO_ATTRIBUTES
