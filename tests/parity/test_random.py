"""Random graphs and shapes by hypothesis, always the same ones (derandomized), against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..conftest import device_ids, open_device
from .net import Net, Tensor, check

DEVICES = pytest.mark.parametrize("device_name", device_ids())


def examples(count: int) -> Any:
    return settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


UNARY: dict[str, Any] = {
    "Abs": np.abs,
    "Neg": np.negative,
    "Relu": lambda a: np.maximum(a, 0),
    "Sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "Tanh": np.tanh,
    "Softsign": lambda a: a / (1 + np.abs(a)),
    "Sin": np.sin,
    "LeakyRelu": lambda a: np.where(a < 0, 0.01 * a, a),
}
BINARY: dict[str, Any] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Max": np.maximum,
    "Min": np.minimum,
}


def _broadcastable(draw: Any, shape: list[int]) -> list[int]:
    """`shape` with some sizes 1 and some leading axes gone."""
    kept = [1 if draw(st.booleans()) and draw(st.booleans()) else n for n in shape]
    return kept[draw(st.integers(0, len(kept))) if draw(st.booleans()) else 0 :]


@st.composite
def pointwise_graphs(draw: Any) -> Net:
    net = Net(draw(st.integers(0, 10**6)))
    shape = draw(st.lists(st.integers(1, 6), max_size=5))
    values: list[Tensor] = [net.input(*shape)]
    for _ in range(draw(st.integers(0, 2))):
        values.append(net.input(*_broadcastable(draw, shape)))
    for _ in range(draw(st.integers(0, 2))):
        values.append(net.random(*_broadcastable(draw, shape)))
    for _ in range(draw(st.integers(1, 12))):
        pick = [values[draw(st.integers(0, len(values) - 1))] for _ in range(3)]
        kind = draw(st.sampled_from(["unary", "binary", "binary", "where"]))
        if kind == "unary":
            op = draw(st.sampled_from(sorted(UNARY)))
            made = net.apply(op, UNARY[op], pick[0])
        elif kind == "binary":
            op = draw(st.sampled_from(sorted(BINARY)))
            made = net.apply(op, BINARY[op], pick[0], pick[1])
        else:
            # Compared with a constant far from where values are: rounding decides nothing.
            condition = net.apply(
                "Greater", np.greater, pick[0], net.constant(np.array(-12345.678))
            )
            made = net.apply("Where", np.where, condition, pick[1], pick[2])
        values.append(net.apply("Tanh", np.tanh, made) if np.abs(made.data).max() > 50 else made)
    net.output(values[-1])
    for _ in range(draw(st.integers(0, 2))):
        net.output(values[draw(st.integers(0, len(values) - 1))])
    return net


@DEVICES
@examples(20)
@given(net=pointwise_graphs())
def test_pointwise_graphs(device_name: str, net: Net) -> None:
    device = open_device(device_name)
    check(net, device, {}, "fused")
    check(net, device, {"fuse": False, "guards": True}, "unfused")


@DEVICES
@examples(30)
@given(data=st.data())
def test_convolutions(device_name: str, data: Any) -> None:
    kernel, stride = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
    pad = data.draw(st.integers(0, kernel - 1))
    groups = data.draw(st.sampled_from([1, 1, 2, 3]))
    size = [data.draw(st.integers(kernel, 13)) for _ in range(2)]
    net = Net(1)
    channels = data.draw(st.integers(1, 9))
    x = net.input(data.draw(st.integers(1, 3)), channels * groups, *size)
    made = data.draw(st.integers(1, 9)) * groups
    y = net.conv(x, made, kernel, stride=stride, pad=pad, groups=groups)
    net.output(net.relu(y) if data.draw(st.booleans()) else y)
    check(net, open_device(device_name), {"guards": True})


@DEVICES
@examples(20)
@given(data=st.data())
def test_pools(device_name: str, data: Any) -> None:
    kernel, stride = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    pad = data.draw(st.integers(0, kernel // 2))
    net = Net(2)
    x = net.input(
        *[data.draw(st.integers(1, n)) for n in (2, 9)],
        *[data.draw(st.integers(kernel, 12)) for _ in range(2)],
    )
    net.output(net.max_pool(x, kernel, stride, min(pad, kernel - 1)))
    net.output(net.average_all(x))
    check(net, open_device(device_name), {"guards": True})


@DEVICES
@examples(40)
@given(data=st.data())
def test_matrix_products(device_name: str, data: Any) -> None:
    batch = data.draw(st.lists(st.integers(1, 3), max_size=2))
    m, k, n = (data.draw(st.sampled_from([1, 2, 3, 7, 8, 16, 33, 65])) for _ in range(3))
    net = Net(3)
    a = net.input(*_broadcastable(data.draw, batch), m, k)
    shape = (*_broadcastable(data.draw, batch), k, n)
    b = net.random(*shape) if data.draw(st.booleans()) else net.input(*shape)
    y = net.matmul(a, b)
    if data.draw(st.booleans()):
        y = net.relu(net.add(y, net.random(n)))
    net.output(y)
    check(net, open_device(device_name), {"guards": True})


@DEVICES
@examples(30)
@given(data=st.data())
def test_reductions(device_name: str, data: Any) -> None:
    shape = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=5))
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    net = Net(4)
    x = net.input(*shape)
    for op in ("ReduceSum", "ReduceMean", "ReduceMax"):
        net.output(net.reduce(op, x, axes, data.draw(st.booleans())))
    check(net, open_device(device_name), {"guards": True})


@DEVICES
@examples(30)
@given(data=st.data())
def test_concats(device_name: str, data: Any) -> None:
    shape = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    axis = data.draw(st.integers(0, len(shape) - 1))
    net = Net(5)
    parts = []
    for _ in range(data.draw(st.integers(1, 5))):
        size = data.draw(st.integers(0, 5))
        part = net.input(*shape[:axis], size, *shape[axis + 1 :])
        parts.append(net.relu(part) if data.draw(st.booleans()) else part)
    joined = net.concat(parts, axis)
    net.output(joined)
    net.output(net.relu(joined))
    check(net, open_device(device_name), {"guards": data.draw(st.booleans())}, bound=0.0)


@DEVICES
@examples(40)
@given(data=st.data())
def test_chains_of_views(device_name: str, data: Any) -> None:
    """Slices, transposes and reshapes in any order, read by a kernel and by an output."""
    shape = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=5))
    net = Net(6)
    x = net.input(*shape)
    for _ in range(data.draw(st.integers(1, 5))):
        kind = data.draw(st.sampled_from(["slice", "transpose", "reshape"]))
        if kind == "slice":
            index = []
            for n in x.data.shape:
                a, b = sorted(data.draw(st.integers(0, n)) for _ in range(2))
                step = data.draw(st.sampled_from([1, 1, 2, 3, -1, -2]))
                backwards = slice(max(b - 1, 0), a - 1 if a > 0 else None, step)
                index.append(slice(a, b, step) if step > 0 else backwards)
            x = net.slice(x, *index)
        elif kind == "transpose":
            x = net.transpose(x, *data.draw(st.permutations(range(x.data.ndim))))
        else:
            sizes = [n for n in x.data.shape if data.draw(st.booleans())]
            rest = int(x.data.size / max(np.prod(sizes), 1)) if x.data.size else 0
            fits = int(np.prod(sizes)) * rest == x.data.size
            x = net.reshape(x, *sizes, rest) if fits else net.reshape(x, x.data.size)
    net.output(x)
    net.output(net.relu(x))
    device = open_device(device_name)
    for options in ({}, {"alias": False, "guards": True}):
        check(net, device, options, str(options), bound=0.0)
