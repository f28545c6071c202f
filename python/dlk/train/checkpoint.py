"""Checkpoints: everything that training needs to go on exactly where it was, in one file that
appears whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlk._atomic import atomic_path

FORMAT = "dlk checkpoint 1"


def save_checkpoint(
    path: str | os.PathLike[str],
    tensors: Mapping[str, NDArray[Any]],
    state: Mapping[str, Any],
) -> None:
    """Writes tensors and JSON state as a safetensors file.

    The file is written beside `path`, flushed to disk and moved over it: a kill or a full disk
    leaves the old one. Raises OSError with the path where it cannot be written.
    """
    header: dict[str, Any] = {"__metadata__": {"format": FORMAT, "state": json.dumps(dict(state))}}
    offset = 0
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    for name, array in arrays.items():
        kind = {"f": "F", "i": "I", "u": "U"}[array.dtype.kind] + str(array.dtype.itemsize * 8)
        header[name] = {
            "dtype": kind,
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    try:
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for array in arrays.values():
                file.write(array.tobytes())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        message = f"the checkpoint was not written ({error.strerror}); the last one is as it was"
        raise OSError(error.errno, message, os.fspath(path)) from error


def load_checkpoint(
    path: str | os.PathLike[str],
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Reads a checkpoint: tensors by name, and the state.

    Raises ValueError where the file is damaged or no checkpoint.
    """
    from dlk.importers import safetensors

    file = Path(path)
    tensors = {name: np.array(array) for name, array in safetensors.load(file).items()}
    with open(file, "rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(size))
    metadata = header.get("__metadata__", {})
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{file} is no checkpoint of dlk")
    state: dict[str, Any] = json.loads(metadata["state"])
    return tensors, state
