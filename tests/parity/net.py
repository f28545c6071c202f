"""Builds a graph and its NumPy float64 result side by side, for tests of whole graphs.

Every method adds one node and computes the same in NumPy, independently of dlk::

    net = Net(seed=1)
    x = net.input(2, 8, 9, 9)
    net.output(net.relu(net.conv(x, 16, 3, pad=1)))
    check(net, device, {"fuse": False})
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .case import Array, ints
from .cases._windows import convolve, convolve_transposed, windows


@dataclass(frozen=True)
class Tensor:
    """A value of the graph, and what it should be."""

    id: int
    data: Array


class Net:
    def __init__(self, seed: int = 0) -> None:
        from dlk import _core

        self.graph = _core.Graph()
        self.rng = np.random.default_rng(seed)
        self.feeds: dict[str, Array] = {}
        self.wanted: dict[str, Array] = {}
        self._names = 0

    def _name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}{self._names}"

    def input(self, *shape: int, data: Array | None = None, dims: Sequence[Any] = ()) -> Tensor:
        """A float32 input of random normals; `dims` declares it otherwise (symbols)."""
        if data is None:
            data = self.rng.standard_normal(shape).astype(np.float32)
        name = self._name("x")
        self.feeds[name] = data
        shape_declared = list(dims) or list(data.shape)
        return Tensor(self.graph.add_input(name, str(data.dtype), shape_declared), _wide(data))

    def constant(self, array: Array) -> Tensor:
        """Floats become float32."""
        array = np.asarray(array)
        stored = array.astype(np.float32) if array.dtype.kind == "f" else array
        return Tensor(self.graph.add_constant(self._name("c"), stored), _wide(stored))

    def random(self, *shape: int, scale: float = 1.0) -> Tensor:
        return self.constant(self.rng.standard_normal(shape) * scale)

    def output(self, tensor: Tensor, name: str = "") -> str:
        name = name or self._name("y")
        self.graph.add_output(tensor.id, name)
        self.wanted[name] = tensor.data
        return name

    def node(
        self, op: str, inputs: Sequence[Tensor | None], data: Array, **attributes: Any
    ) -> Tensor:
        ids = [None if t is None else t.id for t in inputs]
        return Tensor(self.graph.add_node(op, ids, attributes)[0], np.asarray(data))

    def apply(self, op: str, function: Callable[..., Any], *inputs: Tensor, **attrs: Any) -> Tensor:
        """A pointwise operator given by its NumPy function."""
        with np.errstate(all="ignore"):
            return self.node(op, inputs, function(*(t.data for t in inputs)), **attrs)

    def relu(self, x: Tensor) -> Tensor:
        return self.apply("Relu", lambda a: np.maximum(a, 0), x)

    def sigmoid(self, x: Tensor) -> Tensor:
        return self.apply("Sigmoid", lambda a: 1 / (1 + np.exp(-a)), x)

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        return self.apply("Add", np.add, a, b)

    def mul(self, a: Tensor, b: Tensor) -> Tensor:
        return self.apply("Mul", np.multiply, a, b)

    def conv(
        self,
        x: Tensor,
        channels: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        pad: int = 0,
        groups: int = 1,
        bias: bool = True,
        weights: Tensor | None = None,
    ) -> Tensor:
        size_in = x.data.shape[1] // groups
        if weights is None:
            scale = (size_in * kernel * kernel) ** -0.5
            weights = self.random(channels, size_in, kernel, kernel, scale=scale)
        b = self.random(channels) if bias else None
        y = convolve(
            x.data,
            weights.data,
            None if b is None else b.data,
            [stride] * 2,
            [1, 1],
            [(pad, pad)] * 2,
            groups,
        )
        return self.node(
            "Conv",
            [x, weights, b],
            y,
            strides=[stride] * 2,
            pads=[pad] * 4,
            group=groups,
            kernel_shape=[kernel] * 2,
        )

    def conv_transposed(self, x: Tensor, channels: int, kernel: int, stride: int) -> Tensor:
        w = self.random(x.data.shape[1], channels, kernel, kernel, scale=0.2)
        size = [(n - 1) * stride + kernel for n in x.data.shape[2:]]
        y = convolve_transposed(x.data, w.data, None, [stride] * 2, [1, 1], [0, 0], size)
        return self.node("ConvTranspose", [x, w], y, strides=[stride] * 2)

    def batch_norm(self, x: Tensor) -> Tensor:
        channels = x.data.shape[1]
        scale, shift, mean = (self.random(channels) for _ in range(3))
        variance = self.constant(self.rng.uniform(0.5, 2.0, channels))
        a, b, m, v = (
            t.data.reshape(-1, *[1] * (x.data.ndim - 2)) for t in (scale, shift, mean, variance)
        )
        y = (x.data - m) / np.sqrt(v + 1e-5) * a + b
        return self.node("BatchNormalization", [x, scale, shift, mean, variance], y, epsilon=1e-5)

    def max_pool(self, x: Tensor, kernel: int, stride: int, pad: int = 0) -> Tensor:
        size = [(n + 2 * pad - kernel) // stride + 1 for n in x.data.shape[2:]]
        taps = windows(x.data, [kernel] * 2, [stride] * 2, [1, 1], [(pad, pad)] * 2, size, -np.inf)
        return self.node(
            "MaxPool",
            [x],
            taps.max(0),
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[pad] * 4,
        )

    def average_all(self, x: Tensor) -> Tensor:
        return self.node("GlobalAveragePool", [x], x.data.mean((2, 3), keepdims=True))

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        return self.node("MatMul", [a, b], a.data @ b.data)

    def softmax(self, x: Tensor, axis: int = -1) -> Tensor:
        e = np.exp(x.data - x.data.max(axis, keepdims=True))
        return self.node("Softmax", [x], e / e.sum(axis, keepdims=True), axis=axis)

    def concat(self, tensors: Sequence[Tensor], axis: int) -> Tensor:
        return self.node(
            "Concat", tensors, np.concatenate([t.data for t in tensors], axis), axis=axis
        )

    def slice(self, x: Tensor, *index: slice) -> Tensor:
        parts = [s.indices(n) for s, n in zip(index, x.data.shape, strict=False)]
        # A stop of -1 after a step back means before the first element.
        ends = [-(2**31) if step < 0 and stop < 0 else stop for start, stop, step in parts]
        constants = [
            self.constant(ints(*(p[0] for p in parts))),
            self.constant(ints(*ends)),
            self.constant(ints(*range(len(parts)))),
            self.constant(ints(*(p[2] for p in parts))),
        ]
        return self.node("Slice", [x, *constants], x.data[index])

    def transpose(self, x: Tensor, *perm: int) -> Tensor:
        return self.node("Transpose", [x], x.data.transpose(perm), perm=("ints", list(perm)))

    def reshape(self, x: Tensor, *shape: int) -> Tensor:
        """0 is a size, not an axis to copy."""
        to = self.constant(ints(*shape))
        return self.node("Reshape", [x, to], x.data.reshape(shape), allowzero=1)

    def expand(self, x: Tensor, *shape: int) -> Tensor:
        data = np.broadcast_to(x.data, np.broadcast_shapes(x.data.shape, shape))
        return self.node("Expand", [x, self.constant(ints(*shape))], data)

    def reduce(self, op: str, x: Tensor, axes: Sequence[int], keepdims: bool) -> Tensor:
        function = {"ReduceSum": np.sum, "ReduceMean": np.mean, "ReduceMax": np.max}[op]
        data = function(x.data, axis=tuple(axes), keepdims=keepdims)
        return self.node(op, [x, self.constant(ints(*axes))], data, keepdims=int(keepdims))


def _wide(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "guards": {"guards": True},
    "unfused": {"fuse": False},
    "no views": {"alias": False},
    "channels first": {"channels_last": False},
    "plain": {"fuse": False, "alias": False, "channels_last": False, "guards": True},
    "one in flight": {"in_flight": 1},
    "three in flight": {"in_flight": 3},
}
"""Ways to compile a model that must all give the same numbers."""


def compare(got: Mapping[str, Array], wanted: Mapping[str, Array], what: str, bound: float) -> None:
    """max|a-b| / max|b| of every output, NaN and infinities where they belong."""
    assert set(got) == set(wanted), what
    for name, want in wanted.items():
        result = got[name]
        assert result.shape == want.shape, f"{what}: {name}: {result.shape}, not {want.shape}"
        if want.size == 0:
            continue
        finite = np.isfinite(want)
        np.testing.assert_array_equal(result[~finite], want[~finite], f"{what}: {name}")
        if not finite.any():
            continue
        error = np.abs(result[finite].astype(np.float64) - want[finite]).max()
        scale = max(float(np.abs(want[finite]).max()), 1e-30)
        assert error <= bound * scale, f"{what}: {name} is off by {error / scale:.3g}"


def check(
    net: Net,
    device: Any,
    options: Mapping[str, Any] | None = None,
    what: str = "",
    bound: float = 2e-5,
) -> Any:
    """Runs the graph three times, two of them at once, against NumPy; returns the plan."""
    from dlk import _core

    model = _core.Model(net.graph, device, **(options or {}))
    session = model.create_session()
    compare(session.run(net.feeds), net.wanted, what, bound)
    runs = [session.run_async(net.feeds) for _ in range(2)]
    for run in runs:
        compare({name: run.read(name) for name in net.wanted}, net.wanted, f"{what}, again", bound)
    return model.plan(net.feeds)
