"""Other engines, running the same network with the same weights.

Each peer takes a dlk graph from the zoo and an input batch and gives a function that runs it. The
ONNX file that onnxruntime reads is written from the graph itself, whose operators are ONNX's.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from dlk.bench import QUEUED
from numpy.typing import NDArray

Array = NDArray[Any]
OPSET = 21


def to_onnx(graph: Any, dtype: str = "float32", shape: tuple[int, ...] | None = None) -> bytes:
    """The graph as an ONNX model (float networks without subgraphs, as the zoo has them).

    With `dtype` "float16" weights and all between the input and the output are in float16; with
    `shape` the input has that shape, without symbols.
    """
    import onnx
    from onnx import helper, numpy_helper

    half = dtype == "float16"
    names = {v.id: v.name for v in graph.values}
    ends = {v.name for v in (*graph.inputs, *graph.outputs)} if half else set()
    names = {key: f"{name}:half" if name in ends else name for key, name in names.items()}
    kinds = {"float32": onnx.TensorProto.FLOAT, "int64": onnx.TensorProto.INT64}

    def info(value: Any, name: str) -> Any:
        return helper.make_tensor_value_info(name, kinds[value.dtype], shape or value.shape)

    def weights(value: Any) -> Array:
        data = np.array(value.data)
        return data.astype(np.float16) if half and data.dtype == np.float32 else data

    def cast(source: str, target: str, kind: int) -> Any:
        return helper.make_node("Cast", [source], [target], to=kind)

    nodes = [
        helper.make_node(
            n.op,
            ["" if i is None else names[i] for i in n.inputs],
            ["" if o is None else names[o] for o in n.outputs],
            name=n.name,
            domain=n.domain,
            **n.attributes,
        )
        for n in (graph.nodes[i] for i in graph.topological_order())
    ]
    if half:
        nodes = [
            *(cast(v.name, f"{v.name}:half", onnx.TensorProto.FLOAT16) for v in graph.inputs),
            *nodes,
            *(cast(f"{v.name}:half", v.name, onnx.TensorProto.FLOAT) for v in graph.outputs),
        ]
    constants = [
        numpy_helper.from_array(weights(v), names[v.id])
        for v in graph.values
        if v.kind == "constant"
    ]
    outputs = [helper.make_tensor_value_info(v.name, kinds[v.dtype], None) for v in graph.outputs]
    body = helper.make_graph(
        nodes, "dlk", [info(v, v.name) for v in graph.inputs], outputs, constants
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    return bytes(model.SerializeToString())


def onnxruntime_cpu(model: bytes, batch: Array, threads: int) -> Callable[[], Array]:
    """An ONNX model, host in to host out on onnxruntime's CPU provider."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: batch}
    return lambda: np.asarray(session.run(None, feed)[0])


def torch_cpu(name: str, graph: Any, batch: Array, threads: int) -> Callable[[], Array]:
    """The network in eager PyTorch on the CPU, float32."""
    import torch

    torch.set_num_threads(threads)
    module = _torchvision(name)
    load_weights(module, graph)
    module = module.eval().to(memory_format=torch.channels_last)

    def run() -> Array:
        with torch.inference_mode():
            x = torch.from_numpy(batch).to(memory_format=torch.channels_last)
            return np.asarray(module(x))

    return run


class TorchGpu:
    """A torchvision network with the zoo's weights on CUDA, as a CUDA graph (cuDNN tuned).

    `mode`: "fp32" (no TF32), "tf32", or "fp16" (NHWC).
    """

    def __init__(self, name: str, graph: Any, batch: Array, mode: str) -> None:
        import torch

        if not torch.cuda.is_available():
            raise RuntimeError("PyTorch has no CUDA device")
        self.torch = torch
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = mode != "fp32"
        torch.backends.cudnn.allow_tf32 = mode != "fp32"
        module = _torchvision(name)
        load_weights(module, graph)
        module = module.eval().cuda()
        self.input = torch.from_numpy(batch).cuda()
        if mode == "fp16":
            module = module.half().to(memory_format=torch.channels_last)
            self.input = self.input.half().to(memory_format=torch.channels_last)
        self.module = module
        self.replay = self._capture()

    def _capture(self) -> Any:
        torch = self.torch
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.inference_mode(), torch.cuda.stream(stream):
            for _ in range(4):
                self.module(self.input)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph):
            self.output = self.module(self.input)
        return graph.replay

    def result(self) -> Array:
        self.replay()
        self.torch.cuda.synchronize()
        return np.asarray(self.output.float().cpu())

    def queued(self) -> None:
        """Resident replays, as many as dlk queues, and one wait: for `dlk.bench.in_turn`."""
        for _ in range(QUEUED):
            self.replay()
        self.torch.cuda.synchronize()

    def median_ms(self, runs: int = 50) -> float:
        """Host in to host out, waited for; median."""
        host = self.input.cpu().pin_memory()
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            self.input.copy_(host, non_blocking=True)
            self.replay()
            self.output.cpu()
            times.append(time.perf_counter() - start)
        return float(np.median(times) * 1e3)


def _load_twins() -> dict[str, Any]:
    """By path: other packages of the machine may be named "tests"."""
    path = Path(__file__).resolve().parents[1] / "tests" / "models" / "twins.py"
    spec = importlib.util.spec_from_file_location("dlk_benchmark_twins", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return dict(module.TWINS)


def _torchvision(name: str) -> Any:
    """The network of torchvision, or where it has none the twin that the tests compare with."""
    try:
        from torchvision import models
    except ImportError:
        models = None
    if not hasattr(models, name):
        twins = _load_twins()
        if name not in twins:
            raise ValueError(f"neither torchvision nor tests/models/twins.py has {name}")
        return twins[name](1000)
    options: dict[str, Any] = {"weights": None}
    if name == "inception_v3":
        options.update(aux_logits=False, init_weights=False, transform_input=False)
    return getattr(models, name)(**options)


def load_weights(module: Any, graph: Any) -> None:
    """Copies the zoo network's constants into a torch module by name.

    Raises:
        KeyError: a parameter of the module is not in the graph.
    """
    import torch

    data = {v.name: np.array(v.data) for v in graph.values if v.kind == "constant"}
    state = {
        name: torch.from_numpy(data[name]).reshape(tensor.shape)
        for name, tensor in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    module.load_state_dict(state, strict=False)
