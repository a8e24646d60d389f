"""Layers that are computed again in the backward pass, so that nothing within them is stored in the forward pass.

Chen et al. 2016, "Training deep nets with sublinear memory cost", https://arxiv.org/abs/1604.06174. Stored is
what goes into a layer; with a layer a Transformer block, memory grows by one tensor a block instead of all of its
activations, for one more forward pass.

`tf.recompute_grad` does not do here: weights are tensors, which it would not differentiate, and it runs the layer's
Python whenever a gradient is asked for, in TFF's graphs, where nothing stands for the variables any more. Here the
backward pass of a layer is a graph of its own, traced along with the forward pass, under the same adapters and draws.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tff_tx.core import internals
from tff_tx.models.tracing import randomness as _randomness


@contextlib.contextmanager
def recomputing(function: Any, values: Mapping[int, Any], training: bool, status: Any):
    """Makes calls of `function.recomputed` store their inputs alone, while the model is called.

    Args:
      function: A `KerasFunction`.
      values: Of its variables, by position, in the types that they come in: casts are within the layers.
      training: Whether there will be a backward pass.
      status: AutoGraph's, with which layers are called.
    """
    with contextlib.ExitStack() as stack:
        if function.recomputed and training:
            stack.enter_context(_without_cache(function.model))
        for layer in function.recomputed:
            call = _recomputed_call(function, layer, values, training, status)
            stack.enter_context(internals.swapped((layer, "call", call)))
        yield


def _recomputed_call(function, layer, values, training, status):
    outer = vars(layer).get("call", internals.ABSENT)  # an adapter's
    slots, positions = function.part(layer)

    @tf.autograph.experimental.do_not_convert
    def call(*args, **kwargs):
        leaves = tf.nest.flatten((args, kwargs))
        places = [i for i, leaf in enumerate(leaves) if tf.is_tensor(leaf)]
        inputs, weights = [tf.identity(leaves[i]) for i in places], [values[i] for i in positions]

        def run(inputs, weights):
            """The layer's output as leaves, of which some may be no tensors."""
            filled = list(leaves)
            for place, tensor in zip(places, inputs):
                filled[place] = tensor
            args_, kwargs_ = tf.nest.pack_sequence_as((args, kwargs), filled)
            by_position = dict(zip(positions, weights))
            with internals.swapped((layer, "call", outer)), function.placed(by_position, training, slots):
                return tf.__internal__.autograph.tf_convert(layer.call, status)(*args_, **kwargs_)

        position = _randomness.position()
        # Or all casts of weights would come first, and their results be there at the same time.
        outputs = run(inputs, _after(inputs, weights))
        if not training:
            return outputs
        flat = tf.nest.flatten(outputs)
        carry = [i for i, leaf in enumerate(flat) if _is_differentiable(leaf)]
        results = _with_backward(
            function,
            lambda tensors: _carried(run, tensors, len(inputs), position, carry),
            [flat[i] for i in carry],
            inputs + weights + ([] if position is None else [position[0]]),
            constant=[len(inputs) + k for k, i in enumerate(positions) if i in function.frozen],
        )
        for i, result in zip(carry, results):
            flat[i] = result
        return tf.nest.pack_sequence_as(outputs, flat)

    return call


def _carried(run, tensors, num_inputs, position, carry):
    """The outputs that have gradients, computed from (inputs, weights, key of the draws)."""
    with contextlib.ExitStack() as stack:
        if position is not None:
            *tensors, key = tensors
            stack.enter_context(_randomness.resumed(key, position[1]))
        flat = tf.nest.flatten(run(tensors[:num_inputs], tensors[num_inputs:]))
    return [flat[i] for i in carry]


def _with_backward(owner, again, outputs: list, tensors: list, constant: Sequence[int]) -> list:
    """`outputs` with the gradients of `again(tensors)`, that are computed when those of the outputs are there.

    Args:
      owner: Keeps the graph of the backward pass in `backward_graphs`.
      again: From tensors to outputs, anew.
      outputs: What it gave before.
      tensors: What they depend on.
      constant: Places of those that have no gradient.
    """
    sources = [i for i, t in enumerate(tensors) if _is_differentiable(t) and i not in constant]
    reachable = []

    def backward(tensors, upstream):
        # After the gradients from above, or nothing would keep all layers from being computed again right away. The
        # other nodes also keep TensorFlow from finding that it has computed the same before.
        tensors = _after(upstream, tensors)
        watched = [tensors[i] for i in sources]
        with tf.GradientTape() as tape:
            tape.watch(watched)
            outputs = again(tensors)
        gradients = tape.gradient(outputs, watched, output_gradients=upstream)
        reachable[:] = [i for i, g in zip(sources, gradients) if g is not None]
        gradients = [tf.convert_to_tensor(g) for g in gradients if g is not None]
        # All of a layer before any of the next, whose memory is then the only one.
        return _after(gradients, gradients)

    specs = [[tf.TensorSpec(t.shape, t.dtype) for t in part] for part in (tensors, outputs)]
    traced = tf.function(backward, autograph=False).get_concrete_function(*specs)
    owner.backward_graphs.append(traced)
    traced = weakref.ref(traced)  # TensorFlow never forgets a gradient

    @tf.custom_gradient
    def forward(*unused):
        def gradients(*upstream):
            return traced()(tensors, [tf.convert_to_tensor(u) for u in upstream])

        return outputs, gradients

    return forward(*(tensors[i] for i in reachable)) if reachable else outputs


def _after(first: list, tensors: list) -> list:
    """The same tensors, not before the first ones are computed."""
    with tf.control_dependencies(first):
        return [tf.identity(t) for t in tensors]


def _is_differentiable(leaf) -> bool:
    return tf.is_tensor(leaf) and leaf.dtype.is_floating


def _without_cache(model):
    """Keys and values for generation, which training has no use for, would be stored for every block."""
    config = getattr(model, "config", None)
    if getattr(config, "use_cache", None) is None:
        return contextlib.nullcontext()
    return internals.swapped((config, "use_cache", False))
