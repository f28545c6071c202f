"""Bad input through the command line: one line that says what and what to do, nothing left behind.

What each reader refuses is tested beside it (tests/importers, tests/cpp/test_model_file.cpp, ...);
here every class of bad input goes the way that a person would send it.
"""

from __future__ import annotations

import json
import pickle
import resource
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import dlk
import numpy as np
import pytest
from dlk import _core
from onnx import TensorProto, helper

from tests.subprocesses import environment

from .command import Outcome, fails
from .nets import classifier, dense


def refused(call: Any, folder: Path, *words: object, says: str = "") -> None:
    """The command fails in one line and leaves the folder as it was."""
    before = {path: path.stat().st_size for path in folder.rglob("*")}
    fails(call(*words), *([says] if says else []))
    assert {path: path.stat().st_size for path in folder.rglob("*")} == before


def safetensors_bytes(length: int | None = None, **entry: Any) -> bytes:
    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **entry}
    header = json.dumps({"w": tensor}).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + b"\0" * 8


class Harmful:
    """Unpickling it would end the process."""

    def __reduce__(self) -> Any:
        return sys.exit, (99,)


def zip_of(**entries: bytes) -> bytes:
    import io

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name.replace("__", "/").replace("_DOT_", "."), data)
    return file.getvalue()


def onnx_bytes(shape: list[int | str], op: str = "Relu") -> bytes:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"])], "g",
        [info("x", TensorProto.FLOAT, shape)], [info("y", TensorProto.FLOAT, shape)],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


HUGE_JSON = b'{"format": "dlk", "version": 1, "graph": ' + b"[" * 5000 + b"]" * 5000 + b"}"
FILES = {
    "empty.onnx": (b"", "empty"),
    "truncated.onnx": (onnx_bytes([2])[:-9], "onnx"),
    "text.onnx": (b"hello\n" * 100, "onnx"),
    "huge.onnx": (b"\x08\x08\x3a\xff\xff\xff\xff\x7f" + b"\0" * 100, "onnx"),
    "dims.onnx": (onnx_bytes([2]).replace(b"Relu", b"\xff\xfe\xfd\xfc"), "onnx"),
    "empty.dlk": (b"", "empty"),
    "text.dlk": (b"hello\n" * 100, "not a zip archive"),
    "other.dlk": (zip_of(a=b"b"), "dlk.json"),
    "deep.dlk": (zip_of(dlk_DOT_json=HUGE_JSON, weights_DOT_safetensors=b"\2" + b"\0" * 7 + b"{}"),
                 "dlk model"),
    "huge.dlk": (zip_of(dlk_DOT_json=b"{}", weights_DOT_safetensors=safetensors_bytes(1 << 60)),
                 "dlk model"),
}  # fmt: skip
WEIGHTS = {
    "empty.pth": (b"", "empty"),
    "truncated.pth": (pickle.dumps({"a": 1}, 2)[:-3], "truncated"),
    "harmful.pth": (pickle.dumps({"a": Harmful()}, 2), "exit"),
    "zip.pth": (zip_of(a=b"b"), "zip.pth"),
    "empty.safetensors": (b"", "empty"),
    "header.safetensors": (safetensors_bytes(1 << 60), "header"),
    "shape.safetensors": (safetensors_bytes(shape=[1 << 40]), "w"),
    "offsets.safetensors": (safetensors_bytes(data_offsets=[0, 1 << 50]), "w"),
    "wrong.safetensors": (safetensors_bytes(), "w"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("command", ["info", "run", "convert", "bench"])
def test_model_files(call: Any, files: Path, name: str, command: str) -> None:
    data, says = FILES[name]
    (files / name).write_bytes(data)
    rest = {
        "info": [],
        "run": ["--input", files / "x.npz", "--output", files / "y.npz"],
        "convert": [files / "out.dlk"],
        "bench": [],
    }[command]
    refused(call, files, command, files / name, *rest, says=says)


@pytest.mark.parametrize("name", WEIGHTS)
def test_weight_files(call: Any, files: Path, name: str) -> None:
    data, says = WEIGHTS[name]
    (files / name).write_bytes(data)
    refused(call, files, "info", files / name, says="weights")
    words = ("convert", "zoo:lenet", files / "out.dlk", "--weights", files / name)
    refused(call, files, *words, says=says)


def test_every_truncation_of_a_model(call: Any, files: Path) -> None:
    for name, step in (("dense.onnx", 31), ("dense.dlk", 997)):
        data = (files / name).read_bytes()
        for size in range(0, len(data), step):
            cut = files / f"cut{Path(name).suffix}"
            cut.write_bytes(data[:size])
            refused(call, files, "info", cut)


def test_unknown_operators_are_named(call: Any, files: Path) -> None:
    (files / "new.onnx").write_bytes(onnx_bytes([2], "Frobnicate"))
    fails(call("bench", files / "new.onnx"), "Frobnicate")
    refused(call, files, "run", files / "new.onnx", "--input", files / "x.npz",
            "--output", files / "y.npz", says="Frobnicate")  # fmt: skip
    assert call("info", files / "new.onnx", "--json").json()["missing"] == ["Frobnicate"]


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.ones((2, 5), np.float32), "5"),
        (np.ones(6, np.float32), "x"),
        (np.ones((1, 2, 6), np.float32), "x"),
        (np.ones((2, 6), np.float64), "float64"),
        (np.ones((2, 6), np.int8), "int8"),
        (np.array([["a"] * 6]), "string"),
        (np.array(None), ".npz"),
    ],
)
def test_wrong_shapes_dtypes_and_ranks(call: Any, files: Path, array: Any, says: str) -> None:
    np.savez(files / "bad.npz", x=array)
    refused(call, files, "run", files / "dense.dlk", "--input", files / "bad.npz",
            "--output", files / "y.npz", says=says)  # fmt: skip


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity(call: Any, files: Path, device_id: str, value: float) -> None:
    """As data they pass through; as a classifier's scores they are an error."""
    x = np.ones((2, 6), np.float32)
    x[1, 2] = value
    np.savez(files / "x.npz", x=x)
    outcome = call("run", files / "dense.dlk", "--input", files / "x.npz",
                   "--output", files / "y.npz", "--device", device_id)  # fmt: skip
    assert outcome.code == 0, outcome.err
    with np.load(files / "y.npz") as arrays:
        assert np.isfinite(arrays["y"][0]).all()
        assert not np.isfinite(arrays["y"][1]).all() or value < 0 or np.isposinf(value)
    graph = classifier()
    graph.info.preprocessing = json.dumps({"range": [0, 3e38], "mean": -3e38, "crop": 8})
    _core.save_dlk(graph, str(files / "wild.dlk"))
    refused(call, files, "classify", files / "red.png", "--model", files / "wild.dlk",
            "--device", device_id, says="not finite")  # fmt: skip


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0" * 9])
def test_images_that_are_none(call: Any, files: Path, data: bytes) -> None:
    (files / "photo.png").write_bytes(data)
    refused(call, files, "classify", files / "photo.png", "--model", files / "colours.dlk",
            says="photo.png")  # fmt: skip


def test_devices_that_are_not_there(call: Any, files: Path) -> None:
    photo = ("classify", files / "red.png", "--model", files / "colours.dlk", "--device")
    for device in ("vulkan:99", "cuda", "name:Voodoo", "opencl:x", ":", "null:7"):
        fails(call(*photo, device), "devices")


def program(*words: object, **changes: str) -> Outcome:
    done = subprocess.run(
        [sys.executable, "-m", "dlk", *map(str, words)],
        capture_output=True, text=True, env=environment(**changes), timeout=120,
    )  # fmt: skip
    return Outcome(done.returncode, done.stdout, done.stderr)


def test_loaders_that_are_missing(files: Path) -> None:
    nowhere = {"DLK_OPENCL_LIBRARY": "/nowhere/cl.so", "DLK_VULKAN_LIBRARY": "/nowhere/vk.so"}
    for device in ("opencl", "vulkan"):
        words = ("classify", files / "red.png", "--model", files / "colours.dlk", "--device")
        fails(program(*words, device, **nowhere), "/nowhere", "install")


def test_a_broken_installation(tmp_path: Path) -> None:
    """The engine's library, or a package that dlk needs, cannot be loaded."""
    (tmp_path / "typer.py").write_text("raise ImportError('no typer here')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from dlk.cli import main; main([])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=60
    )
    fails(Outcome(done.returncode, done.stdout, done.stderr), "no typer here", "install")


def test_a_kernel_that_does_not_compile(
    call: Any, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real error of the compiler, with its log, on one line."""

    def broken(*words: Any, **options: Any) -> Any:
        return _core.compile_glsl("#version 450\nvoid main() { undefined_name = 1; }\n", "broken")

    monkeypatch.setattr("dlk.Model", broken)
    refused(call, files, "bench", files / "dense.dlk", says="undefined_name")
    with pytest.raises(dlk.CompileError):
        broken()


def test_out_of_memory(call: Any, files: Path, device_id: str) -> None:
    graph = _core.Graph()
    x = graph.add_input("x", "float32", ["N", 6])
    shape = graph.add_constant("shape", np.array([1 << 20, 1 << 20, 2, 6], np.int64))
    graph.add_output(graph.add_node("Expand", [x, shape])[0], "y")
    _core.save_dlk(graph, str(files / "big.dlk"))
    refused(call, files, "run", files / "big.dlk", "--input", files / "x.npz", "--output",
            files / "y.npz", "--device", device_id, says="bytes")  # fmt: skip


def limited(code: str, folder: Path, limit_bytes: int, **changes: str) -> Outcome:
    """A program in which files cannot grow beyond a size, as on a disk that is full."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120,
        env=environment(**changes),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes)),
    )  # fmt: skip
    return Outcome(done.returncode, done.stdout, done.stderr)


def test_a_full_disk_leaves_nothing(files: Path) -> None:
    before = sorted(path.name for path in files.iterdir())
    for words in (
        ["convert", "dense.onnx", "out.dlk"],
        ["run", "dense.dlk", "--input", "x.npz", "--output", "y.npz"],
        ["profile", "dense.dlk", "--trace", "t.json"],
    ):
        code = f"from dlk.cli import main; main({words!r})"
        fails(limited(code, files, 100, DLK_CACHE="0"), words[-1])
        assert sorted(path.name for path in files.iterdir()) == before


def test_a_cache_that_cannot_be_written(files: Path, tmp_path: Path) -> None:
    """It costs speed, never a result, and is told once."""
    words = ("classify", files / "red.png", "--model", files / "colours.dlk")
    plain = tmp_path / "file"
    plain.write_text("in the way")
    outcome = program(*words, DLK_CACHE_DIR=str(plain / "cache"))
    assert outcome.code == 0, outcome.err
    assert "red" in outcome.out
    assert len(outcome.err.strip().splitlines()) == 1
    assert "DLK_CACHE_DIR" in outcome.err
    code = f"from dlk.cli import main; main({[str(word) for word in words]!r})"
    full = limited(code, files, 50, DLK_CACHE_DIR=str(tmp_path / "full"))
    assert full.code == 0, full.err
    assert "red" in full.out
    assert not [path for path in (tmp_path / "full").rglob("*") if path.is_file()]


def test_weights_that_cannot_be_kept(call: Any, files: Path, monkeypatch: Any) -> None:
    """A pretrained network and a cache folder that is a file: told before anything is fetched."""
    plain = files / "file"
    plain.write_text("in the way")
    monkeypatch.setenv("DLK_CACHE_DIR", str(plain))
    monkeypatch.setattr("dlk.zoo.fetch._installed", lambda file: None)
    refused(call, files, "convert", "efficientnet_lite0", files / "out.dlk", says=str(plain))


def test_the_network_works_after_all(call: Any, files: Path, device_id: str) -> None:
    """What the tests above damage is right when it is whole."""
    assert dense().validate() is None
    outcome = call("run", files / "dense.dlk", "--input", files / "x.npz", "--output",
                   files / "y.npz", "--device", device_id, "--json")  # fmt: skip
    assert outcome.json()["device"] == device_id
