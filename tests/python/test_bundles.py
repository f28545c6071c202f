"""Plans made ahead of time: equal results without planning or compiling, and the way back."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import dlk
import numpy as np
import pytest
from dlk import _core

from tests.subprocesses import run_python

from .command import fails
from .nets import dense, relative_error

RNG = np.random.default_rng(3)
DEVICES = [d for d in ("opencl", "vulkan") if any(x.backend == d for x in dlk.devices())]
REQUIRED = {"opencl", "vulkan"} & set(os.environ.get("DLK_REQUIRE", "").split(","))
BUILDS = ("kernels/print", "kernels/glslang", "kernels/driver", "plan", "plan/lower")


def network() -> _core.Graph:
    """image (N, 3, 18, 18) -> convolutions, a sum, a product; large weights and small ones."""
    graph = _core.Graph()
    x = graph.add_input("image", "float32", ["N", 3, 18, 18])
    last, channels = x, 3
    for i, k in enumerate((24, 24, 40)):
        w = RNG.standard_normal((k, channels, 3, 3)).astype(np.float32) / 6
        b = RNG.standard_normal(k).astype(np.float32)
        inputs = [last, graph.add_constant(f"w{i}", w), graph.add_constant(f"b{i}", b)]
        y = graph.add_node("Conv", inputs, {"pads": [1, 1, 1, 1]})[0]
        y = graph.add_node("Relu", [y])[0]
        last = graph.add_node("Add", [last, y])[0] if channels == k else y
        channels = k
    pooled = graph.add_node("Flatten", [graph.add_node("GlobalAveragePool", [last])[0]])[0]
    head = graph.add_constant("head", RNG.standard_normal((40, 1000)).astype(np.float32))
    graph.add_output(graph.add_node("MatMul", [pooled, head])[0], "scores")
    return graph


def image(n: int = 1) -> dict[str, Any]:
    return {"image": RNG.standard_normal((n, 3, 18, 18)).astype(np.float32)}


def bundled(graph: _core.Graph, device: str, feeds: dict[str, Any], path: Path) -> Path:
    graph = graph.copy()
    graph.add_bundle(dlk.Model(graph, device).bundle(feeds))
    _core.save_dlk(graph, str(path))
    return path


def patched(path: Path, change: Any) -> Path:
    """A copy of a model file with another plan; ``change`` gets and returns its bytes."""
    out = path.with_name("patched.dlk")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, change(data) if name == "bundles/0.plan" else data)
    return out


def with_checksum(body: bytes) -> bytes:
    value = 14695981039346656037
    for byte in body:
        value = (value ^ byte) * 1099511628211 % 2**64
    return b"dlk bundle 2\n" + f"{value:016x}".encode() + body


def test_the_devices_are_there() -> None:
    assert set(DEVICES) >= REQUIRED


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("form", ["file", "folder"])
def test_round_trip(device: str, form: str, tmp_path: Path) -> None:
    graph, feeds = network(), image(2)
    want = dlk.Model(graph, device).run(feeds)["scores"]
    path = bundled(graph, device, feeds, tmp_path / "m.dlk")
    if form == "folder":
        (tmp_path / "folder").mkdir()
        _core.save_dlk(_core.load_dlk(str(path)), str(tmp_path / "folder"))
        path = tmp_path / "folder"
    _core.reset_phase_times()
    model = dlk.load(path, device, bundle="require")
    got = model.run(feeds)["scores"]
    assert model.bundled
    assert np.array_equal(got, want)
    assert not set(BUILDS) & set(_core.phase_times())
    plan = model.plan(feeds)
    assert plan.dispatches == dlk.Model(graph, device).plan(feeds).dispatches
    assert plan.output_shapes == {"scores": (2, 1000)}
    assert "Conv" in plan.table()


@pytest.mark.parametrize("device", DEVICES)
def test_a_new_process_compiles_nothing(device: str, tmp_path: Path) -> None:
    graph, feeds = network(), image()
    bundled(graph, device, feeds, tmp_path / "m.dlk")
    np.save(tmp_path / "x.npy", feeds["image"])
    program = (
        "import sys, json, numpy as np, dlk\n"
        "from dlk import _core\n"
        "model = dlk.load(sys.argv[1] + '/m.dlk', sys.argv[2])\n"
        "y = model.run({'image': np.load(sys.argv[1] + '/x.npy')})['scores']\n"
        "np.save(sys.argv[1] + '/y.npy', y)\n"
        "print(json.dumps([_core.kernel_stats(model.device.handle), list(_core.phase_times())]))\n"
    )
    done = run_python(
        "-c", program, str(tmp_path), device, timeout=120, DLK_CACHE="0", DLK_BUNDLE="require"
    )
    assert done.returncode == 0, done.stderr
    stats, phases = json.loads(done.stdout)
    assert stats["pipelines"] == 0
    assert not set(BUILDS) & set(phases)
    assert np.array_equal(
        np.load(tmp_path / "y.npy"), dlk.Model(graph, device).run(feeds)["scores"]
    )


@pytest.mark.parametrize("device", DEVICES)
def test_other_inputs_are_planned(device: str, tmp_path: Path) -> None:
    graph, feeds = network(), image(3)
    path = bundled(graph, device, image(1), tmp_path / "m.dlk")
    model = dlk.load(path, device)
    got = model.run(feeds)["scores"]
    assert not model.bundled
    assert relative_error(got, dlk.Model(graph, device).run(feeds)["scores"]) < 1e-6
    strict = dlk.load(path, device, bundle="require")
    with pytest.raises(NotImplementedError, match=r"'image' float32\[3, 3, 18, 18\]"):
        strict.run(feeds)
    strict.run(image(1))


@pytest.mark.parametrize("device", DEVICES)
def test_variables_are_the_graphs(device: str, tmp_path: Path) -> None:
    graph = _core.Graph()
    x = graph.add_input("x", "float32", [4])
    total = graph.add_variable("total", np.arange(4, dtype=np.float32))
    after = graph.add_node("Add", [total, x])[0]
    graph.assign(total, after)
    graph.add_output(graph.add_node("Mul", [after, x])[0], "y")
    feeds = {"x": np.full(4, 2, np.float32)}
    path = bundled(graph, device, feeds, tmp_path / "m.dlk")
    model = dlk.load(path, device, bundle="require")
    for run in range(1, 4):
        assert np.array_equal(model.run(feeds)["y"], 2 * (np.arange(4) + 2 * run))
    assert np.array_equal(model.handle.read_variable("total"), np.arange(4) + 6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (dlk.__version__.encode(), b"0.0.0", "made by dlk 0.0.0"),
        (b"BACKEND", b"other!", "it is for other!"),
        (b"|timestamps", b"|timestampz", "can do other things"),
    ],
)
def test_another_target_falls_back(
    device: str, before: bytes, after: bytes, reason: str, tmp_path: Path
) -> None:
    graph, feeds = network(), image()
    path = bundled(graph, device, feeds, tmp_path / "m.dlk")
    old = before.replace(b"BACKEND", device.encode())

    def change(plan: bytes) -> bytes:
        assert old in plan[29:1000]
        return with_checksum(plan[29:].replace(old, after, 1))

    other = patched(path, change)
    program = (
        "import sys, dlk, numpy as np\n"
        "model = dlk.load(sys.argv[1], sys.argv[2])\n"
        "model.run({'image': np.zeros((1, 3, 18, 18), np.float32)})\n"
        "print(model.bundled)\n"
    )
    done = run_python("-c", program, str(other), device, timeout=120, DLK_LOG="1")
    assert done.stdout.split() == ["False"], done.stderr
    assert reason in done.stderr
    assert done.stderr.count("bundle is not used") == 1
    with pytest.raises(NotImplementedError, match=reason):
        dlk.load(other, device, bundle="require")


@pytest.mark.parametrize("device", DEVICES)
def test_another_driver_compiles_the_portable_kernels(device: str, tmp_path: Path) -> None:
    graph, feeds = network(), image()
    path = bundled(graph, device, feeds, tmp_path / "m.dlk")
    name = dlk.Device(device).name.encode()
    other = patched(path, lambda plan: with_checksum(plan[29:].replace(name, b"?" * len(name), 1)))
    _core.reset_phase_times()
    model = dlk.load(other, device, bundle="require")
    assert np.array_equal(model.run(feeds)["scores"], dlk.Model(graph, device).run(feeds)["scores"])
    assert model.bundled


def test_other_options_fall_back(tmp_path: Path) -> None:
    path = bundled(network(), DEVICES[0], image(), tmp_path / "m.dlk")
    with pytest.raises(NotImplementedError, match="other options"):
        dlk.load(path, DEVICES[0], bundle="require", fuse=False)


def test_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, feeds = bundled(network(), DEVICES[0], image(), tmp_path / "m.dlk"), image()
    monkeypatch.setenv("DLK_BUNDLE", "0")
    model = dlk.load(path, DEVICES[0], bundle="require")
    model.run(feeds)
    assert not model.bundled
    monkeypatch.setenv("DLK_BUNDLE", "maybe")
    with pytest.raises(ValueError, match="0, 1 or require"):
        dlk.load(path, DEVICES[0])
    monkeypatch.setenv("DLK_BUNDLE", "require")
    with pytest.raises(NotImplementedError, match="holds none"):
        dlk.Model(network(), DEVICES[0])
    monkeypatch.delenv("DLK_BUNDLE")
    with pytest.raises(ValueError, match="auto, never or require"):
        dlk.load(path, DEVICES[0], bundle="maybe")


def test_a_changed_graph_has_no_bundle(tmp_path: Path) -> None:
    graph = _core.load_dlk(str(bundled(network(), DEVICES[0], image(), tmp_path / "m.dlk")))
    assert graph.bundles == graph.copy().bundles == 1
    graph.add_constant("more", np.ones(3, np.float32))
    assert graph.bundles == 0


def test_plans_of_several_stages_are_refused() -> None:
    graph = _core.Graph()
    x = graph.add_input("x", "float32", [6])
    found = graph.add_node("NonZero", [x])[0]
    graph.add_output(graph.add_node("Transpose", [found], {"perm": [1, 0]})[0], "y")
    model = dlk.Model(graph, DEVICES[0])
    with pytest.raises(NotImplementedError, match="ahead of time"):
        model.bundle({"x": np.ones(6, np.float32)})


def test_damaged_files_say_so(tmp_path: Path) -> None:
    path = bundled(network(), DEVICES[0], image(), tmp_path / "m.dlk")

    def load(change: Any) -> None:
        dlk.load(patched(path, change), DEVICES[0], bundle="require")

    for change in (
        lambda plan: b"",
        lambda plan: plan[:20],
        lambda plan: b"x" + plan[1:],
        lambda plan: plan[:-1],
        lambda plan: plan + b"\0",
        lambda plan: plan[:2000] + bytes([plan[2000] ^ 1]) + plan[2001:],
    ):
        with pytest.raises(ValueError, match="bundle is damaged"):
            load(change)
    # What no checksum catches: cut off and foreign bytes, with the checksum that belongs to them.
    with zipfile.ZipFile(path) as archive:
        body = archive.read("bundles/0.plan")[29:]
    rng = np.random.default_rng(5)
    for cut in rng.integers(400, len(body) - 1, 12):
        with pytest.raises(ValueError, match="bundle is damaged"):
            load(lambda plan, cut=cut: with_checksum(body[:cut]))
    refused = 0
    for i in range(60):  # not in the kernels, which are the driver's to judge
        changed = bytearray(body)
        at = int(
            rng.integers(400, 2500) if i % 2 else rng.integers(len(body) - 4000, len(body) - 8)
        )
        changed[at : at + 8] = rng.integers(0, 256, 8, np.uint8).tobytes()
        try:
            load(lambda plan, changed=changed: with_checksum(bytes(changed)))
        except (ValueError, NotImplementedError):
            refused += 1
    assert refused > 20


def test_weights_of_the_wrong_size(tmp_path: Path) -> None:
    graph, feeds = network(), image()
    path = bundled(graph, DEVICES[0], feeds, tmp_path / "m.dlk")
    other = bundled(dense(), DEVICES[0], {"x": np.ones((1, 6), np.float32)}, tmp_path / "d.dlk")
    out = tmp_path / "mixed.dlk"
    with (
        zipfile.ZipFile(path) as one,
        zipfile.ZipFile(other) as two,
        zipfile.ZipFile(out, "w") as z,
    ):
        for name in one.namelist():
            z.writestr(name, (two if name == "bundles/0.safetensors" else one).read(name))
    with pytest.raises(ValueError, match="bundle"):
        dlk.load(out, DEVICES[0], bundle="require").run(feeds)


@pytest.mark.parametrize("device", DEVICES)
def test_convert(device: str, call: Any, files: Path) -> None:
    out = files / "bundle.dlk"
    words = ("convert", files / "dense.dlk", out, "--target", device, "--batch", 2, "--batch", 5)
    assert call(*words, "--json").json()["bundles"] == 2
    for n in (2, 5):
        x = RNG.standard_normal((n, 6)).astype(np.float32)
        got = dlk.load(out, device, bundle="require")(x)
        assert np.array_equal(got, dlk.Model(dense(), device)(x))
    fails(call("convert", files / "dense.dlk", out, "--batch", 2), "--target")
    fails(call("convert", files / "dense.dlk", files / "m.onnx", "--target", device), ".dlk")
