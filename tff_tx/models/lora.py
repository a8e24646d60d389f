"""Low-rank adaptation (LoRA, Hu et al. 2022, https://arxiv.org/abs/2106.09685) of any Keras model, without new layers.

An adapted weight matrix W [m, n] acts as W + s A B, with A [m, r], B [r, n] and s = alpha / r. Where W is the kernel of
a dense layer, that layer is made to compute x W + s (x A) B for the length of a call, which forms neither A B nor a
gradient of the size of W; any other weight is replaced by the sum itself.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tff_tx.core.errors import UserError, setting
from tff_tx.models import trainable as trainable_lib
from tff_tx.models.tracing.adapted_layers import adapted, dense_layers
from tff_tx.models.tracing.keras_function import KerasFunction, Slot

RANK = "lora_rank"
"""The input that carries the rank of a client, where clients have different ones: int32, a scalar, not batched."""

DEFAULT_TARGETS = {
    "bert": r"/(query|value)/kernel",
    "roberta": r"/(query|value)/kernel",
    "albert": r"/(query|value)/kernel",
    "electra": r"/(query|value)/kernel",
    "vit": r"/(query|value)/kernel",
    "swin": r"/(query|value)/kernel",
    "deberta-v2": r"/(query_proj|value_proj)/kernel",
    "distilbert": r"/(q_lin|v_lin)/kernel",
    "gpt2": r"/c_attn/weight",
    "opt": r"/(q_proj|v_proj)/kernel",
    "t5": r"/(q|v)/kernel",
}
"""By architecture, which weights are adapted: the projections to queries and values, as in the paper and in PEFT."""

ANY_ATTENTION = r"(^|/)(query|value|query_proj|value_proj|q_proj|v_proj|q_lin|v_lin|q|v|c_attn)/(kernel|weight)"
"""The same for an architecture that is not in the table."""


@dataclasses.dataclass(frozen=True)
class Lora:
    """How a model is adapted.

    Attributes:
      ranks: r of the clients; with more than one, each client has one of them, and the server's A and B the largest.
      alpha: The update is scaled by alpha over the largest rank.
      targets: Regular expression, searched in the names of weights; None: that of `DEFAULT_TARGETS`.
      dropout: Rate at which inputs of the adapted layers are dropped on their way through A and B.
      freeze_a: Whether A keeps its random initial value, as in FFA-LoRA (Sun et al. 2024,
        https://arxiv.org/abs/2403.12313): the mean of the clients' A B_k is then A times the mean of their B_k.
      residual: Whether there is a matrix R [m, n] beside W that the server may change; the weight is W + R + s A B.
        For `tff_tx.algorithms.LORA_AGGREGATIONS` that need it.
      in_layers: Whether dense layers compute x W + s (x A) B; otherwise W + s A B takes the place of W there too.
      seed: Of the initial values of A.

    Raises:
      UserError: At construction, if a value is out of range.
    """

    ranks: tuple[int, ...] = (8,)
    alpha: float = 16.0
    targets: str | None = None
    dropout: float = 0.0
    freeze_a: bool = False
    residual: bool = False
    in_layers: bool = True
    seed: int = 0

    def __post_init__(self):
        if not self.ranks or min(self.ranks) < 1:
            raise UserError(
                f"{setting('lora.rank')}={','.join(map(str, self.ranks))}: ranks are 1 or more; give at least one."
            )
        if not self.alpha > 0:
            raise UserError(f"{setting('lora.alpha')}={self.alpha} is not more than 0: raise it.")
        if not 0 <= self.dropout < 1:
            raise UserError(f"{setting('lora.dropout')}={self.dropout} is no rate from 0 to below 1: lower it.")
        if self.freeze_a and len(set(self.ranks)) > 1:
            raise UserError(
                f"{setting('lora.freeze_a')} and several ranks in {setting('lora.rank')}: clients of less than the "
                f"largest rank would not "
                "have the same A as the server; give one rank."
            )

    @property
    def rank(self) -> int:
        """The largest."""
        return max(self.ranks)

    @property
    def scale(self) -> float:
        """What multiplies A B."""
        return self.alpha / self.rank


class Adapter:
    """One adapted weight.

    Attributes:
      weight: The variable of W.
      shape: (m, n), as which W, of any shape of at least two dimensions, is seen.
      layer: The dense layer that computes with W; None for any other weight.
      a: Variable [m, r], random.
      b: Variable [r, n], zeros.
      residual: Variable [m, n], zeros, or None.
    """

    def __init__(self, weight: Any, layer: Any, lora: Lora, number: int):
        self.weight, self.layer, self.shape = weight, layer, _matrix_shape(weight.shape)
        rows, columns = self.shape
        # PEFT's initial value, that of PyTorch's linear layers.
        bound = 1.0 / np.sqrt(rows)
        a = np.random.default_rng([lora.seed, number]).uniform(-bound, bound, [rows, lora.rank])
        name = weight.name.split(":")[0]
        self.a = tf.Variable(a.astype(np.float32), name=f"{name}/lora_a")
        self.b = tf.Variable(np.zeros([lora.rank, columns], np.float32), name=f"{name}/lora_b")
        self.residual = None
        if lora.residual:
            self.residual = tf.Variable(np.zeros([rows, columns], np.float32), name=f"{name}/lora_residual")

    @property
    def variables(self) -> list:
        """A, B and, where there is one, the residual."""
        return [self.a, self.b] + ([] if self.residual is None else [self.residual])

    def delta(self, scale: float) -> np.ndarray:
        """What is added to W, float32 of `shape`: R + s A B."""
        delta = np.float32(scale) * (self.a.numpy() @ self.b.numpy())
        return delta if self.residual is None else delta + self.residual.numpy()


class LoraFunction(KerasFunction):
    """A Keras model with adapters as a pure function of its weights and theirs.

    Attributes:
      variables: The model's weights, then the variables of the adapters.
      adapters: One an adapted weight.
      lora: How they are adapted.
    """

    def __init__(self, model: Any, lora: Lora):
        super().__init__(model)
        self.lora = lora
        owners = dense_layers(model) if lora.in_layers else {}
        targets = _targets(model, self.variables, lora)
        self.adapters = [Adapter(v, owners.get(id(v)), lora, i) for i, v in enumerate(targets)]
        if lora.dropout and (elsewhere := [a.weight for a in self.adapters if a.layer is None]):
            raise UserError(
                f"{setting('lora.dropout')}={lora.dropout} drops inputs of dense layers, and "
                f"{setting('lora.targets')} also names "
                f"{trainable_lib.some_names(elsewhere)}: name only kernels of dense layers, or drop nothing."
            )
        for adapter in self.adapters:
            self.variables += adapter.variables
        self.dtypes = [v.dtype for v in self.variables]
        self._positions = {id(v): i for i, v in enumerate(self.variables)}

    def __call__(self, values: list, inputs: Any, training: bool, seed: Any = None) -> Any:
        return super().__call__(values, _without_rank(inputs), training, seed)

    @contextlib.contextmanager
    def placed(self, values: Mapping[int, Any], training: bool, slots: Sequence[Slot] | None = None):
        values, in_layers = dict(values), []
        for adapter in self.adapters:
            position = self._positions[id(adapter.weight)]
            if position not in values:
                continue
            a, b, *residual = (values[self._positions[id(v)]] for v in adapter.variables)
            added = list(residual)
            if adapter.layer is None:
                added.append(self.lora.scale * tf.matmul(a, b))
            else:
                in_layers.append((adapter.layer, a, b))
            for matrix in added:
                weight = tf.cast(values[position], adapter.weight.dtype)
                values[position] = weight + tf.reshape(matrix, adapter.weight.shape)
        dropout = self.lora.dropout if training else 0.0
        with adapted(in_layers, self.lora.scale, dropout), super().placed(values, training, slots):
            yield

    def part(self, layer: Any) -> tuple[list[Slot], list[int]]:
        slots, positions = super().part(layer)
        there = [adapter for adapter in self.adapters if self._positions[id(adapter.weight)] in positions]
        return slots, positions + [self._positions[id(v)] for adapter in there for v in adapter.variables]

    def merge(self) -> None:
        """Adds to each adapted variable of the model what its adapter does to it."""
        for adapter in self.adapters:
            delta = adapter.delta(self.lora.scale)
            adapter.weight.assign_add(tf.reshape(delta, adapter.weight.shape))


def _without_rank(inputs):
    if not isinstance(inputs, collections.abc.Mapping):
        return inputs
    return {name: value for name, value in inputs.items() if name != RANK}


def _targets(model, variables, lora) -> list:
    kind = getattr(getattr(model, "config", None), "model_type", None)
    pattern = lora.targets if lora.targets is not None else DEFAULT_TARGETS.get(kind, ANY_ATTENTION)
    found = trainable_lib.compiled(pattern, f"{setting('lora.targets')}={pattern}")
    matrices = [v for v in variables if v.dtype.is_floating and v.shape.rank >= 2 and min(_matrix_shape(v.shape)) > 1]
    targets = [v for v in matrices if found.search(v.name)]
    if not targets:
        raise UserError(
            f"{setting('lora.targets')}={pattern} is in the name of no weight matrix of {type(model).__name__}; its "
            f"matrices are {trainable_lib.some_names(matrices)}."
        )
    for v in targets:
        if lora.rank > min(_matrix_shape(v.shape)):
            rows, columns = _matrix_shape(v.shape)
            raise UserError(
                f"{setting('lora.rank')}={lora.rank} is more than the {rows}x{columns} weight {v.name} can have: "
                f"lower it, or "
                f"leave that weight out with {setting('lora.targets')}."
            )
    return targets


def _matrix_shape(shape) -> tuple[int, int]:
    """Of the ways to part a weight's dimensions in two the one nearest to a square."""
    sizes = [(int(np.prod(shape[:i])), int(np.prod(shape[i:]))) for i in range(1, len(shape))]
    return min(sizes, key=sum)
