"""Safetensors files: what the reference implementation writes is read; the rest is refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dlk.importers import safetensors
from dlk.importers.torch import load_state_dict
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file


def write(path: Path, header: Any, body: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    path.write_bytes(struct.pack("<Q", size) + text + body)
    return path


def entry(begin: int, end: int, shape: list[Any] | None = None, dtype: str = "U8") -> Any:
    dims = [end - begin] if shape is None else shape
    return {"dtype": dtype, "shape": dims, "data_offsets": [begin, end]}


def test_what_the_reference_writes(tmp_path: Path) -> None:
    saved = {
        "f32": torch.randn(3, 4),
        "f64": torch.randn(2, dtype=torch.float64),
        "f16": torch.randn(5).half(),
        "bf16": torch.randn(5).bfloat16(),
        "i64": torch.tensor([-1, 2]),
        "i8": torch.tensor([-1, 2, 3], dtype=torch.int8),
        "flags": torch.tensor([True, False]),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
    }
    path = tmp_path / "x.safetensors"
    save_file(saved, path, metadata={"format": "pt"})
    for state in (safetensors.load(path), load_state_dict(path)):
        assert set(state) == set(saved)
        for name, tensor in saved.items():
            expected = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
            assert state[name].dtype == expected.dtype, name
            np.testing.assert_array_equal(state[name], expected)


@pytest.mark.parametrize(
    ("header", "body", "message"),
    [
        ({"a": entry(0, 4), "b": entry(2, 6)}, bytes(6), "overlaps"),
        ({"a": entry(0, 2), "b": entry(4, 6)}, bytes(6), "gap"),
        ({"a": entry(1, 4)}, bytes(4), "gap"),
        ({"a": entry(0, 4)}, bytes(5), "take 4 bytes"),
        ({"a": entry(0, 4)}, bytes(3), "take 4 bytes"),
        ({"a": entry(0, 4, [5])}, bytes(4), "do not fit"),
        ({"a": entry(0, 4, [1 << 40, 1 << 40])}, bytes(4), "do not fit"),
        ({"a": entry(4, 0, [0])}, bytes(4), "do not fit"),
        ({"a": entry(0, 4, [-4])}, bytes(4), "shape that is none"),
        ({"a": entry(0, 4, [4.0])}, bytes(4), "shape that is none"),
        ({"a": entry(0, 4, [True] * 4)}, bytes(4), "shape that is none"),
        ({"a": entry(0, 4, dtype="F8_E4M3")}, bytes(4), "F8_E4M3"),
        ({"a": {"dtype": "U8", "shape": [4]}}, bytes(4), "exactly"),
        ({"a": 3}, b"", "exactly"),
        ({"__metadata__": {"a": 1}}, b"", "text to text"),
        ([], b"", "no JSON object"),
        (b"{", b"", "no valid"),
        (b"", b"", "no valid"),
        (b'{"a":1,"a":2}', b"", "twice"),
        (b" {}", b"", "no JSON object"),
        (b"\xff\xff", b"", "no valid"),
        (b"[" * 100_000, b"", "no valid"),
    ],
)
def test_damage_is_refused(tmp_path: Path, header: Any, body: bytes, message: str) -> None:
    path = write(tmp_path / "x.safetensors", header, body)
    with pytest.raises(ValueError, match=message):
        safetensors.load(path)


@pytest.mark.parametrize("length", [3, 100, 1 << 40, (1 << 64) - 1])
def test_header_length_is_bounded(tmp_path: Path, length: int) -> None:
    path = write(tmp_path / "x.safetensors", {}, b"", length)
    with pytest.raises(ValueError, match="no valid safetensors"):
        safetensors.load(path)


def test_short_files(tmp_path: Path) -> None:
    for size in range(8):
        path = tmp_path / "x.safetensors"
        path.write_bytes(bytes(size))
        with pytest.raises(ValueError, match="shorter"):
            safetensors.load(path)


def test_random_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=100), st.integers(0, 100))
    def random(text: bytes, length: int) -> None:
        path.write_bytes(struct.pack("<Q", length) + text)
        try:
            safetensors.load(path)
        except ValueError:
            return

    random()
