"""What messages say: a JSON object, and arrays as the codec writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tff_tx.core import codec
from tff_tx.federation.envelopes import EnvelopeError, Payload

_LENGTH = 8


def pack(said: Mapping[str, Any], arrays: bytes = b"") -> Payload:
    """A payload of an object and bytes, as of `encode`; several payloads may share the latter."""
    text = json.dumps(said, separators=(",", ":")).encode()
    return (len(text).to_bytes(_LENGTH, "big") + text, arrays)


def unpack(payload: bytes, most_bytes: int | None = None) -> tuple[dict[str, Any], list[np.ndarray]]:
    """What `pack` packed.

    Args:
      payload: In one piece.
      most_bytes: Of the arrays together, at most; None: no bound.

    Raises:
      EnvelopeError: If it is nothing of the kind.
    """
    said, rest = split(payload)
    try:
        return said, codec.decode(rest, most_bytes) if rest else []
    except codec.CodecError as error:
        raise EnvelopeError(f"a message cannot be read ({error}).") from None


def split(payload: bytes) -> tuple[dict[str, Any], bytes]:
    """The object of a payload, and the bytes that follow it.

    Raises:
      EnvelopeError: If it is nothing of the kind.
    """
    size = int.from_bytes(payload[:_LENGTH], "big")
    try:
        said = json.loads(payload[_LENGTH : _LENGTH + size])
    except (ValueError, RecursionError) as error:
        raise EnvelopeError(f"a message cannot be read ({error}).") from None
    if not isinstance(said, dict):
        raise EnvelopeError("a message is no object.")
    return said, payload[_LENGTH + size :]


def encode(arrays: Sequence[Any], compressed: bool = False) -> bytes:
    """The bytes of arrays; with entropy coding if they are `compressed`, which takes time."""
    return codec.encode([np.asarray(array) for array in arrays], entropy_coding=compressed)


def require_like(arrays: Sequence[np.ndarray], specs: Sequence[Any], sender: str) -> None:
    """Checks types and shapes of arrays, as of others or `tf.TensorSpec`s, and that they are finite.

    Raises:
      EnvelopeError: If they are others; the message names the sender.
    """
    found = [(array.dtype, array.shape) for array in arrays]
    wanted = [(np.dtype(getattr(spec.dtype, "as_numpy_dtype", spec.dtype)), tuple(spec.shape)) for spec in specs]
    if found != wanted:
        raise EnvelopeError(f"{sender} sent other arrays than those of the round.")
    if not all(np.isfinite(array).all() for array in arrays if array.dtype.kind == "f"):
        raise EnvelopeError(f"{sender} sent numbers that are not finite.")
