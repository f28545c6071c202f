"""PyTorch state dicts (`.pth`, `.pt`, `.bin`, `.safetensors`) without PyTorch and without running
the pickles in them: both the legacy format and the zip format of torch 1.6 and later.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from . import safetensors
from ._pickle import Global, Reader

__all__ = ["load", "load_state_dict"]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_MAX_PICKLE_BYTES = 1 << 30

_STORAGE_DTYPES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
_STORAGE_TYPES = frozenset(f"torch.{name}" for name in _STORAGE_DTYPES)


@dataclass
class _Storage:
    """Flat memory that tensors view; `data` may come after the tensors in the file."""

    key: str
    dtype: str
    elements: int
    data: np.ndarray | None = None


@dataclass
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> np.ndarray:
        """The values, C-contiguous; bfloat16 as float32 (exact)."""
        data = self.storage.data
        if data is None:
            raise ValueError(f"storage {self.storage.key!r} is missing; the file is incomplete")
        view = np.lib.stride_tricks.as_strided(
            data[self.offset :], self.shape, [s * data.itemsize for s in self.strides]
        )
        if self.storage.dtype == "bfloat16":
            bits = np.ascontiguousarray(view).astype(np.uint32) << 16
            return bits.view(np.float32)
        return np.ascontiguousarray(view).reshape(self.shape)


def load_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Tensors by parameter name, from a state dict or from a checkpoint that holds one.

    A checkpoint's weights are looked for under "state_dict", "model_state_dict" and "model"; the
    "module." prefix of data-parallel training is removed. float16 stays, bfloat16 becomes float32.
    Raises ValueError for damaged files and for anything that is no plain data.
    """
    if _is_safetensors(Path(path)):
        return dict(safetensors.load(path))
    loaded = load(path)
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            break
    if not isinstance(loaded, Mapping):
        raise ValueError(f"{path} holds a {type(loaded).__name__}, no state dict")
    state = {}
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise ValueError(
                f"{path}: entry {name!r} is a {type(value).__name__}, no named tensor; save it "
                "with torch.save(model.state_dict(), path)"
            )
        state[name] = value
    if state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def load(path: str | os.PathLike[str]) -> Any:
    """What `torch.save` wrote: dicts, lists, numbers and text, with tensors as NumPy arrays."""
    path = Path(path)
    with path.open("rb") as file:
        head = file.read(4)
    if not head:
        raise ValueError(f"{path.name} is empty; a torch file was expected")
    try:
        result = _load_zip(path) if head[:2] == b"PK" else _load_legacy(path)
    except (zipfile.BadZipFile, EOFError, struct.error, NotImplementedError) as error:
        raise ValueError(f"{path.name} is damaged or incomplete ({error})") from error
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
    return _finish(result, {}, 0)


def _is_safetensors(path: Path) -> bool:
    if path.suffix == ".safetensors":
        return True
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and head[:2] != b"PK"


def _finish(value: Any, seen: dict[int, Any], depth: int) -> Any:
    """Tensors to arrays, in containers too (which may be shared, or contain themselves)."""
    if isinstance(value, _Tensor):
        if id(value) not in seen:
            seen[id(value)] = value.array()
        return seen[id(value)]
    if not isinstance(value, (dict, list, tuple)):
        return value
    if id(value) in seen:
        return seen[id(value)]
    if depth > 200:
        raise ValueError("the data is nested more than 200 deep")
    if isinstance(value, tuple):
        return tuple(_finish(item, seen, depth + 1) for item in value)
    seen[id(value)] = value
    for key in value if isinstance(value, dict) else range(len(value)):
        value[key] = _finish(value[key], seen, depth + 1)
    return value


# What pickles may call


def _index(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"a tensor has the {what} {value!r}; the file is damaged")
    return value


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor without a storage; the file is damaged")
    shape = tuple(_index(d, "dimension") for d in size)
    strides = tuple(_index(s, "stride") for s in stride)
    offset = _index(offset, "offset")
    if len(shape) != len(strides):
        raise ValueError(f"a tensor of shape {shape} has strides {strides}")
    count = math.prod(shape)
    last = offset + sum((d - 1) * s for d, s in zip(shape, strides, strict=True))
    if count and last >= storage.elements:
        raise ValueError(
            f"a tensor of shape {shape} reaches element {last} of a storage of "
            f"{storage.elements}; the file is damaged"
        )
    if count > max(storage.elements, 1):
        raise ValueError(
            f"a tensor of shape {shape} repeats the {storage.elements} elements of its storage; "
            "save it with .contiguous()"
        )
    if not count:
        offset = 0
    return _Tensor(storage, offset, shape, strides)


def _size(*arguments: Any) -> tuple[int, ...]:
    items = arguments[0] if len(arguments) == 1 else ()
    return tuple(_index(d, "dimension") for d in items)


def _ordered_dict(*arguments: Any) -> dict[Any, Any]:
    return dict(*arguments[:1])


_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch.Size": _size,
}


class _Storages:
    """Resolves persistent ids; a key is one storage, however many tensors view it."""

    def __init__(self) -> None:
        self.by_key: dict[str, _Storage] = {}

    def resolve(self, pid: Any) -> _Storage:
        """("storage", type, key, location, elements[, view]) to a storage."""
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] not in ("storage", b"storage"):
            raise ValueError("a persistent id that is no storage; the file is damaged")
        kind, key, elements = pid[1], str(pid[2]), _index(pid[4], "storage size")
        if len(pid) > 5 and pid[5] is not None:
            raise ValueError("views of storages (torch < 0.4) are not read; save the file again")
        if not isinstance(kind, Global) or str(kind) not in _STORAGE_TYPES:
            raise ValueError(f"storage {key!r} has the type {kind}, which dlk does not read")
        dtype = _STORAGE_DTYPES[kind.name]
        storage = self.by_key.setdefault(key, _Storage(key, dtype, elements))
        if (storage.dtype, storage.elements) != (dtype, elements):
            raise ValueError(f"storage {key!r} is declared twice, differently")
        return storage


def _array(storage: _Storage, data: bytes | memoryview) -> np.ndarray:
    dtype = np.dtype("uint16" if storage.dtype == "bfloat16" else storage.dtype)
    if len(data) != storage.elements * dtype.itemsize:
        raise ValueError(
            f"storage {storage.key!r} has {len(data)} bytes where {storage.elements} elements of "
            f"{storage.dtype} were declared; the file is damaged"
        )
    if storage.dtype == "bool":
        flags: np.ndarray = np.frombuffer(data, np.uint8) != 0
        return flags
    return np.frombuffer(data, dtype.newbyteorder("<"))


def _load_legacy(path: Path) -> Any:
    storages = _Storages()
    reader = Reader(_CALLS, _STORAGE_TYPES, storages.resolve)
    data = path.read_bytes()
    stream = io.BytesIO(data)
    if data[:1] != b"\x80" or reader.read(stream) != _LEGACY_MAGIC:
        raise ValueError("no torch file (neither the zip nor the legacy format)")
    if reader.read(stream) != _LEGACY_PROTOCOL:
        raise ValueError("a legacy torch file of an unknown protocol; save it again")
    system = reader.read(stream)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("written on a big-endian machine, which dlk does not read")
    result = reader.read(stream)
    keys = reader.read(stream)
    if not isinstance(keys, list):
        raise ValueError("the list of storages is damaged")
    for key in keys:
        storage = storages.by_key.get(str(key))
        if storage is None or storage.data is not None:
            raise ValueError(f"storage {key!r} is stored but not used, or stored twice")
        (elements,) = struct.unpack("<q", stream.read(8))
        if elements != storage.elements:
            raise ValueError(f"storage {key!r} has {elements} elements, not {storage.elements}")
        itemsize = 2 if storage.dtype == "bfloat16" else np.dtype(storage.dtype).itemsize
        start = stream.tell()
        storage.data = _array(storage, memoryview(data)[start : start + elements * itemsize])
        stream.seek(start + elements * itemsize)
    return result


def _load_zip(path: Path) -> Any:
    storages = _Storages()
    reader = Reader(_CALLS, _STORAGE_TYPES, storages.resolve)
    with path.open("rb") as file, zipfile.ZipFile(_Seeks(file)) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in entries if name.endswith("/data.pkl") or name == "data.pkl"]
        if len(pickles) != 1:
            raise ValueError("a zip file without (exactly one) data.pkl, so no torch file")
        root = pickles[0].removesuffix("data.pkl")
        if root + "constants.pkl" in entries or any(n.startswith(root + "code/") for n in entries):
            raise ValueError(
                "a TorchScript program, which holds code; save the state dict with "
                "torch.save(module.state_dict(), path), or export to ONNX"
            )
        if entries[pickles[0]].file_size > _MAX_PICKLE_BYTES:
            raise ValueError("its data.pkl is larger than 1 GiB")
        if (
            root + "byteorder" in entries
            and _read(archive, entries[root + "byteorder"]) != b"little"
        ):
            raise ValueError("written on a big-endian machine, which dlk does not read")
        result = reader.read(io.BytesIO(_read(archive, entries[pickles[0]])))
        for storage in storages.by_key.values():
            info = entries.get(f"{root}data/{storage.key}")
            if info is None:
                raise ValueError(f"storage {storage.key!r} is missing from the archive")
            itemsize = 2 if storage.dtype == "bfloat16" else np.dtype(storage.dtype).itemsize
            if info.file_size != storage.elements * itemsize:
                raise ValueError(f"storage {storage.key!r} has {info.file_size} bytes; damaged")
            storage.data = _array(storage, _read(archive, info))
    return result


class _Seeks:
    """A file that answers seeks to nowhere, which damaged archives ask for, by a ValueError."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.read, self.tell, self.seekable = file.read, file.tell, file.seekable

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0 and offset < 0:
            raise ValueError("an archive entry lies before the file")
        return self._file.seek(offset, whence)


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """An entry's bytes; torch stores entries uncompressed, so that sizes cannot lie."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise ValueError(f"archive entry {info.filename!r} is compressed, as torch never writes")
    return archive.read(info)
