"""The safetensors format, read strictly: a bounded header, every byte of the data owned by exactly
one tensor. Arrays are read-only views of the mapped file.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["load"]

MAX_HEADER_BYTES = 100_000_000
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


def load(path: str | os.PathLike[str]) -> Mapping[str, np.ndarray]:
    """Tensors by name. bfloat16 becomes float32 (exact); float8 and the like are refused.

    Raises ValueError for damaged files.
    """
    path = Path(path)
    size = path.stat().st_size
    try:
        if size < 8:
            raise ValueError("shorter than the 8 bytes of the header's length")
        data = np.memmap(path, np.uint8, mode="r")
        (length,) = struct.unpack("<Q", data[:8].tobytes())
        if length > min(MAX_HEADER_BYTES, size - 8):
            raise ValueError(f"declares a header of {length} bytes in a file of {size}")
        header = _parse_header(data[8 : 8 + length].tobytes())
        body = data[8 + length :]
        spans = sorted((*_span(name, entry), name) for name, entry in header.items())
        position = 0
        for begin, end, name in spans:
            if begin != position:
                kind = "overlaps another" if begin < position else "leaves a gap before it"
                raise ValueError(f"tensor {name!r} {kind}, at byte {begin}")
            position = end
        if position != body.size:
            raise ValueError(f"tensors take {position} bytes, but the file holds {body.size}")
        return {name: _array(body, entry) for name, entry in header.items()}
    except ValueError as error:
        raise ValueError(f"{path.name} is no valid safetensors file: {error}") from error


def _parse_header(text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ValueError("the header has a key twice")
        return result

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except RecursionError as error:
        raise ValueError("the header is nested too deeply") from error
    if not text.startswith(b"{") or not isinstance(header, dict):
        raise ValueError("the header is no JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("__metadata__ must map text to text")
    return header


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _span(name: str, entry: Any) -> tuple[int, int]:
    """Begin and end of a tensor's bytes, checked against its dtype and shape."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {name!r} needs exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(f"tensor {name!r} has the dtype {dtype!r}, which dlk does not hold")
    if not isinstance(shape, list) or len(shape) > 32 or not all(map(_is_size, shape)):
        raise ValueError(f"tensor {name!r} has a shape that is none")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_size, offsets)):
        raise ValueError(f"tensor {name!r} has data_offsets that are no two sizes")
    itemsize = 2 if dtype == "BF16" else np.dtype(_DTYPES[dtype]).itemsize
    if offsets[1] - offsets[0] != math.prod(shape) * itemsize:
        raise ValueError(f"tensor {name!r}: its data_offsets do not fit its dtype and shape")
    return offsets[0], offsets[1]


def _array(body: np.ndarray, entry: dict[str, Any]) -> np.ndarray:
    begin, end = entry["data_offsets"]
    raw = body[begin:end]
    dtype = _DTYPES[entry["dtype"]]
    if dtype == "bool":
        flags: np.ndarray = raw != 0
        return flags.reshape(entry["shape"])
    stored = np.dtype("uint16" if dtype == "bfloat16" else dtype).newbyteorder("<")
    if raw.size and raw.ctypes.data % stored.itemsize:
        raw = raw.copy()
    values: np.ndarray = raw.view(stored)
    if dtype == "bfloat16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.reshape(entry["shape"])
