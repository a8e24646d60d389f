"""Tensors out of `pytorch_model.bin`, without PyTorch and without running what is in the file.

The file is a zip archive of a pickle, which could call any function, and of the bytes of storages
(https://docs.pytorch.org/docs/stable/notes/serialization.html). This unpickler knows dictionaries, numbers, strings and
tensors; whatever else a pickle names is rejected before it is imported.
"""

from __future__ import annotations

import collections
import math
import pickle
import zipfile
from typing import Any

import numpy as np
import tensorflow as tf

_DTYPES = {
    "torch DoubleStorage": np.float64,
    "torch FloatStorage": np.float32,
    "torch HalfStorage": np.float16,
    "torch BFloat16Storage": tf.bfloat16.as_numpy_dtype,
    "torch LongStorage": np.int64,
    "torch IntStorage": np.int32,
    "torch ShortStorage": np.int16,
    "torch CharStorage": np.int8,
    "torch ByteStorage": np.uint8,
    "torch BoolStorage": np.bool_,
}
_MOST_REPEATED = 1 << 24
"""Numbers that a tensor may have of a smaller storage, as one that was expanded."""


def read_torch_file(path: str) -> dict[str, np.ndarray]:
    """The tensors of a state dictionary by name; bfloat16 becomes float32, which has its values.

    Raises:
      ValueError: If the file is of another format, damaged, or has anything but tensors in it.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is no zip archive of PyTorch 1.6 and newer; its older format is not read, as it is a bare pickle: "
            "save it anew with torch.save, or as safetensors"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            found = _Unpickler(archive).load()
    except Exception as error:  # of any kind, as the file decides what goes wrong
        raise ValueError(f"{path} cannot be read as tensors: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} has no dictionary of tensors")
    others = [name for name, value in dict.items(found) if not isinstance(value, np.ndarray)]
    if others:
        raise ValueError(f"{path} has more than tensors in it: {others[0]!r}")
    return {str(name): np.array(value, order="C") for name, value in dict.items(found)}


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile):
        names = [name for name in archive.namelist() if name.endswith("/data.pkl") or name == "data.pkl"]
        if len(names) != 1:
            raise ValueError("it has not one data.pkl")
        super().__init__(archive.open(names[0]))
        self._archive, self._root = archive, names[0].removesuffix("data.pkl")
        self._storages: dict[str, np.ndarray] = {}
        order = f"{self._root}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise ValueError("its numbers are not little-endian")

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module} {name}"
        if full == "collections OrderedDict":
            return collections.OrderedDict
        if full in _DTYPES or full in ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"):
            return _Global(full)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no tensor")

    def persistent_load(self, pid: Any) -> np.ndarray:
        """The storage that a tensor is in, one for all that share it."""
        _, kind, key, _, number = pid
        if key not in self._storages:
            info = self._archive.getinfo(f"{self._root}data/{key}")
            if info.compress_type != zipfile.ZIP_STORED:
                raise ValueError("its tensors are compressed")
            self._storages[key] = np.frombuffer(self._archive.read(info), _DTYPES[kind.name], number)
        return self._storages[key]


class _Global:
    """A name of PyTorch in a pickle; it has no attributes that a pickle could set."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        object.__setattr__(self, "name", name)

    def __setattr__(self, name, value):
        raise pickle.UnpicklingError(f"it sets {name}")

    def __call__(self, *arguments):
        if self.name.endswith("_rebuild_parameter"):
            return _tensor_of(arguments[0])
        if self.name.endswith("_rebuild_tensor_v2"):
            return _tensor(*arguments[:4])
        raise pickle.UnpicklingError(f"it calls {self.name}")


def _tensor_of(value):
    if not isinstance(value, np.ndarray):
        raise pickle.UnpicklingError("a parameter of it is no tensor")
    return value


def _tensor(storage, offset, shape, strides):
    """A view of a storage, after checking that it is within."""
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or not all(type(n) is int and 0 <= n < 1 << 48 for n in numbers):
        raise ValueError("a tensor has no valid shape")
    size = math.prod(shape)
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides)) if size else 0
    if last >= max(len(_tensor_of(storage)), 1) or size > max(len(storage), _MOST_REPEATED):
        raise ValueError("a tensor is larger than its storage")
    bytes_apart = [stride * storage.itemsize for stride in strides]
    found = np.lib.stride_tricks.as_strided(storage[offset:], shape, bytes_apart) if size else np.empty(shape)
    return found.astype(np.float32 if storage.dtype == tf.bfloat16.as_numpy_dtype else storage.dtype)
