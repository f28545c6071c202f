"""Operators of chosen sizes as one-node graphs, for ``dlk bench op:NAME:SIZES``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlk import _core

__all__ = ["CASES", "OpCase", "op_case"]

Array = NDArray[Any]


@dataclass(frozen=True)
class OpCase:
    """A graph of one operator with its inputs.

    Attributes:
        name: ``"gemm"``, ``"conv"`` or ``"lstm"``.
        sizes: as they were asked for.
        graph: inputs are those of `feeds`, in its order; weights are constants.
        feeds: random normals, by input name.
        weights: the constants, by name.
        flops: multiplications and additions of one run.
        bytes: of inputs, weights and outputs, each counted once.
    """

    name: str
    sizes: tuple[int, ...]
    graph: _core.Graph
    feeds: dict[str, Array]
    weights: dict[str, Array]
    flops: float
    bytes: float


def _normals(*shape: int, scale: float = 1.0, seed: int = 0) -> Array:
    values = np.random.default_rng((seed, *shape)).standard_normal(shape) * scale
    return values.astype(np.float32)


def _stored(dtype: str) -> np.dtype[Any]:
    if dtype != "bfloat16":
        return np.dtype(dtype)
    try:
        import ml_dtypes
    except ImportError as error:
        raise ValueError("bfloat16 cases need the package ml_dtypes") from error
    stored: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return stored


def _case(
    name: str, sizes: Sequence[int], op: str, x: Array, weights: dict[str, Array],
    flops: float, outputs: int, attributes: dict[str, Any], dtype: str,
) -> OpCase:  # fmt: skip
    graph = _core.Graph()
    stored = _stored(dtype)
    x = x.astype(stored)
    weights = {key: value.astype(stored) for key, value in weights.items()}
    inputs = [graph.add_input("x", dtype, list(x.shape))]
    inputs += [graph.add_constant(key, value) for key, value in weights.items()]
    graph.add_output(graph.add_node(op, inputs, attributes)[0], "y")
    moved = x.nbytes + sum(value.nbytes for value in weights.values()) + x.itemsize * outputs
    return OpCase(name, tuple(sizes), graph, {"x": x}, weights, flops, moved)


def _gemm(m: int, n: int, k: int, *, dtype: str) -> OpCase:
    if dtype == "int8":  # small, so that PyTorch's float16 holds the sums
        return _case(
            "gemm", (m, n, k), "MatMulInteger", _normals(m, k, scale=4.0),
            {"w": _normals(k, n, scale=4.0, seed=1)}, 2.0 * m * n * k, m * n, {}, dtype,
        )  # fmt: skip
    weights = {"w": _normals(k, n, scale=k**-0.5, seed=1)}
    return _case(
        "gemm", (m, n, k), "MatMul", _normals(m, k), weights, 2.0 * m * n * k, m * n, {}, dtype
    )


def _conv(
    batch: int, cin: int, size: int, cout: int, kernel: int, stride: int, *, dtype: str
) -> OpCase:
    pad, depth = kernel // 2, cin * kernel * kernel
    out = (size + 2 * pad - kernel) // stride + 1
    sizes, outputs = (batch, cin, size, cout, kernel, stride), batch * cout * out * out
    window = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
    if dtype == "int8":
        return _case(
            "conv", sizes, "ConvInteger", _normals(batch, cin, size, size, scale=4.0),
            {"w": _normals(cout, cin, kernel, kernel, scale=4.0, seed=1)},
            2.0 * outputs * depth, outputs, window, dtype,
        )  # fmt: skip
    weights = {
        "w": _normals(cout, cin, kernel, kernel, scale=depth**-0.5, seed=1),
        "b": _normals(cout, seed=2),
    }
    return _case(
        "conv", sizes, "Conv", _normals(batch, cin, size, size), weights,
        2.0 * outputs * depth, outputs, window, dtype,
    )  # fmt: skip


def _lstm(batch: int, steps: int, inputs: int, hidden: int, *, dtype: str) -> OpCase:
    weights = {
        "w": _normals(1, 4 * hidden, inputs, scale=inputs**-0.5, seed=1),
        "r": _normals(1, 4 * hidden, hidden, scale=hidden**-0.5, seed=2),
        "b": _normals(1, 8 * hidden, scale=0.1, seed=3),
    }
    flops = 8.0 * steps * batch * hidden * (inputs + hidden)
    return _case(
        "lstm", (batch, steps, inputs, hidden), "LSTM", _normals(steps, batch, inputs), weights,
        flops, steps * batch * hidden, {"hidden_size": hidden}, dtype,
    )  # fmt: skip


CASES: dict[str, tuple[Callable[..., OpCase], tuple[str, ...], tuple[int, ...]]] = {
    "gemm": (_gemm, ("m", "n", "k"), (1024, 1024, 1024)),
    "conv": (
        _conv,
        ("batch", "channels", "size", "filters", "kernel", "stride"),
        (1, 64, 56, 64, 3, 1),
    ),
    "lstm": (_lstm, ("batch", "steps", "inputs", "hidden"), (32, 20, 64, 200)),
}
"""Name: what makes the case, the names of its sizes, and their defaults."""


def op_case(spec: str, dtype: str = "float32") -> OpCase:
    """The case of ``"gemm"``, ``"gemm:512"`` (all sizes) or ``"conv:1,64,56,64,3,1"``.

    Inputs and weights are of `dtype`, ``"float32"`` or ``"float16"``; of a product or a convolution
    also ``"bfloat16"``, or ``"int8"``, whose result is int32.

    Raises:
        ValueError: an unknown name, or sizes that do not fit; the message says what would.
    """
    name, _, rest = spec.partition(":")
    if name not in CASES:
        raise ValueError(f"op:{name}: no such case; there are {', '.join(CASES)}")
    make, names, sizes = CASES[name]
    if rest:
        parts = rest.split(",")
        if name == "gemm" and len(parts) == 1:
            parts *= 3
        wrong = len(parts) != len(names) or not all(p.isdigit() and int(p) > 0 for p in parts)
        if wrong:
            raise ValueError(f"op:{spec}: give {','.join(names)} as positive integers")
        sizes = tuple(int(p) for p in parts)
    return make(*sizes, dtype=dtype)
