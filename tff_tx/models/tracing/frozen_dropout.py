"""Dropout that leaves alone what no trained weight has touched: a frozen part that computes the same in every epoch."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tff_tx.core import internals


def off_where_frozen(model: Any, trained: Sequence[tf.Tensor]):
    """Makes layers that only drop or disturb do nothing where their inputs depend on no trained weight.

    Those are the layers without weights and without layers of their own whose `call` has an argument `training`:
    Dropout, and those of Hugging Face models that drop whole paths.

    Args:
      model: A Keras model, to be traced inside the block.
      trained: The tensors that stand for its trained weights, of the graph that it is traced into.
    """
    depends = _Dependence(trained)
    layers = [layer for layer in model.submodules if _only_disturbs(layer)]
    return internals.swapped(*((layer, "call", _call(layer, depends)) for layer in layers))


def _only_disturbs(layer) -> bool:
    if not hasattr(layer, "call") or "call" in vars(layer) or getattr(layer, "weights", True):
        return False
    inner = any(hasattr(module, "call") for module in layer.submodules)
    return not inner and "training" in inspect.signature(layer.call).parameters


def _call(layer, depends):
    original = layer.call
    signature = inspect.signature(original)

    @tf.autograph.experimental.do_not_convert
    def call(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        if not any(depends(t) for t in tf.nest.flatten((args, kwargs)) if tf.is_tensor(t)):
            bound.arguments["training"] = False
        return original(*bound.args, **bound.kwargs)

    return call


class _Dependence:
    """Whether a tensor depends on some of one graph."""

    def __init__(self, sources):
        self._graphs = {id(t.graph) for t in sources}
        self._known = {t.op.name: True for t in sources}

    def __call__(self, tensor) -> bool:
        if id(tensor.graph) not in self._graphs:  # inside a loop or a branch, which cannot be followed
            return True
        ops = [tensor.op]
        while ops:
            op = ops[-1]
            missing = [t.op for t in op.inputs if t.op.name not in self._known]
            if op.name in self._known or not missing:
                ops.pop()
                self._known.setdefault(op.name, any(self._known[t.op.name] for t in op.inputs))
            else:
                ops += missing
        return self._known[tensor.op.name]
