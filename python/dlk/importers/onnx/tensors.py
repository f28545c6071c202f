"""ONNX TensorProto to NumPy, for files that may be hostile: sizes are checked before anything is
allocated, and external data stays inside the model's own folder.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

#: ONNX element type -> dlk's (and NumPy's) name.
DTYPE_NAMES: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.DOUBLE: "float64",
    TensorProto.INT8: "int8",
    TensorProto.INT16: "int16",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
    TensorProto.UINT8: "uint8",
    TensorProto.UINT16: "uint16",
    TensorProto.UINT32: "uint32",
    TensorProto.UINT64: "uint64",
    TensorProto.BOOL: "bool",
    TensorProto.STRING: "string",
    TensorProto.FLOAT8E4M3FN: "float8_e4m3fn",
    TensorProto.FLOAT8E4M3FNUZ: "float8_e4m3fnuz",
    TensorProto.FLOAT8E5M2: "float8_e5m2",
    TensorProto.FLOAT8E5M2FNUZ: "float8_e5m2fnuz",
    TensorProto.UINT4: "uint4",
    TensorProto.INT4: "int4",
    TensorProto.FLOAT4E2M1: "float4_e2m1fn",
}
#: Element types that older onnx packages do not know, by their number in the format.
DTYPE_NAMES |= {24: "float8_e8m0fnu", 25: "uint2", 26: "int2"}

#: Elements narrower than a byte are packed, the first in the lowest bits: bits of each.
_PACKED_BITS: dict[str, int] = {"uint4": 4, "int4": 4, "float4_e2m1fn": 4, "uint2": 2, "int2": 2}

#: Which repeated field holds the values when `raw_data` does not, and what its items are.
_TYPED_FIELDS: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
    TensorProto.INT8: "int32_data",
    TensorProto.INT16: "int32_data",
    TensorProto.INT32: "int32_data",
    TensorProto.UINT8: "int32_data",
    TensorProto.UINT16: "int32_data",
    TensorProto.BOOL: "int32_data",
    TensorProto.FLOAT16: "int32_data",
    TensorProto.BFLOAT16: "int32_data",
}

MAX_RANK = 32


def dtype_name(elem_type: int, what: str) -> str:
    """The dlk name of an ONNX element type; ValueError naming one that dlk has not."""
    if elem_type in DTYPE_NAMES:
        return DTYPE_NAMES[elem_type]
    try:
        name = TensorProto.DataType.Name(elem_type)
    except ValueError:
        name = f"number {elem_type}"
    raise ValueError(
        f"{what} has element type {name}, which dlk does not hold; "
        f"supported are {', '.join(DTYPE_NAMES.values())}"
    )


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype of a dlk dtype name (bfloat16 and narrower types through ml_dtypes)."""
    if name == "string":
        return np.dtype(object)
    try:
        return np.dtype(name)
    except TypeError:
        pass
    try:
        import ml_dtypes

        extension: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name} tensors need ml_dtypes: pip install -U ml_dtypes") from error
    return extension


def read_tensor(tensor: TensorProto, folder: Path | None, what: str = "") -> np.ndarray:
    """The values of `tensor`. `folder` is where external data may lie (None: nowhere).

    Raises ValueError for element types that dlk does not hold, for data that does not fit the
    declared shape, and for external data outside of `folder`.
    """
    what = what or f"tensor {tensor.name!r}"
    name = dtype_name(tensor.data_type, what)
    if name == "string":
        return _read_strings(tensor, what)
    dtype = numpy_dtype(name)
    shape = tuple(tensor.dims)
    if len(shape) > MAX_RANK or any(d < 0 for d in shape):
        raise ValueError(f"{what} declares the shape {list(shape[:MAX_RANK])}, which is not one")
    elements = count = math.prod(shape)
    bits = _PACKED_BITS.get(name, 0)
    if bits:  # bytes of several elements each
        dtype, count = np.dtype(np.uint8), -(-elements * bits // 8)
    if tensor.HasField("segment"):
        raise ValueError(f"{what} is stored in segments, which dlk does not read; store it whole")
    if tensor.data_location == TensorProto.EXTERNAL:
        flat = _read_external(tensor, dtype, count, folder, what)
    elif tensor.HasField("raw_data"):
        raw = tensor.raw_data
        if len(raw) != count * dtype.itemsize:
            raise ValueError(
                f"{what} declares {count} elements of {name} ({count * dtype.itemsize} bytes) "
                f"but holds {len(raw)} bytes; the file is damaged"
            )
        flat = np.frombuffer(raw, dtype=dtype.newbyteorder("<") if dtype.kind != "V" else dtype)
    else:
        flat = _read_typed(tensor, name, dtype, count, what)
    if name == "bool":
        flat = flat.view(np.uint8) != 0
    if bits:
        flat = _unpack(flat, bits, elements).view(numpy_dtype(name))
    return flat.reshape(shape)


def _unpack(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """One byte an element from bytes of 8 / bits elements."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts: np.ndarray = (packed[:, None] >> shifts) & ((1 << bits) - 1)
    return np.ascontiguousarray(parts.reshape(-1)[:count].astype(np.uint8))


def _read_strings(tensor: TensorProto, what: str) -> np.ndarray:
    shape, count = tuple(tensor.dims), len(tensor.string_data)
    if len(shape) > MAX_RANK or any(d < 0 for d in shape) or math.prod(shape) != count:
        raise ValueError(
            f"{what} declares the shape {list(shape[:MAX_RANK])} but holds {count} strings; "
            "the file is damaged"
        )
    try:
        texts = [text.decode("utf-8") for text in tensor.string_data]
    except UnicodeDecodeError as error:
        raise ValueError(f"{what} holds a string that is no UTF-8 text") from error
    array = np.empty(count, dtype=object)
    array[:] = texts
    return array.reshape(shape)


def _read_typed(
    tensor: TensorProto, name: str, dtype: np.dtype[Any], count: int, what: str
) -> np.ndarray:
    values = getattr(tensor, _TYPED_FIELDS.get(tensor.data_type, "int32_data"))
    array: np.ndarray
    if len(values) != count:
        raise ValueError(
            f"{what} declares {count} elements but holds {len(values)}; the file is damaged"
        )
    if name in ("float16", "bfloat16") or tensor.data_type not in _TYPED_FIELDS:
        bits = np.array(values, dtype=np.int64)
        width = 8 * dtype.itemsize
        if bits.size and (bits.min() < 0 or bits.max() >= 1 << width):
            raise ValueError(f"{what} holds values that are no {width}-bit patterns")
        array = bits.astype(f"uint{width}").view(dtype)
        return array
    if name == "bool":
        array = np.array(values, dtype=np.int64) != 0
        return array
    try:
        return np.array(values, dtype=dtype)
    except OverflowError as error:
        raise ValueError(f"{what} holds values that do not fit {name}") from error


def _read_external(
    tensor: TensorProto, dtype: np.dtype[Any], count: int, folder: Path | None, what: str
) -> np.ndarray:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    path = _external_path(entries.get("location", ""), folder, what)
    size = count * dtype.itemsize
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries.get("length", str(size)))
    except ValueError as error:
        raise ValueError(f"{what}: offset and length of external data must be numbers") from error
    if offset < 0 or length != size:
        raise ValueError(f"{what} needs {size} bytes of external data but declares {length}")
    available = path.stat().st_size
    if offset + length > available:
        raise ValueError(
            f"{what} lies at bytes {offset} to {offset + length} of {path.name}, "
            f"which has only {available}; the file is incomplete"
        )
    if count == 0:
        return np.zeros(0, dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=(count,))


def _external_path(location: str, folder: Path | None, what: str) -> Path:
    """The file that `location` names, if it is an ordinary file inside of `folder`."""
    if folder is None:
        raise ValueError(
            f"{what} is stored in another file ({location!r}); load the model by its path, "
            "so that the file can be found beside it"
        )
    parts = location.replace("\\", "/").split("/")
    if not location or "\0" in location or os.path.isabs(location) or ".." in parts:
        raise ValueError(
            f"{what} names the external file {location!r}; only relative paths below the "
            "model's folder are read"
        )
    root = folder.resolve()
    path = (root / location).resolve()
    if not path.is_relative_to(root):
        raise ValueError(f"{what}: external file {location!r} is a link out of the model's folder")
    if not path.is_file():
        raise ValueError(f"{what}: external file {str(path)!r} is missing; put it beside the model")
    return path


def parse_model(data: bytes, what: str) -> onnx.ModelProto:
    """A ModelProto from bytes; ValueError when they are none."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    if not data:
        raise ValueError(f"{what} is empty; an ONNX model was expected")
    try:
        model = onnx.ModelProto.FromString(data)
    except (DecodeError, UnicodeDecodeError, RuntimeError) as error:
        raise ValueError(
            f"{what} is no ONNX model, or it is truncated ({error}); "
            "check the download, or export the model again"
        ) from error
    if not model.HasField("graph"):
        raise ValueError(f"{what} holds no graph, so it is no ONNX model")
    _check_text(model, what)
    return model


def _check_text(message: Any, what: str) -> None:
    """protobuf hands out bytes where a text field is no UTF-8."""
    if isinstance(message, TensorProto):
        if not isinstance(message.name, str):
            raise ValueError(f"{what} has a name that is no UTF-8 text; the file is damaged")
        return
    for field, value in message.ListFields():
        repeated = not isinstance(value, (str, bytes)) and hasattr(value, "__len__")
        if field.type == field.TYPE_STRING:
            if not all(isinstance(item, str) for item in (value if repeated else [value])):
                raise ValueError(f"{what}: {field.name} is no UTF-8 text; the file is damaged")
        elif field.type == field.TYPE_MESSAGE:
            for item in value if repeated else [value]:
                _check_text(item, what)
