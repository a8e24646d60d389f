"""`pytorch_model.bin` without PyTorch: the numbers of tensors, and nothing that a malicious file asks for."""

import collections
import io
import os
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from tff_tx.models.torch_file import read_torch_file

KINDS = {"f4": "Float", "f8": "Double", "f2": "Half", "i8": "Long", "u1": "Byte", "b1": "Bool"}


class Tensor:
    """A view of a storage, which is pickled as PyTorch does."""

    def __init__(self, storage, offset=0, shape=None, strides=None, numbers=None):
        self.storage, self.offset = storage, offset
        self.shape = (len(storage),) if shape is None else shape
        self.strides, self.numbers = (1,) if strides is None else strides, numbers


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes what it is given into a file as `torch.save` does, with a stub in place of PyTorch."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for kind in (*KINDS.values(), "BFloat16"):
        setattr(torch, f"{kind}Storage", type(f"{kind}Storage", (), {"__module__": "torch"}))
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter", "_import_dotted_name"):
        function = types.FunctionType((lambda *_: None).__code__, {}, name)
        function.__module__, function.__qualname__ = "torch._utils", name
        setattr(utils, name, function)

    class Pickler(pickle.Pickler):
        def __init__(self, file, storages):
            super().__init__(file, 2)
            self.storages = storages

        def persistent_id(self, one):
            if isinstance(one, np.ndarray):
                key = next((k for k, v in self.storages.items() if v is one), str(len(self.storages)))
                self.storages[key] = one
                kind = "BFloat16" if one.dtype == np.dtype(tf.bfloat16.as_numpy_dtype) else KINDS[one.dtype.str[1:]]
                return (
                    "storage",
                    getattr(torch, f"{kind}Storage"),
                    key,
                    "cpu",
                    getattr(self, "numbers", None) or len(one),
                )
            return None

        def reducer_override(self, one):
            if isinstance(one, Tensor):
                self.numbers = one.numbers
                return utils._rebuild_tensor_v2, (one.storage, one.offset, one.shape, one.strides, False, {})
            return NotImplemented

    def to_file(content, compression=zipfile.ZIP_STORED):
        path, buffer, storages = str(tmp_path / "pytorch_model.bin"), io.BytesIO(), {}
        if isinstance(content, bytes):
            buffer.write(content)
        else:
            with monkeypatch.context() as patch:
                patch.setitem(sys.modules, "torch", torch)
                patch.setitem(sys.modules, "torch._utils", utils)
                Pickler(buffer, storages).dump(content)
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("archive/data.pkl", buffer.getvalue())
            for key, storage in storages.items():
                archive.writestr(f"archive/data/{key}", storage.tobytes())
        return path

    to_file.utils = utils
    return to_file


def test_tensors_are_views_of_storages_of_every_type(write):
    base = np.arange(24, dtype=np.float32)
    state = collections.OrderedDict(
        whole=Tensor(base, 0, (4, 6), (6, 1)),
        transposed=Tensor(base, 0, (6, 4), (1, 6)),
        part=Tensor(base, 6, (2, 3), (6, 2)),
        expanded=Tensor(base, 1, (2, 3), (0, 1)),
        scalar=Tensor(base, 5, (), ()),
        empty=Tensor(base, 0, (0, 3), (3, 1)),
        half=Tensor(np.arange(3, dtype=np.float16)),
        brain=Tensor(np.array([1.5, -2], tf.bfloat16.as_numpy_dtype)),
        **{name: Tensor(np.arange(3).astype(name)) for name in ("f8", "i8", "u1", "b1")},
    )
    state._metadata = {"": {"version": 1}}
    found, grid = read_torch_file(write(state)), base.reshape(4, 6)
    expected = {"whole": grid, "transposed": grid.T, "part": grid[1:3, ::2][:, :3], "expanded": [[1, 2, 3]] * 2}
    expected |= {"scalar": np.float32(5), "empty": np.zeros([0, 3]), "half": [0, 1, 2], "brain": [1.5, -2]}
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].shape == np.shape(value), name
    assert [found[name].dtype for name in ("half", "brain", "i8", "b1")] == ["f2", "f4", "i8", "b1"]


class Call:
    def __init__(self, function, *arguments, state=None):
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.parts


@pytest.mark.parametrize("function", [os.system, eval, exec, getattr, __import__, open, pickle.loads, print])
def test_no_function_is_called_that_a_file_names(function, write, tmp_path):
    attack = Call(function, f"touch {tmp_path}/done")
    with pytest.raises(ValueError, match=r"cannot be read as tensors: it asks for \S+, which is no tensor"):
        read_torch_file(write({"weight": attack}))
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize(
    ("pickled", "reason"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "asks for posix.system|asks for os.system"),
        (b"ctorch._utils\n_import_dotted_name\n(S'os.system'\ntR.", "asks for torch._utils._import_dotted_name"),
        (b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n.", "asks for torch._utils._rebuild_tensor_v2.__globals__"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n}S'name'\nS'os system'\nsb.", "it sets name|cannot be read"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(N}S'name'\nS'os system'\nstb.", "it sets name"),
        (b"ctorch\nFloatStorage\n)R.", "it calls torch FloatStorage"),
        (b"ctorch._utils\n_rebuild_parameter\n(I1\ntR.", "is no tensor"),
        (b"]I1\na.", "has no dictionary of tensors"),
        (b"}S'lr'\nI1\ns.", "has more than tensors in it: 'lr'"),
        (b"\x80\x02", "cannot be read as tensors"),
        (b"(S'storage'\nI1\nS'../../x'\nS'cpu'\nI4\ntQ.", "cannot be read as tensors"),
        (b"\x82\x01.", "cannot be read as tensors"),
    ],
)
def test_pickles_that_are_no_tensors(pickled, reason, write):
    with pytest.raises(ValueError, match=reason):
        read_torch_file(write(pickled))


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor(np.zeros(4, np.float32), 0, (5,), (1,)),
        Tensor(np.zeros(4, np.float32), 1, (2, 2), (2, 1)),
        Tensor(np.zeros(4, np.float32), -1, (2,), (1,)),
        Tensor(np.zeros(4, np.float32), 3, (4,), (-1,)),
        Tensor(np.zeros(4, np.float32), 0, (1 << 30, 4), (0, 1)),
        Tensor(np.zeros(4, np.float32), 0, (2, 2), (1,)),
        Tensor(np.zeros(4, np.float32), 0, (1 << 62,), (1 << 62,)),
        Tensor(np.zeros(4, np.float32), 0, (8,), (1,), numbers=8),
    ],
    ids=["long", "offset", "before", "backwards", "repeated", "rank", "overflow", "storage"],
)
def test_tensors_stay_within_their_storage(tensor, write):
    with pytest.raises(ValueError, match="cannot be read as tensors: .*(storage|shape|buffer)"):
        read_torch_file(write({"weight": tensor}))


def test_other_formats(write, tmp_path):
    path = tmp_path / "old.bin"
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2))
    with pytest.raises(ValueError, match=r"no zip archive of PyTorch 1.6 and newer; .* save it anew with torch.save"):
        read_torch_file(str(path))
    with pytest.raises(ValueError, match="its tensors are compressed"):
        read_torch_file(write({"weight": Tensor(np.zeros(99, np.float32))}, zipfile.ZIP_DEFLATED))
