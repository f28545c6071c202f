"""Other engines that run on open GPU interfaces: ncnn, onnxruntime's WebGPU provider, tinygrad.

Each reads the ONNX file of a network and gives a function that runs one batch, host memory in to
host memory out. What an engine lacks is an ImportError or RuntimeError that says so: none of them
may fall back to the CPU unseen.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Runner = Callable[[], Array]


def ncnn_model(model: Path, shape: tuple[int, ...]) -> tuple[Path, Path]:
    """The network as ncnn's .param and .bin beside the ONNX file, converted by pnnx once.

    Raises:
        ImportError: the package pnnx is not installed.
        RuntimeError: pnnx fails, or leaves an operator that ncnn does not have.
    """
    spec = importlib.util.find_spec("pnnx")  # importing it would load PyTorch
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("models for ncnn are converted by pnnx: install the package pnnx")
    param, weights = model.with_suffix(".ncnn.param"), model.with_suffix(".ncnn.bin")
    if not param.exists():
        sizes = ",".join(str(size) for size in shape)
        program = Path(spec.submodule_search_locations[0]) / "pnnx"
        done = subprocess.run(
            [str(program), str(model), f"inputshape=[{sizes}]"],
            capture_output=True, text=True, cwd=model.parent, check=False,
        )  # fmt: skip
        if done.returncode != 0 or not param.exists():
            raise RuntimeError(
                f"pnnx: exit {done.returncode}: {(done.stdout + done.stderr)[-300:]}"
            )
    foreign = [line for line in param.read_text().splitlines() if line.startswith("pnnx.")]
    if foreign:
        raise RuntimeError(f"ncnn has no {foreign[0].split()[0]}")
    return param, weights


def ncnn(model: Path, batch: Array, dtype: str, threads: int, vulkan: bool = True) -> Runner:
    """ncnn on its first Vulkan device, or on the CPU; float16 is its default precision."""
    import ncnn

    if len(batch) != 1:
        raise RuntimeError("ncnn runs one image at a time")
    if vulkan and not ncnn.get_gpu_count():
        raise RuntimeError("ncnn finds no Vulkan device")
    param, weights = ncnn_model(model, batch.shape)
    net = ncnn.Net()
    net.opt.use_vulkan_compute = vulkan
    net.opt.num_threads = threads
    half = dtype == "float16"
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = half
    if net.load_param(str(param)) or net.load_model(str(weights)):
        raise RuntimeError("ncnn cannot load the network")
    image = np.ascontiguousarray(batch[0])

    def run() -> Array:
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(image))
        status, out = extractor.extract("out0")
        if status:
            raise RuntimeError(f"ncnn: extract returned {status}")
        return np.array(out)[None]

    return run


def ort_webgpu(model: Path, batch: Array) -> Runner:
    """onnxruntime's WebGPU provider (the package onnxruntime-webgpu), through Vulkan on Linux.

    Raises:
        ImportError: this onnxruntime has no such provider.
        RuntimeError: the provider finds no device that it can use.
    """
    import onnxruntime

    name = "WebGpuExecutionProvider"
    if name not in onnxruntime.get_available_providers():
        raise ImportError(f"this onnxruntime has no {name}: install onnxruntime-webgpu")
    session = onnxruntime.InferenceSession(str(model), providers=[name])
    if name not in session.get_providers():  # it fell back, with a line on stderr that says why
        raise RuntimeError(f"WebGPU has no device: the session runs on {session.get_providers()}")
    feed = {session.get_inputs()[0].name: batch}
    return lambda: np.asarray(session.run(None, feed)[0])


def tinygrad(model: Path, batch: Array) -> Runner:
    """tinygrad with its JIT, on the device that the variable DEV names, else on OpenCL."""
    os.environ.setdefault("DEV", "CL")
    from tinygrad import Tensor, TinyJit
    from tinygrad.nn.onnx import OnnxRunner

    network = OnnxRunner(model)
    name = next(iter(network.graph_inputs))

    @TinyJit
    def call(x: Any) -> Any:
        return next(iter(network({name: x}).values())).realize()

    return lambda: np.asarray(call(Tensor(batch).realize()).numpy())
