"""What clients retain between rounds, and what a server retains beside its model and sends along with it."""

from __future__ import annotations

import collections
from typing import Any, Callable, NamedTuple

import tensorflow as tf
import tensorflow_federated as tff

from tff_tx.runtime.form import CLIENT_STATE

SHARES = "shares"
"""Name of what clients send for `ServerState`."""


class ServerState(NamedTuple):
    """A value at the server that goes by a sum over clients: `Client.shared` while these train.

    Attributes:
      initialize: Gives the first value, a structure of tensors.
      next: From it and the sum of what `Client.result` had as `shares` to the next value.
    """

    initialize: Callable[[], Any]
    next: Callable[[Any, Any], Any]


def blank_state(state_type: tff.Type) -> tff.Computation:
    """What the server broadcasts in the place of the states of clients that have none; always zeros."""
    specs = tff.types.type_to_tf_tensor_specs(state_type)

    @tff.tensorflow.computation
    def blank():
        state = tf.nest.map_structure(lambda spec: tf.zeros(spec.shape, spec.dtype), specs)
        return collections.OrderedDict([(CLIENT_STATE, collections.OrderedDict(rounds=0, state=state))])

    return blank
