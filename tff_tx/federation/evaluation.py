"""Evaluation where the data are: the model travels to participants, and sums of metrics back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tff_tx.federation import contents
from tff_tx.federation.envelopes import EnvelopeError
from tff_tx.federation.layout import Layout

EVALUATE = "evaluate"
"""The phase of evaluation in the clear, and what a first message of secure sums says that is about one."""

_MODULUS, _FRACTION_BITS = 2**62, 16
_MOST = 2.0**31


def to_arrays(weights: Sequence[Any], initial: Sequence[Any]) -> tuple[list[int], list[np.ndarray]]:
    """What travels of a model: which of its weights are others than the initial ones, and these."""
    found = [np.asarray(weight) for weight in weights]
    changed = [i for i, (now, before) in enumerate(zip(found, initial)) if not np.array_equal(now, before)]
    return changed, [found[i] for i in changed]


def to_weights(changed: Any, arrays: Sequence[np.ndarray], initial: Sequence[Any]) -> list[np.ndarray]:
    """The inverse of `to_arrays`.

    Raises:
      EnvelopeError: If the arrays are not weights of this model.
    """
    weights = [np.asarray(weight) for weight in initial]
    places = changed if isinstance(changed, list) else []
    if len(places) != len(arrays) or len(set(map(str, places))) < len(places):
        raise EnvelopeError("the coordinator does not say which weights it sends.")
    for place, array in zip(places, arrays):
        if not isinstance(place, int) or not 0 <= place < len(weights):
            raise EnvelopeError("the coordinator sends a weight that the model has not.")
        contents.require_like([array], [weights[place]], "the coordinator")
        weights[place] = array
    return weights


def layout_of(sums: Sequence[Any]) -> Layout:
    """Of sums of metrics as vectors of a secure sum, and of how many participants could not give them."""
    shapes = *(np.shape(leaf) for leaf in sums), (len(sums),)
    return Layout((_MODULUS,) * len(shapes), shapes, (np.dtype(np.int64),) * len(shapes))


def to_fixed_point(sums: Sequence[Any]) -> list[np.ndarray]:
    """Sums of metrics as whole numbers modulo 2^62, 31 bits before the point and 16 after.

    What has no such form, as it is larger or not a number, is cut; the last vector says of which sums there is any.
    """
    scale = 2.0**_FRACTION_BITS
    values = [np.asarray(leaf, np.float64) for leaf in sums]
    unfit = [not np.all(np.abs(value) <= _MOST) for value in values]
    bounded = (np.clip(np.nan_to_num(value), -_MOST, _MOST) for value in values)
    return [*(np.mod(np.rint(v * scale).astype(np.int64), _MODULUS) for v in bounded), np.asarray(unfit, np.int64)]


def from_fixed_point(total: Sequence[np.ndarray], like: Sequence[Any]) -> list[np.ndarray]:
    """The sums of whole numbers modulo 2^62, of the types of `like`; floats that were cut are not a number."""
    *total, unfit = total
    signed = (np.where(leaf >= _MODULUS // 2, leaf - _MODULUS, leaf) / 2.0**_FRACTION_BITS for leaf in total)
    kinds = [np.asarray(leaf).dtype for leaf in like]
    found = [(np.rint(v) if kind.kind in "iu" else v).astype(kind) for v, kind in zip(signed, kinds)]
    return [np.where(cut and v.dtype.kind == "f", np.nan, v).astype(v.dtype) for v, cut in zip(found, unfit)]


def added(sums: Mapping[str, Sequence[np.ndarray]]) -> list[np.ndarray]:
    """The sums over participants."""
    return [np.add.reduce(leaves) for leaves in zip(*sums.values())]
