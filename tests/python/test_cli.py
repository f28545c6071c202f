"""The command line: JSON for machines, one line for errors, nothing half written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import dlk
import numpy as np
import pytest
from dlk import _core
from dlk.cli import main

from ..conftest import device_ids
from .command import fails
from .nets import dense_reference, relative_error


def test_devices(call: Any, device_id: str) -> None:
    listed = call("devices", "--json").json()
    entry = next(d for d in listed if d["id"] == device_id)
    for key in ("id", "backend", "name", "driver", "memory_bytes", "fp16"):
        assert key in entry
    only = call("devices", "--device", device_id, "--json").json()
    assert [d["id"] for d in only] == [device_id]
    halves = call("devices", "--dtype", "float16", "--json").json()
    assert all(d["fp16"] for d in halves)
    assert device_id in call("devices").out


def test_classify(call: Any, files: Path, device_id: str) -> None:
    words = ("classify", files / "red.png", "--model", files / "colours.dlk", "--device", device_id)
    answer = call(*words, "--json").json()
    assert set(answer) == {"device", "top", "ms"}
    assert answer["device"] == device_id
    assert answer["top"][0]["label"] == "red"
    assert sum(t["score"] for t in answer["top"]) == pytest.approx(1)
    assert answer["ms"] > 0
    assert "red" in call(*words, "--top", "1").out


def test_run(call: Any, files: Path, device_id: str) -> None:
    for name in ("dense.dlk", "dense.onnx"):
        out = files / "y.npz"
        answer = call("run", files / name, "--input", files / "x.npz", "--output", out,
                      "--device", device_id, "--json").json()  # fmt: skip
        assert set(answer) == {"device", "dispatches", "host_ops", "ms"}
        assert answer["host_ops"] == []
        assert answer["dispatches"] >= 1
        with np.load(out) as arrays:
            assert list(arrays) == ["y"]
            want = dense_reference(np.ones((2, 6)))
            assert relative_error(arrays["y"], want) < 1e-5
        out.unlink()


def test_convert_and_info(call: Any, files: Path) -> None:
    target = files / "converted.dlk"
    answer = call("convert", files / "dense.onnx", target, "--json").json()
    assert answer["bytes"] == target.stat().st_size
    back = files / "converted.onnx"
    assert call("convert", target, back, "--json").json()["nodes"] == 3
    assert call("info", back, "--json").json()["operators"] == {"Add": 1, "MatMul": 1, "Relu": 1}
    rows = call("info", target, "--explain", "--json").json()["explain"]
    assert [(row["op"], row["runs"]) for row in rows] == [
        ("Add", "device; shape arithmetic on the host"),
        ("MatMul", "device"),
        ("Relu", "device"),
    ]
    assert "MatMul" in call("info", target, "--explain").out
    facts = call("info", target, "--json").json()
    assert facts["parameters"] == 28
    assert facts["macs"] == 24
    assert facts["operators"] == {"Add": 1, "MatMul": 1, "Relu": 1}
    assert facts["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["N", 6]}]
    assert facts["missing"] == []
    assert "MatMul" in call("info", target).out


def test_info_with_a_device_shows_the_plan(call: Any, files: Path, device_id: str) -> None:
    facts = call("info", files / "dense.dlk", "--device", device_id, "--json").json()
    assert facts["plan"]["device"] == device_id
    assert facts["plan"]["dispatches"] >= 1


def test_bench(call: Any, files: Path, device_id: str) -> None:
    answer = call("bench", files / "dense.dlk", "--batch", 3, "--runs", 3, "--device", device_id,
                  "--json").json()  # fmt: skip
    assert set(answer) == {
        "target", "device", "dtype", "batch", "median_ms", "device_ms", "pipelined_ms", "min_ms",
        "p95_ms", "runs",
    }  # fmt: skip
    assert (answer["device"], answer["batch"], answer["runs"]) == (device_id, 3, 3)


def test_bench_against_the_roof(call: Any, tmp_path: Path, device_id: str) -> None:
    output = tmp_path / "bench.json"
    words = ("--runs", 2, "--device", device_id, "--roofline")
    answer = call("bench", "op:gemm:64", *words, "--json", "--output", output).json()
    assert json.loads(output.read_text()) == answer
    assert answer["roofline"]["peaks"]["copy_bytes"] > 0
    assert [row["op"] for row in answer["roofline"]["by_op"]] == ["MatMul"]
    assert answer["roofline"]["by_op"][0]["fraction"] > 0
    text = call("bench", "op:gemm:64", *words).out
    assert "% of the roof" in text
    answer = call("profile", "lenet", "--device", device_id, "--roofline", "--json").json()
    assert all(row["fraction"] > 0 for row in answer["roofline"]["steps"])


def test_bench_of_one_parity_case_and_of_integers(call: Any, device_id: str) -> None:
    words = ("--runs", 2, "--device", device_id, "--json")
    assert call("bench", "op:case:relu", *words).json()["median_ms"] > 0
    fails(call("bench", "op:case:relu_of_nothing"), "no such case")
    answer = call("bench", "op:gemm:32", "--dtype", "int8", *words).json()
    assert (answer["dtype"], answer["target"]) == ("int8", "op:gemm:32")
    for dtype in ("int8", "bfloat16"):
        answer = call("bench", "op:conv:1,8,6,8,3,1", "--dtype", dtype, *words).json()
        assert (answer["dtype"], answer["gflops"] > 0) == (dtype, True)
    fails(call("bench", "op:lstm", "--dtype", "int8"), "float16")
    half = call("bench", "op:gemm:32", "--dtype", "float16", "--accumulate", "fp16", *words)
    if dlk.Device(device_id).caps["fp16_arithmetic"]:
        assert half.json()["accumulate"] == "fp16"
    else:
        fails(half, "fp16_arithmetic")


def test_bench_of_an_operator_and_a_zoo_network(call: Any, device_id: str) -> None:
    words = ("--runs", 2, "--device", device_id, "--json")
    assert call("bench", "op:Relu", *words).json()["median_ms"] > 0
    assert call("bench", "zoo:lenet", "--weights", "random", *words).json()["median_ms"] > 0


def test_bench_of_training(call: Any, files: Path, device_id: str) -> None:
    words = ("--train", "--batch", 3, "--runs", 2, "--device", device_id, "--json")
    answer = call("bench", "zoo:lenet", "--weights", "random", *words).json()
    assert answer["batch"] == 3
    assert answer["images_per_s"] > 0
    assert answer["peak_bytes"] > answer["arena_bytes"] > 0
    assert call("bench", files / "dense.dlk", *words).json()["median_ms"] > 0
    if dlk.Device(device_id).caps["fp16_storage"]:
        mixed = call("bench", "zoo:lenet", "--weights", "random", "--amp", *words).json()
        assert mixed["dtype"] == "float16"
    fails(call("bench", "zoo:lenet", "--weights", "random", "--amp"), "--train")
    fails(call("bench", "op:Relu", "--train"), "not operators")


def test_bench_of_training_against_torch(call: Any, device_id: str) -> None:
    pytest.importorskip("torch")
    words = ("--train", "--against", "torch", "--runs", 1, "--device", device_id, "--json")
    answer = call("bench", "zoo:lenet", "--weights", "random", "--batch", 2, *words).json()
    peer = answer["torch"]
    assert peer["median_ms"] > 0
    assert peer["pipelined_ms"] > 0
    assert peer["loss"] == pytest.approx(peer["dlk_loss"], rel=1e-4)


def test_graphs_in_torch_learn_the_same() -> None:
    """The first loss, by the kernels of one device."""
    pytest.importorskip("torch")
    from dlk import zoo
    from dlk.against import torch_training
    from dlk.train.imported import training_step

    graph = zoo.build("resnet18", "random", image_size=64)
    step, arrays = training_step(graph, 2, device_ids()[0])
    peer = torch_training(step.module, arrays, "float32")
    assert peer["loss"] == pytest.approx(step(*arrays).loss, rel=1e-3)


def test_what_torch_cannot_train(call: Any, device_id: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    graph = dlk.Graph()
    x = graph.add_input("x", "float32", [1, 3])
    w = graph.add_constant("w", np.ones((3, 4), np.float32))
    (y,) = graph.add_node("MatMul", [x, w])
    (z,) = graph.add_node("Mish", [y])
    graph.add_output(z, "z")
    path = tmp_path / "odd.dlk"
    dlk._core.save_dlk(graph, str(path))
    words = ("--train", "--against", "torch", "--runs", 1, "--device", device_id)
    fails(call("bench", path, *words), "Mish")


def test_parity(call: Any, device_id: str, tmp_path: Path) -> None:
    passport = tmp_path / "passport.json"
    answer = call("parity", "--op", "Relu", "--device", device_id, "--dtype", "float32",
                  "--output", passport, "--json").json()  # fmt: skip
    assert list(answer["forward"]) == [device_id]
    assert answer["forward"][device_id]["Relu"]["float32"]["failed"] == 0
    assert json.loads(passport.read_text()) == answer
    assert passport.with_suffix(".html").is_file()
    answer = call("parity", "--op", "Sigmoid", "--device", device_id, "--dtype", "gradient",
                  "--json").json()  # fmt: skip
    cell = answer["forward"][device_id]["Sigmoid"]["gradient"]
    assert cell["failed"] == cell["unsupported"] == 0
    assert 0 < cell["relative"] < 2e-4


def test_kernels(call: Any, device_id: str, tmp_path: Path) -> None:
    answer = call("kernels", "--emit", tmp_path / "k", "--device", device_id, "--json").json()
    assert answer["kernels"] == sorted(_core.kernel_names())
    assert answer["files"]
    for name in answer["files"]:
        assert Path(name).stat().st_size > 0
    assert call("kernels").out.split() == answer["kernels"]


def test_kernels_of_a_model(call: Any, files: Path, device_id: str, tmp_path: Path) -> None:
    answer = call("kernels", "--emit", tmp_path / "k", "--model", files / "dense.dlk",
                  "--device", device_id, "--json").json()  # fmt: skip
    index = json.loads((tmp_path / "k" / "index.json").read_text())
    assert index == answer["variants"]
    assert len(index) >= 1
    for stem, key in index.items():
        assert stem.rsplit("-", 1)[0] == key.split("|")[0].split("@")[0]
        assert list((tmp_path / "k").glob(f"{stem}.*.json"))


def test_profile(call: Any, files: Path, device_id: str) -> None:
    trace = files / "trace.json"
    words = ("profile", files / "dense.dlk", "--device", device_id, "--batch", 3)
    answer = call(*words, "--trace", trace, "--json").json()
    assert answer["device"] == device_id
    assert answer["total_ms"] == pytest.approx(sum(answer["by_op"].values()))
    assert {e["name"] for e in json.loads(trace.read_text())["traceEvents"]} >= {
        step["node"] for step in answer["steps"]
    }
    assert "by operation" in call(*words, "--input", files / "x.npz").out


def test_errors_are_one_line(call: Any, files: Path, tmp_path: Path) -> None:
    run = ("run", files / "dense.dlk", "--output", files / "y.npz", "--input")
    fails(call("classify", files / "missing.png"), "missing.png")
    fails(call("classify", files / "dense.dlk"), "not an image")
    fails(call("classify", files / "red.png", "--model", "no_such_net"), "the zoo has")
    fails(call("classify", files / "red.png", "--model", files / "dense.dlk"), "prepare")
    fails(call("classify", files / "red.png", "--device", "cuda"), "cuda")
    fails(call("classify", files / "red.png", "--dtype", "int3"), "int3")
    fails(call(*run, files / "missing.npz"), "missing.npz")
    fails(call(*run, files / "red.png"), "not an .npz file")
    np.savez(files / "bad.npz", x=np.ones((2, 5), np.float32))
    fails(call(*run, files / "bad.npz"), "5")
    np.savez(files / "names.npz", z=np.ones((2, 6), np.float32))
    fails(call(*run, files / "names.npz"), "z")
    assert not (files / "y.npz").exists()
    no_folder = ("--output", files / "no" / "y.npz")
    fails(call("run", files / "dense.dlk", "--input", files / "x.npz", *no_folder), "folder")
    fails(call("convert", files / "dense.onnx", files / "out.zip"), ".dlk")
    fails(call("convert", files / "red.png", files / "out.dlk"), "not a model")
    assert not (files / "out.dlk").exists()
    fails(call("info", files / "missing.dlk"), "missing.dlk")
    fails(call("bench", "op:Frobnicate"), "Frobnicate")
    fails(call("bench", "zoo:lenet", "--weights", "borrowed"), "random")
    fails(call("parity", "--op", "Frobnicate"), "--op")


def test_objects_in_npz_are_not_unpickled(call: Any, files: Path) -> None:
    np.savez(files / "evil.npz", x=np.array([object()], dtype=object))
    fails(call("run", files / "dense.dlk", "--input", files / "evil.npz",
               "--output", files / "y.npz"), "evil.npz")  # fmt: skip


def test_unreadable_file(call: Any, files: Path) -> None:
    folder = files / "folder.onnx"
    folder.mkdir()
    fails(call("info", folder), "folder.onnx")


def test_usage_errors(call: Any) -> None:
    for words in (["nonsense"], ["run"], ["devices", "--nonsense"]):
        outcome = call(*words)
        assert outcome.code == 2
        assert "Traceback" not in outcome.err


def test_debug_shows_where(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        main(["info", str(tmp_path / "missing.onnx"), "--debug"])


def test_version_and_help(call: Any) -> None:
    assert call("--version").out.strip() == f"dlk {dlk.__version__}"
    text = call("--help").out
    for command in ("devices", "classify", "run", "convert", "info", "bench", "parity", "kernels"):
        assert command in text


def process(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-m", "dlk", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def test_as_a_process() -> None:
    done = process("devices", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == json.loads(json.dumps(_core.list_devices()))


def test_missing_loaders() -> None:
    nowhere = {
        "DLK_OPENCL_LIBRARY": "/nowhere/libOpenCL.so",
        "DLK_VULKAN_LIBRARY": "/nowhere/libvulkan.so",
    }
    listed = process("devices", **nowhere)
    assert listed.returncode == 0
    assert "no devices" in listed.stdout
    assert "/nowhere/libvulkan.so" in listed.stdout
    done = process("bench", "op:Relu", "--device", "vulkan", **nowhere)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "/nowhere/libvulkan.so" in done.stderr


def test_a_broken_pipe_is_quiet(files: Path) -> None:
    command = f"{sys.executable} -m dlk info {files / 'dense.dlk'} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""
