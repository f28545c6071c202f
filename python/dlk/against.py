"""PyTorch beside dlk, in the same run: ``dlk bench --against torch``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlk.opcases import OpCase

__all__ = ["TorchResult", "torch_network", "torch_op"]

Array = NDArray[Any]


class TorchResult:
    """A function in PyTorch on CUDA, else on the CPU.

    Attributes:
        device: ``"cuda"`` or ``"cpu"``.
        median_ms: host memory in to host memory out; median.
        pipelined_ms: 30 resident runs and one wait, per run; median.
        output: the result, in host memory as float32.
    """

    def __init__(self, function: Callable[[Any], Any], x: Array, dtype: str) -> None:
        import torch

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        kind = getattr(torch, dtype)
        host = torch.from_numpy(x).to(kind)
        resident = host.to(self.device)
        self._torch, self._function = torch, function
        with torch.inference_mode():
            self.output = np.asarray(function(resident).float().cpu())
            self.median_ms = self._median(lambda: function(host.to(self.device)).cpu(), 50)
            self.pipelined_ms = self._median(lambda: self._queued(resident), 5) / 30

    def _queued(self, x: Any) -> None:
        for _ in range(30 if self.device == "cuda" else 1):
            self._function(x)
        if self.device == "cuda":
            self._torch.cuda.synchronize()
        else:  # nothing is queued on the CPU
            for _ in range(29):
                self._function(x)

    @staticmethod
    def _median(action: Callable[[], Any], most: int) -> float:
        action()
        times: list[float] = []
        start = time.perf_counter()
        while len(times) < 3 or (len(times) < most and time.perf_counter() - start < 3):
            before = time.perf_counter()
            action()
            times.append((time.perf_counter() - before) * 1e3)
        return statistics.median(times)


def torch_op(case: OpCase, dtype: str) -> TorchResult:
    """The same operator with the same weights. TF32 is off; integers are products in float16."""
    import torch

    dtype = "float16" if dtype == "int8" else dtype

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = getattr(torch, dtype)
    weights = {k: torch.from_numpy(v).to(device, kind) for k, v in case.weights.items()}
    if case.name == "gemm":
        return TorchResult(lambda x: x @ weights["w"], case.feeds["x"], dtype)
    if case.name == "conv":
        stride, kernel = case.sizes[5], case.sizes[4]
        return TorchResult(
            lambda x: torch.nn.functional.conv2d(
                x, weights["w"], weights["b"], stride, kernel // 2
            ),
            case.feeds["x"],
            dtype,
        )
    return TorchResult(_lstm(case, weights, device, kind), case.feeds["x"], dtype)


def _lstm(case: OpCase, weights: dict[str, Any], device: str, kind: Any) -> Callable[[Any], Any]:
    import torch

    _, _, inputs, hidden = case.sizes
    module: Any = torch.nn.LSTM(inputs, hidden).to(device, kind).eval()

    def reordered(value: Any) -> Any:
        """ONNX keeps the gates as i, o, f, c; PyTorch as i, f, c, o."""
        i, o, f, c = value.chunk(4)
        return torch.cat([i, f, c, o])

    bias = weights["b"][0]
    with torch.no_grad():
        module.weight_ih_l0.copy_(reordered(weights["w"][0]))
        module.weight_hh_l0.copy_(reordered(weights["r"][0]))
        module.bias_ih_l0.copy_(reordered(bias[: 4 * hidden]))
        module.bias_hh_l0.copy_(reordered(bias[4 * hidden :]))
    # ONNX: (steps, directions, batch, hidden).
    return lambda x: module(x)[0].unsqueeze(1)


def torch_network(name: str, graph: Any, x: Array, dtype: str) -> TorchResult:
    """A torchvision network with the weights of a zoo graph.

    Raises:
        ValueError: torchvision has no such network, or its parameters have other names.
    """
    import torch

    try:
        import torchvision  # type: ignore[import-not-found]
    except ImportError as error:
        raise ValueError("--against torch needs torchvision for networks: " + str(error)) from error
    make = getattr(torchvision.models, name, None)
    if make is None:
        raise ValueError(f"--against torch: torchvision has no network {name!r}")
    options: dict[str, Any] = {"weights": None}
    if name == "inception_v3":
        options.update(aux_logits=False, init_weights=False, transform_input=False)
    module = make(**options)
    data = {v.name: np.array(v.data) for v in graph.values if v.kind == "constant"}
    state = module.state_dict()
    wanted = [key for key in state if not key.endswith("num_batches_tracked")]
    missing = [key for key in wanted if key not in data]
    if missing:
        raise ValueError(f"--against torch: the graph has no weights {', '.join(missing[:3])}")
    module.load_state_dict(
        {k: torch.from_numpy(data[k]).reshape(state[k].shape) for k in wanted}, strict=False
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = module.eval().to(device, getattr(torch, dtype))
    return TorchResult(module, x, dtype)
