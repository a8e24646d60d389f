"""Weights that a graph reads when it runs, in place of constants that would be copied with it again and again.

TFF copies a computation whenever it composes, compiles or serializes it: with a model's initial weights for constants,
a model of 500 MB took 10 GB until its first round, and a graph of more than 2 GB cannot be serialized at all.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

_SMALL = 1_000_000
"""Bytes below which a weight may as well be a constant."""


_files: dict[str, Any] = {}  # by what is in them; a graph that reads one may live longer than the model it is of


class WeightsFile:
    """Arrays, the large ones of them in a file that this process alone holds: it is gone with the process.

    The same arrays again have the same file.

    Args:
      arrays: Of any numeric dtypes.
    """

    def __init__(self, arrays: Sequence[np.ndarray]):
        self._arrays, self._offsets, self._size = list(arrays), {}, 0
        for i, array in enumerate(self._arrays):
            if array.nbytes >= _SMALL:
                self._offsets[i] = self._size
                self._size += array.nbytes
        self._file = _file([self._arrays[i] for i in self._offsets])

    def tensors(self) -> list[tf.Tensor]:
        """The arrays, as tensors of the graph that is being made; processes of this user on this machine can run it."""
        return [self._read(i) if i in self._offsets else _constant(array) for i, array in enumerate(self._arrays)]

    def _read(self, i):
        array, offset = self._arrays[i], self._offsets[i]
        path = f"/proc/{os.getpid()}/fd/{self._file.fileno()}"
        rest = self._size - offset - array.nbytes
        record = tf.data.FixedLengthRecordDataset(path, array.nbytes, header_bytes=offset, footer_bytes=rest)
        return tf.reshape(tf.io.decode_raw(record.get_single_element(), array.dtype), array.shape)


def _file(arrays):
    """The file with the bytes of some arrays, one after another."""
    key = digest(arrays)
    if key not in _files:
        file = tempfile.TemporaryFile()  # noqa: SIM115 -- without a name, and open until the process ends
        file.writelines(map(_bytes, arrays))
        file.flush()
        _files[key] = file
    return _files[key]


def digest(arrays: Iterable[np.ndarray]) -> str:
    """SHA-256 of the bytes of arrays, one after another, hexadecimal."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(_bytes(array))
    return found.hexdigest()


def _bytes(array):
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _constant(array):
    if array.dtype != tf.bfloat16.as_numpy_dtype:
        return tf.constant(array)
    # Number by number, as TensorFlow writes constants of this type, they would take twice the bytes of float32.
    return tf.bitcast(tf.constant(array.view(np.int16)), tf.bfloat16)
