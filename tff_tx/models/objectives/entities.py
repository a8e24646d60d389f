"""Entity-level counts inside the graph, as seqeval counts them.

seqeval (github.com/chakki-works/seqeval) works on Python lists after training; federated metrics must be sums made on
the client. These are vectorized: of IOB1 and IOB2 its default (conlleval) mode, in which an entity is a run of tokens
of one type, a new one starting at `B-` or at a change of type; of IOBES and BILOU its strict mode, in which an entity
is B, any number of I, and E of one type (L in BILOU), or a single S (U). A predicted entity is right if a true one of
the same type starts and ends at the same tokens.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tff_tx.core.errors import UserError, setting

_IOB = "BIO"
_SCHEMES = (_IOB, "BIOES", "BIOLU")
SINGLES, ENDS = "SU", "ELSU"
"""Letters of entities of one word, and of an entity's last word, which IOB has none for."""


def entity_scheme(label_names: Sequence[str]) -> str | None:
    """The letters of the scheme that tags of words are in; None: they mark no entities, as parts of speech.

    Raises:
      UserError: If most are in a scheme, and one is not.
    """
    parts = [name.partition("-") for name in label_names]
    bare = {letter for letter, dash, _ in parts if not dash}
    for scheme in _SCHEMES if bare & {"B", "I"} or len(bare) < len(parts) else ():
        if all(len(letter) == 1 and letter in scheme for letter, _, _ in parts):
            return scheme
    typed = [name for name in label_names if name.startswith(("B-", "I-"))]
    if typed:
        letters = {letter for letter, dash, _ in parts if dash}
        scheme = next((s for s in reversed(_SCHEMES) if letters & set(SINGLES + "EL") & set(s)), _IOB)
        bad = next(
            name for name, (letter, dash, _) in zip(label_names, parts) if letter not in scheme or len(letter) != 1
        )
        raise UserError(
            f"label {bad!r} is not of the scheme that {typed[0]!r} is of: every label must be O, B-TYPE or "
            "I-TYPE (IOB), or also E-TYPE and S-TYPE (IOBES), or L-TYPE and U-TYPE (BILOU); correct the tags of "
            f"{setting('data.label_column')}."
        )
    return None


class EntityCounter:
    """Counts true, predicted and correct entities in batches of labels.

    Args:
      label_names: In a scheme of `entity_scheme`.

    Attributes:
      kinds: The types of entities, in alphabetical order.
    """

    def __init__(self, label_names):
        letters = [name.partition("-")[0] for name in label_names]
        kinds = sorted({name.partition("-")[2] for name, letter in zip(label_names, letters) if letter != "O"})
        self.kinds = tuple(kinds)
        self._is = {group: np.array([letter in group for letter in letters]) for group in ("B", "BI", "BSU", ENDS)}
        self._kind = np.array(
            [0 if p == "O" else 1 + kinds.index(n.partition("-")[2]) for n, p in zip(label_names, letters)],
            np.int32,
        )
        self._spans = self._iob_spans if entity_scheme(label_names) == _IOB else self._strict_spans

    def __call__(self, labels, predictions, counted) -> collections.OrderedDict:
        """Counts entities over the tokens where `counted`, as if the others were not there.

        Args:
          labels: int32 [batch, length].
          predictions: int32 [batch, length].
          counted: bool [batch, length].

        Returns:
          OrderedDict of int64 scalars `entities_correct`, `entities_predicted`, `entities_true`.
        """
        found = self.by_kind(labels, predictions, counted)
        return collections.OrderedDict((name, tf.reduce_sum(values)) for name, values in found.items())

    def by_kind(self, labels, predictions, counted) -> collections.OrderedDict:
        """The same for each type of entities: int64 [kinds]."""
        labels, predictions, counted = _to_front(labels, predictions, counted)
        (end_true, start_true, kind_true), (end_pred, start_pred, kind_pred) = (
            self._spans(tf.where(counted, tags, 0), counted) for tags in (labels, predictions)
        )
        correct = end_true & end_pred & tf.equal(kind_true, kind_pred) & tf.equal(start_true, start_pred)
        where = (("correct", correct, kind_true), ("predicted", end_pred, kind_pred), ("true", end_true, kind_true))
        return collections.OrderedDict((f"entities_{name}", self._counts(*ends)) for name, *ends in where)

    def _counts(self, ends, kind):
        # Nothing has the kind 0.
        kinds = tf.reshape(tf.where(ends, kind, 0), [-1])
        number = len(self.kinds)
        return tf.ensure_shape(tf.math.bincount(kinds, minlength=number + 1, dtype=tf.int64)[1 : number + 1], [number])

    def _iob_spans(self, tags, counted):
        """Where entities end, bool; the place of the latest start; and the kind of each token, 0 outside."""
        kind = tf.where(counted, tf.gather(self._kind, tags), 0)
        inside = kind > 0
        start = inside & (self._has("B", tags, counted) | tf.not_equal(kind, _before(kind)))
        return inside & (_after(start) | ~_after(inside)), _latest(start), kind

    def _strict_spans(self, tags, counted):
        """The same; what does not go on with an entity, and starts none, breaks it."""
        kind = tf.where(counted, tf.gather(self._kind, tags), 0)
        start = self._has("BSU", tags, counted)
        goes_on = ~start & _before(self._has("BI", tags, counted)) & (kind > 0) & tf.equal(kind, _before(kind))
        started = _latest(start)
        whole = started > _latest(~start & ~goes_on)
        return whole & self._has(ENDS, tags, counted), started, kind

    def _has(self, group, tags, counted):
        return counted & tf.gather(self._is[group], tags)


def _before(values):
    return tf.pad(values[:, :-1], [[0, 0], [1, 0]])


def _after(values):
    return tf.pad(values[:, 1:], [[0, 0], [0, 1]])


def _to_front(labels, predictions, counted):
    """Moves the counted tokens of each row to its front, keeping their order."""
    order = tf.argsort(tf.cast(~counted, tf.int32), axis=1, stable=True)
    return tuple(tf.gather(t, order, batch_dims=1) for t in (labels, predictions, counted))


def _latest(mask):
    """Index of the last true at or before each position, -1 where there is none; int32."""
    length = tf.shape(mask)[1]
    position = tf.range(length)
    earlier = position[tf.newaxis, :] <= position[:, tf.newaxis]
    return tf.reduce_max(tf.where(earlier & mask[:, tf.newaxis, :], position, -1), axis=-1)
