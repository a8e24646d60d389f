"""What a model must fulfil to be trained federatedly; each error is a sentence with its remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from tff_tx.core.errors import UserError, setting
from tff_tx.models.tracing import randomness as _randomness


class StatefulModelError(UserError):
    """The model changes variables while it trains: its update is more than one of weights."""


def frozen_norms(model: Any, trained: Sequence[Any]) -> list:
    """The layers of batch normalization, of which none may be among the variables that are trained."""
    found, wanted = [], {id(variable) for variable in trained}
    for layer in model.submodules:
        if "BatchNormalization" in type(layer).__name__:
            if wanted & {id(variable) for variable in layer.trainable_weights}:
                raise StatefulModelError(stateful_message(model, f"layer {layer.name}, {type(layer).__name__}"))
            found.append(layer)
    return found


def require_fit_model(model: Any) -> None:
    """Raises for what shows before a graph is made: layers with state, losses of layers, layers left out at random."""
    kind = type(model).__name__
    for layer in model.submodules:
        what = f"layer {getattr(layer, 'name', '?')}, {type(layer).__name__}"
        if isinstance(layer, (tf.keras.layers.RNN, tf_keras.layers.RNN)) and layer.stateful:
            raise UserError(
                f"{kind} keeps state between batches ({what} with stateful=True), which would mix "
                "up clients: build it with stateful=False."
            )
    if model.losses:
        raise UserError(
            f"{kind} has {len(model.losses)} regularization losses, which federated training would "
            "lose: remove the regularizers and use the weight decay of the optimizer instead."
        )
    for name in ("layerdrop", "encoder_layerdrop", "decoder_layerdrop"):
        rate = getattr(getattr(model, "config", None), name, 0.0)
        if rate:
            raise UserError(
                f"{kind} has {name}={rate}: Hugging Face draws it in Python, once and for all when "
                f"the graph is made, so some layers would never train: set {name} to 0 in its "
                "configuration."
            )


def require_pure_graph(model: Any, traced: Any, seed: Any) -> None:
    """Raises for a graph that depends on more than weights and data."""
    kind = type(model).__name__
    if _assigns(traced.graph):
        names = ", ".join(sorted(v.name for v in traced.graph.variables))
        raise StatefulModelError(stateful_message(model, f"variables {names}"))
    if traced.graph.variables:
        names = ", ".join(sorted(v.name for v in traced.graph.variables))
        raise UserError(
            f"{kind} uses variables that are not attributes of its layers ({names}), so that a "
            "client could not train its own copy: create them with add_weight in a layer."
        )
    if any(external.dtype == tf.resource for external, _ in traced.graph.captures):
        raise UserError(
            f"{kind} uses a resource other than a variable, such as a lookup table, which does not "
            "travel to clients: do that work (tokenization, say) when the data is prepared."
        )
    if model.losses:
        raise UserError(
            f"{kind} adds losses of its own (add_loss or an activity regularizer), which federated "
            "training would lose: remove them."
        )
    stateful = _randomness.stateful_ops(traced.graph)
    if seed is not None and stateful:
        raise UserError(
            f"{kind} draws random numbers with {', '.join(stateful)}, which no seed reaches: draw "
            "them with tf.random.uniform, normal, truncated_normal, shuffle or categorical, or "
            f"leave {_randomness.SEED!r} out of the inputs."
        )


def stateful_message(model: Any, what: str) -> str:
    """The sentence of a `StatefulModelError`."""
    return (
        f"{type(model).__name__} changes state while it trains ({what}), which averaging of "
        "weights would mix up between clients: use LayerNormalization or GroupNormalization "
        "instead, set layer.trainable = False, or train other weights alone, as with "
        f"{setting('model.trainable')}=head."
    )


def _assigns(graph) -> bool:
    ops = [op.type for op in graph.get_operations()]
    for function in graph.as_graph_def().library.function:
        ops.extend(node.op for node in function.node_def)
    return any(op.startswith("Assign") for op in ops)
