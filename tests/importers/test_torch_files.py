"""PyTorch files: what torch wrote is read without it, and nothing in a file is ever run."""

from __future__ import annotations

import collections
import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dlk.importers.torch import load, load_state_dict
from hypothesis import given, settings
from hypothesis import strategies as st

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def save(path: Path, value: Any, zipped: bool) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


def tensors() -> dict[str, torch.Tensor]:
    base = torch.arange(24, dtype=torch.float32)
    return {
        "transposed": base.view(4, 6).t(),
        "slice": base[3:7],
        "double": torch.randn(2, 2, dtype=torch.float64),
        "half": torch.randn(3).half(),
        "bfloat16": torch.randn(3, 4).bfloat16(),
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 4),
        "flags": torch.tensor([True, False, True]),
        "bytes": torch.tensor([1, 255], dtype=torch.uint8),
        "int8": torch.tensor([-1, 2], dtype=torch.int8),
        "int16": torch.tensor([-300, 2], dtype=torch.int16),
        "int32": torch.tensor([-70000, 2], dtype=torch.int32),
        "parameter": torch.nn.Parameter(torch.randn(5)),
    }


@FORMATS
def test_every_kind_of_tensor(tmp_path: Path, zipped: bool) -> None:
    saved = tensors()
    state = load_state_dict(save(tmp_path / "x.pth", saved, zipped))
    assert list(state) == list(saved)
    for name, tensor in saved.items():
        plain = tensor.detach()
        expected = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
        assert state[name].dtype == expected.dtype, name
        assert state[name].shape == expected.shape, name
        assert state[name].flags.c_contiguous, name
        np.testing.assert_array_equal(state[name], expected)


@FORMATS
def test_checkpoints_and_prefixes(tmp_path: Path, zipped: bool) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    wrapped = {f"module.{k}": v for k, v in net.state_dict().items()}
    checkpoint = {"epoch": 3, "state_dict": collections.OrderedDict(wrapped), "best": 0.5}
    path = save(tmp_path / "x.pth", checkpoint, zipped)
    state = load_state_dict(path)
    assert list(state) == list(net.state_dict())
    assert load(path)["epoch"] == 3
    np.testing.assert_array_equal(state["0.weight"], net[0].weight.detach().numpy())


class Bomb:
    """Unpickling it would make a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.target),))


@FORMATS
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_malicious_pickle_does_not_run(tmp_path: Path, zipped: bool, protocol: int) -> None:
    target = tmp_path / "ran"
    path = tmp_path / "x.pth"
    torch.save(
        {"a": Bomb(target)},
        path,
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(ValueError, match=r"mkdir|opcode|no torch file"):
        load_state_dict(path)
    assert not target.exists()


@FORMATS
def test_whole_modules_are_refused(tmp_path: Path, zipped: bool) -> None:
    path = save(tmp_path / "x.pth", torch.nn.Linear(2, 3), zipped)
    with pytest.raises(ValueError, match=r"torch\.nn\.modules\.linear\.Linear.*state_dict"):
        load_state_dict(path)


def test_programs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps({}))
        archive.writestr("x/code/__torch__.py", "class Linear: ...")
    with pytest.raises(ValueError, match="TorchScript"):
        load_state_dict(path)


def test_no_tensors_and_no_file(tmp_path: Path) -> None:
    path = save(tmp_path / "x.pth", {"a": 3}, True)
    with pytest.raises(ValueError, match="'a' is a int, no named tensor"):
        load_state_dict(path)
    path = save(tmp_path / "y.pth", torch.zeros(2), True)
    with pytest.raises(ValueError, match="no state dict"):
        load_state_dict(path)
    (tmp_path / "empty.pth").write_bytes(b"")
    with pytest.raises(ValueError, match="is empty"):
        load_state_dict(tmp_path / "empty.pth")
    with pytest.raises(FileNotFoundError):
        load_state_dict(tmp_path / "none.pth")


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(ValueError, match=r"no torch file"):
        load_state_dict(path)


def test_compressed_entries_are_refused(tmp_path: Path) -> None:
    source = save(tmp_path / "x.pth", {"a": torch.zeros(100)}, True)
    path = tmp_path / "y.pth"
    with (
        zipfile.ZipFile(source) as old,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(ValueError, match="compressed"):
        load_state_dict(path)


@FORMATS
def test_every_truncation_is_refused(tmp_path: Path, zipped: bool) -> None:
    data = save(tmp_path / "x.pth", {"a": torch.arange(6.0)}, zipped).read_bytes()
    path = tmp_path / "cut.pth"
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"cut\.pth"):
            load_state_dict(path)


@FORMATS
def test_changed_bytes(tmp_path: Path, zipped: bool) -> None:
    data = save(tmp_path / "x.pth", {"a": torch.arange(6.0), "b": torch.ones(2)}, zipped)
    original = data.read_bytes()
    path = tmp_path / "changed.pth"

    @settings(max_examples=300, deadline=None)
    @given(st.integers(0, len(original) - 1), st.integers(0, 255))
    def change(position: int, byte: int) -> None:
        changed = bytearray(original)
        changed[position] = byte
        path.write_bytes(changed)
        try:
            state = load_state_dict(path)
        except ValueError:
            return
        assert all(isinstance(v, np.ndarray) for v in state.values())

    change()


def rebuild(shape: tuple[int, ...], strides: tuple[int, ...], offset: int, size: int) -> bytes:
    """A zip file with one tensor whose description may lie about its storage."""

    class Tensor:
        def __reduce__(self) -> Any:
            storage = Storage()
            return (
                torch._utils._rebuild_tensor_v2,
                (storage, offset, shape, strides, False, collections.OrderedDict()),
            )

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            if isinstance(value, Storage):
                return ("storage", torch.FloatStorage, "0", "cpu", size)
            return None

    text = io.BytesIO()
    Pickler(text, protocol=2).dump({"a": Tensor()})
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("x/data.pkl", text.getvalue())
        out.writestr("x/data/0", bytes(4 * 6))
    return archive.getvalue()


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "size", "message"),
    [
        ((2, 3), (3, 1), 0, 6, None),
        ((2, 3), (3, 1), 1, 6, "reaches element 6"),
        ((2, 3), (1 << 60, 1), 0, 6, "reaches element"),
        ((2, -3), (3, 1), 0, 6, "dimension"),
        ((2, 3), (-3, 1), 0, 6, "stride"),
        ((2, 3), (3, 1), -1, 6, "offset"),
        ((2, 3), (3,), 0, 6, "has strides"),
        ((1 << 40, 1 << 20), (0, 0), 0, 6, "repeats"),
        ((2, 3), (3, 1), 0, 7, "bytes"),
        ((2, 3), (3, 1), 0, 1 << 50, "bytes"),
        ((0, 1 << 60), (1, 1), 1 << 60, 6, None),
    ],
)
def test_tensors_that_reach_beyond_their_storage(
    tmp_path: Path,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offset: int,
    size: int,
    message: str | None,
) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(rebuild(shape, strides, offset, size))
    if message is None:
        assert load_state_dict(path)["a"].shape == shape
    else:
        with pytest.raises(ValueError, match=message):
            load_state_dict(path)


def test_torch_is_not_imported(tmp_path: Path) -> None:
    path = save(tmp_path / "x.pth", {"a": torch.ones(2)}, True)
    code = (
        "import sys; from dlk.importers.torch import load_state_dict; "
        f"print(load_state_dict({str(path)!r})['a'].sum(), 'torch' in sys.modules)"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert output.split() == ["2.0", "False"]
