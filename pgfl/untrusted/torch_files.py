"""Files written by `torch.save`, in both of its formats, read without torch's unpickler.

Only the tensors that are asked for are read: a checkpoint's optimizer costs neither time nor
memory. See `pgfl.untrusted.pickled` for why no code of a file can run here.
"""

import io
import math
import zipfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pgfl.runtime.messages import few
from pgfl.untrusted.pickled import Named, Stored, read_pickle

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""The first pickle of the format before torch 1.6."""

_STORAGES = {
    **{"DoubleStorage": torch.float64, "FloatStorage": torch.float32},
    **{"HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16},
    **{"LongStorage": torch.int64, "IntStorage": torch.int32, "ShortStorage": torch.int16},
    **{"CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool},
    **{"ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128},
    # Of quantised tensors, which are refused: only the size of their elements counts.
    **{"QInt8Storage": torch.int8, "QUInt8Storage": torch.uint8, "QInt32Storage": torch.int32},
    **{"UntypedStorage": torch.uint8},
}


class TorchFile(ABC):
    """What `torch.save` was given, as `pgfl.untrusted.pickled` reads it, and the tensors in it."""

    content: Any

    def __init__(self, path: Path):
        self.path = path
        self.left = path.stat().st_size
        """Bytes that may still be read. Parts of a hostile file may lie over each other."""
        self._storages: dict[str, bytearray] = {}

    @abstractmethod
    def _read(self, key: str, size: int) -> bytearray:
        """The bytes of a storage."""

    def tensor(self, value: Any) -> Tensor:
        """A tensor of the content.

        Raises:
            ValueError: not a plain dense tensor, or damaged.
        """
        if not isinstance(value, Named) or value.args is None:
            raise ValueError("not a tensor")
        module, _, kind = value.name.rpartition(".")
        if module == "torch._utils":
            if kind in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
                return self.tensor(value.args[0])
            if kind in ("_rebuild_tensor", "_rebuild_tensor_v2"):
                return self._dense(*value.args[:4])
            if kind == "_rebuild_tensor_v3":
                return self._dense(*value.args[:4], dtype=_dtype(value.args[6]))
        if value.name == "torch._tensor._rebuild_from_type_v2":
            function, _, args = value.args[:3]
            return self.tensor(Named(function.name, args))
        raise ValueError(f"a tensor made by {value.name}, not a plain one")

    def _dense(
        self, stored: Any, offset: int, size: Any, stride: Any, dtype: torch.dtype | None = None
    ) -> Tensor:
        key, stored_dtype, count = _reference(stored)
        if key not in self._storages:
            self._storages[key] = self._read(key, count * stored_dtype.itemsize)
        flat = _flat(self._storages[key], dtype or stored_dtype)
        # An expanded tensor claims more elements than there are: no network has one.
        if math.prod(size) > len(flat):
            raise ValueError("a tensor is larger than its bytes")
        return flat.as_strided(size, stride, offset)


class ZipFile(TorchFile):
    """Written since torch 1.6: a zip archive, uncompressed."""

    def __init__(self, path: Path):
        super().__init__(path)
        self.archive = zipfile.ZipFile(path)
        names = self.archive.namelist()
        roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
        if len(roots) != 1:
            inside = ", ".join(few([ascii(name) for name in names]))
            raise ValueError(f"a zip archive that torch.save did not write, with {inside}")
        self.root = roots[0]
        if f"{self.root}constants.pkl" in names:
            raise ValueError("a TorchScript program; give a state dict saved with torch.save")
        if f"{self.root}byteorder" in names and self._member("byteorder") != b"little":
            raise ValueError("written on a big-endian machine; save it again on a usual one")
        self.content, _ = read_pickle(io.BytesIO(self._member("data.pkl")))

    def _member(self, name: str, size: int | None = None) -> bytearray:
        info = self.archive.getinfo(self.root + name)
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > self.left:
            raise ValueError(f"its member {name} was not written by torch")
        if size is not None and info.file_size != size:
            raise ValueError(f"its member {name} has {info.file_size} bytes, not {size}")
        self.left -= info.file_size
        content = bytearray(info.file_size)
        with self.archive.open(info) as file:  # which compares checksums at the end
            if file.readinto(content) != info.file_size or file.read(1):
                raise ValueError(f"its member {name} has another size than it says")
        return content

    def _read(self, key: str, size: int) -> bytearray:
        return self._member(f"data/{key}", size)


class LegacyFile(TorchFile):
    """Written before torch 1.6: pickles, then the bytes of all storages in a row."""

    def __init__(self, path: Path):
        super().__init__(path)
        with path.open("rb") as file:
            (magic, _), (_version, _), (system, _) = (read_pickle(file) for _ in range(3))
            if magic != LEGACY_MAGIC:
                raise ValueError("a plain pickle, not a file of torch.save")
            if not system["little_endian"]:
                raise ValueError("written on a big-endian machine; save it again on a usual one")
            self.content, stored = read_pickle(file)
            order, _ = read_pickle(file)
            start = file.tell()
        sizes = {
            key: count * dtype.itemsize
            for key, dtype, count in (_reference(each) for each in stored if not _is_module(each))
        }
        self.places: dict[str, int] = {}
        for key in order:
            self.places[key] = start + 8  # each begins with its number of elements
            start += 8 + sizes[key]

    def _read(self, key: str, size: int) -> bytearray:
        if size > self.left:
            raise ValueError("its tensors are larger than the file")
        self.left -= size
        content = bytearray(size)
        with self.path.open("rb") as file:
            file.seek(self.places[key])
            if file.readinto(content) != size:
                raise ValueError("it ends too early")
        return content


def open_torch_file(path: Path) -> TorchFile:
    """A file of `torch.save`; its content is read, its tensors are not yet.

    Raises:
        ValueError: another kind of file; damage may raise any other kind, too.
    """
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    return ZipFile(path) if is_zip else LegacyFile(path)


def _reference(stored: Any) -> tuple[str, torch.dtype, int]:
    """Key, element type and number of elements of a storage."""
    what, kind, key, _device, count = stored.id[:5]
    dtype = _STORAGES.get(kind.name.rpartition(".")[2])
    if what != "storage" or dtype is None or not isinstance(key, str):
        raise ValueError(f"a storage of kind {kind.name}, which no weights have")
    if not isinstance(count, int) or count < 0 or any(view is not None for view in stored.id[5:]):
        raise ValueError("a storage is damaged")
    return key, dtype, count


def _is_module(stored: Stored) -> bool:
    """Whether it is the source text of a network's class, which old files bring along."""
    return stored.id[0] == "module"


def _dtype(value: Any) -> torch.dtype:
    module, _, name = value.name.rpartition(".")
    dtype = getattr(torch, name, None)
    if module != "torch" or not isinstance(dtype, torch.dtype):
        raise ValueError(f"a tensor of type {value.name}, which this torch does not know")
    return dtype


def _flat(content: bytearray, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
