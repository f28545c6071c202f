"""A graph as a PyTorch module: the peer of ``dlk bench MODEL --train --against torch``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dlk.nn.imported import Imported

__all__ = ["torch_module"]

Attributes = Mapping[str, Any]


def _padded(x: Any, pads: list[int], value: float) -> tuple[Any, list[int]]:
    """What is left to a torch function that pads both sides alike."""
    import torch

    half = len(pads) // 2
    if pads[:half] == pads[half:]:
        return x, pads[:half]
    sides = [p for i in reversed(range(half)) for p in (pads[i], pads[i + half])]
    return torch.nn.functional.pad(x, sides, value=value), [0] * half


def _window(a: Attributes, rank: int) -> tuple[list[int], list[int], list[int]]:
    if a.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise ValueError("--against torch: auto_pad has no counterpart in PyTorch")
    ones = [1] * rank
    return (
        list(a.get("strides", ones)),
        list(a.get("dilations", ones)),
        list(a.get("pads", [0] * 2 * rank)),
    )


def _conv(a: Attributes, x: Any, w: Any, b: Any = None) -> Any:
    import torch

    rank = x.dim() - 2
    strides, dilations, pads = _window(a, rank)
    x, pad = _padded(x, pads, 0.0)
    conv: Any = getattr(torch.nn.functional, f"conv{rank}d")
    return conv(x, w, b, strides, pad, dilations, a.get("group", 1))


def _max_pool(a: Attributes, x: Any) -> Any:
    import torch

    rank = x.dim() - 2
    strides, dilations, pads = _window(a, rank)
    x, pad = _padded(x, pads, -float("inf"))
    pool: Any = getattr(torch.nn.functional, f"max_pool{rank}d")
    return pool(x, a["kernel_shape"], strides, pad, dilations, bool(a.get("ceil_mode", 0)))


def _average_pool(a: Attributes, x: Any) -> Any:
    import torch

    rank = x.dim() - 2
    strides, _, pads = _window(a, rank)
    if pads[:rank] != pads[rank:]:
        raise ValueError("--against torch: an average pool with unequal pads")
    pool: Any = getattr(torch.nn.functional, f"avg_pool{rank}d")
    whole = bool(a.get("count_include_pad", 0))
    return pool(x, a["kernel_shape"], strides, pads[:rank], bool(a.get("ceil_mode", 0)), whole)


def _batch_norm(a: Attributes, x: Any, scale: Any, shift: Any, mean: Any, variance: Any) -> Any:
    import torch

    momentum = 1.0 - a.get("momentum", 0.9)
    return torch.nn.functional.batch_norm(
        x, mean, variance, scale, shift, True, momentum, a.get("epsilon", 1e-5)
    )


def _gemm(a: Attributes, x: Any, w: Any, c: Any = None) -> Any:
    x, w = (x.t() if a.get("transA", 0) else x), (w.t() if a.get("transB", 0) else w)
    y = a.get("alpha", 1.0) * (x @ w) if a.get("alpha", 1.0) != 1.0 else x @ w
    return y if c is None else y + a.get("beta", 1.0) * c if a.get("beta", 1.0) != 1.0 else y + c


def _reshape(a: Attributes, x: Any, shape: Any) -> Any:  # noqa: ARG001
    return x.reshape([x.shape[i] if d == 0 else int(d) for i, d in enumerate(shape.tolist())])


def _operators() -> dict[str, Callable[..., Any]]:
    import torch

    f = torch.nn.functional

    def mean(a: Attributes, x: Any, axes: Any = None) -> Any:
        wanted = a.get("axes") if axes is None else axes.tolist()
        return x.mean(wanted, keepdim=bool(a.get("keepdims", 1)))

    return {
        "Conv": _conv, "MaxPool": _max_pool, "AveragePool": _average_pool,
        "BatchNormalization": _batch_norm, "Gemm": _gemm, "Reshape": _reshape,
        "MatMul": lambda _, x, y: x @ y,
        "GlobalAveragePool": lambda _, x: x.mean(tuple(range(2, x.dim())), keepdim=True),
        "Flatten": lambda a, x: x.flatten(a.get("axis", 1)),
        "Relu": lambda _, x: f.relu(x), "Sigmoid": lambda _, x: x.sigmoid(),
        "Tanh": lambda _, x: x.tanh(), "Identity": lambda _, x: x,
        "HardSwish": lambda _, x: f.hardswish(x), "Erf": lambda _, x: x.erf(),
        "LeakyRelu": lambda a, x: f.leaky_relu(x, a.get("alpha", 0.01)),
        "Add": lambda _, x, y: x + y, "Sub": lambda _, x, y: x - y,
        "Mul": lambda _, x, y: x * y, "Div": lambda _, x, y: x / y,
        "Clip": lambda _, x, low=None, high=None: x.clamp(low, high),
        "Concat": lambda a, *x: torch.cat(x, a["axis"]),
        "Transpose": lambda a, x: x.permute(a["perm"]),
        "Softmax": lambda a, x: x.softmax(a.get("axis", -1)),
        "Dropout": lambda _, x, ratio=None, *__: f.dropout(
            x, 0.5 if ratio is None else float(ratio), True
        ),
        "LRN": lambda a, x: f.local_response_norm(
            x, a["size"], a.get("alpha", 1e-4), a.get("beta", 0.75), a.get("bias", 1.0)
        ),
        "ReduceMean": mean,
    }  # fmt: skip


def torch_module(net: Imported) -> Any:
    """The network in PyTorch with the same weights, in training: a `torch.nn.Module` of as many
    inputs.

    Raises:
        ValueError: an operator that is not written in PyTorch here.
    """
    import torch

    known = _operators()
    for node in net._nodes:
        if node.domain or node.op not in known or len(node.outputs) > 1 + (node.op == "Dropout"):
            raise ValueError(f"--against torch: {node.op} ({node.name}) is not translated to torch")

    class Network(torch.nn.Module):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.leaves: dict[int, str] = {}
            self.numbers: dict[int | None, Any] = {}  # on the host, where no step waits for them
            for node in net._nodes:
                for number in node.inputs:
                    if number is not None:
                        self._adopt(number)

        def _adopt(self, number: int) -> None:
            weight, value = net._weights.get(number), net._values[number]
            data = value.data if weight is None else weight.value
            if number in self.leaves or data is None:
                return
            tensor = torch.from_numpy(np.array(data))
            if tensor.dim() == 0 or not tensor.is_floating_point():
                self.numbers[number] = tensor
                return
            name = self.leaves[number] = f"v{number}"
            if weight is not None and weight.trainable:
                self.register_parameter(name, torch.nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)

        def forward(self, *inputs: Any) -> Any:
            values = dict(self.numbers)
            values.update((v.id, x) for v, x in zip(net.graph.inputs, inputs, strict=True))
            values.update({number: getattr(self, name) for number, name in self.leaves.items()})
            for node in net._nodes:
                given = [None if i is None else values[i] for i in node.inputs]
                values[node.outputs[0]] = known[node.op](node.attributes, *given)
            return values[net.outputs[0]]

    return Network().train()
