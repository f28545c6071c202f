"""Devices and tensors in their memory."""

from __future__ import annotations

import subprocess
import sys

import dlk
import numpy as np
import pytest
from dlk import _core

from tests.subprocesses import environment

DTYPES = ["float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "bool"]


def test_listing(device_id: str) -> None:
    listed = {d.id: d for d in dlk.devices()}
    found = listed[device_id]
    assert found.backend == device_id.split(":")[0]
    assert found.name
    assert found.memory_bytes > 0
    assert found == dlk.Device(device_id)
    assert found.id in repr(found)
    for key in ("id", "backend", "name", "driver", "memory_bytes", "fp16", "api_version"):
        assert key in found.caps


def test_short_names(device_id: str) -> None:
    backend, index = device_id.split(":")
    if index == "0":
        assert dlk.Device(backend).id == device_id
    assert dlk.Device(f"name:{dlk.Device(device_id).name}").name == dlk.Device(device_id).name


def test_first_use_by_several_threads(device_id: str) -> None:
    """Drivers are initialized by one thread at a time."""
    code = (
        "import threading\n"
        "from dlk import _core\n"
        "gate, found = threading.Barrier(6), []\n"
        "def work():\n"
        "    gate.wait()\n"
        f"    found.append(_core.open_device({device_id!r}).id)\n"
        "    assert _core.list_devices()\n"
        "threads = [threading.Thread(target=work) for _ in range(6)]\n"
        "[t.start() for t in threads]\n"
        "[t.join() for t in threads]\n"
        f"assert found == [{device_id!r}] * 6, found\n"
    )
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


def test_environment_names_the_default(device_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLK_DEVICE", device_id)
    assert dlk.Device().id == device_id


@pytest.mark.parametrize("spec", ["cuda", "vulkan:99", "name:no such thing", "opencl:x", "::"])
def test_no_such_device(spec: str) -> None:
    with pytest.raises(ValueError, match="device"):
        dlk.Device(spec)


@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip(device_id: str, dtype: str) -> None:
    array = (np.arange(24).reshape(2, 3, 4) % 2 if dtype == "bool" else np.arange(24)).astype(dtype)
    tensor = dlk.Tensor(array, device_id)
    assert (tensor.dtype, tensor.shape, tensor.ndim) == (dtype, array.shape, array.ndim)
    np.testing.assert_array_equal(tensor.numpy(), array)
    assert dtype in repr(tensor)
    assert device_id in repr(tensor)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (5, 1, 7)])
def test_shapes(device_id: str, shape: tuple[int, ...]) -> None:
    array = np.full(shape, 2.5, np.float32)
    tensor = dlk.Tensor(array, device_id)
    assert tensor.shape == shape
    np.testing.assert_array_equal(tensor.numpy(), array)


def test_conversions(device_id: str) -> None:
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    np.testing.assert_array_equal(dlk.Tensor(turned, device_id).numpy(), turned)
    halves = dlk.Tensor([1.5, 2.5], device_id, dtype="float16")
    assert halves.dtype == "float16"
    assert np.asarray(halves).tolist() == [1.5, 2.5]
    assert np.asarray(halves, dtype=np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="copy"):
        np.array(halves, copy=False)
    with pytest.raises(ValueError, match="unknown dtype"):
        dlk.Tensor([1], device_id, dtype="float33")
    with pytest.raises(ValueError, match="complex"):
        dlk.Tensor(np.zeros(1, complex), device_id)
    assert len(dlk.Tensor([1, 2], device_id)) == 2
    with pytest.raises(TypeError):
        len(dlk.Tensor(1.0, device_id))


def test_bfloat16(device_id: str) -> None:
    bits = np.array([0x3F80, 0x4000], np.uint16)
    tensor = dlk.Tensor(bits, device_id, dtype="bfloat16")
    assert tensor.dtype == "bfloat16"
    np.testing.assert_array_equal(tensor.numpy().view(np.uint16), bits)
    np.testing.assert_array_equal(tensor.to(device_id).numpy().view(np.uint16), bits)


def test_dlpack(device_id: str) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensor = dlk.from_dlpack(array, device_id)
    np.testing.assert_array_equal(tensor.numpy(), array)
    assert tensor.__dlpack_device__() == (1, 0)
    np.testing.assert_array_equal(np.from_dlpack(tensor), array)
    with pytest.raises(BufferError, match="copy"):
        tensor.__dlpack__(copy=False)
    with pytest.raises(BufferError, match="CPU"):
        tensor.__dlpack__(dl_device=(2, 0))
    with pytest.raises(ValueError, match="DLPack"):
        dlk.from_dlpack([1, 2], device_id)


def test_dlpack_with_torch(device_id: str) -> None:
    torch = pytest.importorskip("torch")
    source = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    tensor = dlk.from_dlpack(source, device_id)
    assert torch.equal(torch.from_dlpack(tensor), source)


def test_between_devices() -> None:
    first, last = dlk.devices()[0], dlk.devices()[-1]
    tensor = dlk.Tensor(np.arange(5), first)
    moved = tensor.to(last)
    assert moved.device == last
    np.testing.assert_array_equal(moved.numpy(), np.arange(5))
    assert tensor.to(first) is tensor


def test_out_of_memory(device_id: str) -> None:
    limit = dlk.Device(device_id).caps["max_buffer_bytes"]
    with pytest.raises(MemoryError, match=r"\d"):
        dlk.Tensor.empty((limit * 4,), "float32", device_id)


def test_kernel_texts(device_id: str) -> None:
    device = _core.open_device(device_id)
    name = _core.kernel_names()[0]
    code = _core.print_kernel(_core.KernelRequest(name), device.kernel_format, device)
    assert code["code"]
    assert code["bindings"]
    with pytest.raises(ValueError, match="no_such_kernel"):
        _core.print_kernel(_core.KernelRequest("no_such_kernel"), device.kernel_format, device)
    with pytest.raises(ValueError, match="format"):
        _core.print_kernel(_core.KernelRequest(name), "fortran", device)


def test_broken_kernel_is_told_with_its_place() -> None:
    source = "kernel broken\nin X : f32\nout Y : f32\ngroup 64\n{\n  float a = ;\n}\n"
    with pytest.raises(dlk.CompileError, match=r"broken.*:6:13: expected"):
        _core.print_kernel(_core.KernelRequest("broken", source=source), "opencl")
