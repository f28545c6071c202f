"""PyTorch beside dlk, in the same run: ``dlk bench --against torch``.

Queued runs of both are timed in turn (`dlk.bench.in_turn`), so that they meet the same clocks:
`beside` is dlk's side of that, from `dlk.bench.queued_runs` or `queued_steps`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlk.bench import QUEUED, in_turn
from dlk.opcases import OpCase

__all__ = ["TorchResult", "torch_network", "torch_op", "torch_training"]

Array = NDArray[Any]


class TorchResult:
    """A function in PyTorch on CUDA, else on the CPU.

    Attributes:
        device: ``"cuda"`` or ``"cpu"``.
        median_ms: host memory in to host memory out; median.
        pipelined_ms: 30 resident runs and one wait, per run; median of rounds in turn with dlk's.
        beside_ms: those of dlk, per run.
        output: the result, in host memory as float32.
    """

    def __init__(
        self, function: Callable[[Any], Any], x: Array, dtype: str, beside: Callable[[], None]
    ) -> None:
        import torch

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        kind = getattr(torch, dtype)
        host = torch.from_numpy(x).to(kind)
        resident = host.to(self.device)
        self._torch, self._function = torch, function
        with torch.inference_mode():
            self.output = np.asarray(function(resident).float().cpu())
            (self.median_ms,) = in_turn([lambda: function(host.to(self.device)).cpu()], 3.0, 50)
            each = in_turn([beside, lambda: self._queued(resident)])
        self.beside_ms, self.pipelined_ms = (ms / QUEUED for ms in each)

    def _queued(self, x: Any) -> None:
        for _ in range(QUEUED):
            self._function(x)
        if self.device == "cuda":  # nothing is queued on the CPU
            self._torch.cuda.synchronize()


def torch_op(case: OpCase, dtype: str, beside: Callable[[], None]) -> TorchResult:
    """The same operator with the same weights. TF32 is off; integers are products in float16."""
    import torch

    dtype = "float16" if dtype == "int8" else dtype

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = getattr(torch, dtype)
    weights = {k: torch.from_numpy(v).to(device, kind) for k, v in case.weights.items()}
    if case.name == "gemm":
        return TorchResult(lambda x: x @ weights["w"], case.feeds["x"], dtype, beside)
    if case.name == "conv":
        stride, kernel = case.sizes[5], case.sizes[4]
        return TorchResult(
            lambda x: torch.nn.functional.conv2d(
                x, weights["w"], weights.get("b"), stride, kernel // 2
            ),
            case.feeds["x"],
            dtype,
            beside,
        )
    return TorchResult(_lstm(case, weights, device, kind), case.feeds["x"], dtype, beside)


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


def torch_network(
    name: str, graph: Any, x: Array, dtype: str, beside: Callable[[], None]
) -> TorchResult:
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
    return TorchResult(module, x, dtype, beside)


def torch_training(
    net: Any, arrays: Sequence[Array], dtype: str, beside: Callable[[], None] | None = None
) -> dict[str, Any]:
    """A training step of the same network, weights and batch in PyTorch: SGD with momentum, and
    automatic mixed precision with a gradient scaler and channels innermost for float16; no TF32.

    Args:
        net: a `dlk.nn.Imported` with one result: (N, classes), compared with the labels that are
            the last of `arrays`, or another, compared with zeros.
        dtype: ``"float32"`` or ``"float16"``.

    Returns:
        device, median_ms (host batch, waited for), loss (the first step's), and with `beside`
        pipelined_ms (30 resident steps and one wait, per step; median of rounds in turn with
        dlk's) and beside_ms (those of dlk).
    """
    import torch

    from dlk.torch_graph import torch_module

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    where = "cuda" if torch.cuda.is_available() else "cpu"
    half, count = dtype == "float16", len(net.graph.inputs)
    module = torch_module(net).to(where)
    host = [torch.from_numpy(a) for a in arrays]
    if half and all(x.dim() == 4 for x in host[:count]):
        module = module.to(memory_format=torch.channels_last)
        host[:count] = [x.to(memory_format=torch.channels_last) for x in host[:count]]
    resident = [x.to(where) for x in host]
    optimizer = torch.optim.SGD(module.parameters(), 0.001, momentum=0.9)
    scaler = torch.amp.GradScaler(where, enabled=half)
    losses: list[Any] = []

    def step(batch: list[Any]) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(where, torch.float16, enabled=half):
            y = module(*batch[:count])
            labels = batch[count:]
            loss = (
                torch.nn.functional.cross_entropy(y, labels[0].long())
                if labels
                else y.float().square().mean()
            )
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses[1:] = [loss.detach()]

    def waited() -> None:
        step([x.to(where) for x in host])
        losses[-1].item()

    def queued() -> None:
        for _ in range(QUEUED):
            step(resident)
        losses[-1].item()

    waited()
    found: dict[str, Any] = {"version": torch.__version__, "device": where}
    found["loss"] = float(losses[0])
    (found["median_ms"],) = in_turn([waited], 3.0, 50)
    if beside is not None:
        ours, theirs = in_turn([beside, queued])
        found.update(pipelined_ms=theirs / QUEUED, beside_ms=ours / QUEUED)
    return found
