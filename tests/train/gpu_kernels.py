"""Gradients by the kernels that GPUs get, against PyTorch in float64.

A program, because a process opens a device once: ``python -m tests.train.gpu_kernels DEVICE``, on a
CPU driver with ``DLK_KERNEL_SHAPES=gpu`` (and ``DLK_MATRIX_UNITS=plain`` or ``0``). Prints what is
wrong; ends with the number of comparisons.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Arrays = dict[str, np.ndarray]

BOUNDS = {"float32": 2e-5, "float16": 2e-3}
"""Error relative to the largest number: sums of up to a few thousand products in float32; results
that are stored in 11 bits, from operands that are rounded before the comparison. Of a block of
several layers ten times as much: a ReLU near zero may fall either way."""


@dataclass(frozen=True)
class Problem:
    """A convolution; pads are top, left, bottom, right."""

    n: int
    c: int
    size: tuple[int, int]
    k: int
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


PROBLEMS = (
    Problem(2, 16, (9, 7), 24, pads=(1, 1, 1, 1)),
    Problem(1, 72, (6, 5), 136, (1, 1)),
    Problem(3, 64, (12, 12), 64, (1, 1)),
    Problem(2, 64, (9, 9), 40, (1, 1), (2, 2)),
    Problem(2, 24, (11, 13), 32, stride=(2, 2), pads=(1, 1, 1, 1)),
    Problem(1, 16, (14, 14), 16, stride=(2, 2), pads=(0, 0, 1, 1)),
    Problem(1, 8, (15, 17), 16, (5, 5), (3, 2), (2, 0, 1, 3)),
    Problem(2, 16, (13, 13), 8, dilation=(2, 2), pads=(2, 2, 2, 2)),
    Problem(1, 8, (16, 15), 16, (3, 3), (2, 2), (1, 2, 0, 1), (2, 3)),
    Problem(2, 3, (23, 23), 20, (7, 7), (2, 2), (3, 3, 3, 3)),
    Problem(1, 5, (8, 9), 7, pads=(1, 1, 1, 1)),
    Problem(1, 32, (9, 8), 10, (1, 1)),
    Problem(1, 64, (10, 10), 64, pads=(1, 1, 1, 1), groups=4),
    Problem(1, 32, (9, 9), 64, stride=(2, 2), pads=(1, 1, 1, 1), groups=2),
    Problem(2, 12, (9, 9), 12, pads=(1, 1, 1, 1), groups=12),
    Problem(3, 32, (11, 10), 32, stride=(2, 2), pads=(1, 0, 1, 1), groups=32),
    Problem(1, 6, (8, 9), 12, (5, 3), dilation=(1, 2), pads=(2, 2, 2, 2), groups=6),
    Problem(2, 16, (9, 8), 24, (2, 2), (2, 2)),
    Problem(2, 6, (1, 43), 16, (1, 10), (1, 10)),
    Problem(1, 16, (1, 40), 24, (1, 7), (1, 2), (0, 3, 0, 3)),
    Problem(1, 16, (7, 7), 16, (1, 1), (3, 3)),
    Problem(1, 136, (17, 17), 144, (1, 7), pads=(0, 3, 0, 3)),
    Problem(8, 16, (20, 20), 16, pads=(1, 1, 1, 1)),
    Problem(2, 88, (12, 12), 80, pads=(1, 1, 1, 1)),
    Problem(1, 4, (50, 52), 96, (5, 5), (4, 3), (2, 2, 2, 2)),
)


def rounded(array: np.ndarray) -> np.ndarray:
    """What float16 keeps of it, as float32."""
    return array.astype(np.float16).astype(np.float32)


def reference(p: Problem, x: np.ndarray, w: np.ndarray, b: np.ndarray) -> tuple[Any, ...]:
    """Leaves and the convolution of them, in float64."""
    leaves = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, w, b)]
    top, left, bottom, right = p.pads
    padded = torch.nn.functional.pad(leaves[0], (left, right, top, bottom))
    y = torch.nn.functional.conv2d(padded, leaves[1], leaves[2], p.stride, 0, p.dilation, p.groups)
    return (*leaves, y)


def conv_errors(p: Problem, device: Any, dtype: str) -> dict[str, float]:
    """Relative errors of the gradients of data, weights and bias."""
    from dlk import _core

    rng = np.random.default_rng(1)
    x = rounded(rng.standard_normal((p.n, p.c, *p.size)))
    w = rounded(rng.standard_normal((p.k, p.c // p.groups, *p.kernel)))
    b = rounded(rng.standard_normal(p.k))
    tx, tw, tb, ty = reference(p, x, w, b)
    dy = rounded(rng.standard_normal(tuple(ty.shape)))
    ty.backward(torch.tensor(dy, dtype=torch.float64))
    graph = _core.Graph()
    xi = graph.add_input("x", "float32", list(x.shape))
    di = graph.add_input("dy", "float32", list(dy.shape))
    # Of results, as in a network: their channels are innermost.
    (xr,) = graph.add_node("MaxPool", [xi], {"kernel_shape": [1, 1]})
    (dr,) = graph.add_node("MaxPool", [di], {"kernel_shape": [1, 1]})
    wi, bi = graph.add_variable("w", w), graph.add_variable("b", b)
    attributes = {
        "strides": list(p.stride),
        "pads": list(p.pads),
        "dilations": list(p.dilation),
        "group": p.groups,
    }
    (y,) = graph.add_node("Conv", [xr, wi, bi], attributes)
    graph.add_output(y, "y")
    for name, value in zip("xwb", graph.gradients([y], [xr, wi, bi], [dr]), strict=True):
        graph.add_output(value, f"d{name}")
    got = _core.Model(graph, device, dtype).create_session().run({"x": x, "dy": dy})
    want = {"y": ty.detach(), "dx": tx.grad, "dw": tw.grad, "db": tb.grad}
    return {name: error(got[name], value.numpy()) for name, value in want.items()}


def norm_errors(shape: tuple[int, ...], device: Any, dtype: str) -> dict[str, float]:
    """Relative errors of batch normalization in training and of its gradients."""
    from dlk import _core

    rng = np.random.default_rng(2)
    c = shape[1]
    x = rounded(rng.standard_normal(shape) + 3.0 * rng.standard_normal((1, c, *shape[2:])))
    dy = rounded(rng.standard_normal(shape))
    scale, bias = rounded(rng.uniform(0.5, 1.5, c)), rounded(rng.standard_normal(c))
    zeros, ones = np.zeros(c, np.float32), np.ones(c, np.float32)
    leaves = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, scale, bias)]
    running = torch.zeros(c, dtype=torch.float64), torch.ones(c, dtype=torch.float64)
    ty = torch.nn.functional.batch_norm(leaves[0], *running, leaves[1], leaves[2], True, 0.1, 1e-5)
    ty.backward(torch.tensor(dy, dtype=torch.float64))
    graph = _core.Graph()
    xi = graph.add_input("x", "float32", list(shape))
    di = graph.add_input("dy", "float32", list(shape))
    arrays = {"scale": scale, "bias": bias, "mean": zeros, "variance": ones}
    ids = [graph.add_variable(n, a) for n, a in arrays.items()]
    xr, dr = xi, di
    if len(shape) == 4:
        (xr,) = graph.add_node("MaxPool", [xi], {"kernel_shape": [1, 1]})
        (dr,) = graph.add_node("MaxPool", [di], {"kernel_shape": [1, 1]})
    y, mean, _ = graph.add_node("BatchNormalization", [xr, *ids], {"training_mode": 1}, 3)
    graph.add_output(y, "y")
    graph.add_output(mean, "mean")
    for name, value in zip("xsb", graph.gradients([y], [xr, *ids[:2]], [dr]), strict=True):
        graph.add_output(value, f"d{name}")
    got = _core.Model(graph, device, dtype).create_session().run({"x": x, "dy": dy})
    want = dict(zip(["dx", "ds", "db"], [leaf.grad for leaf in leaves], strict=True))
    want |= {"y": ty.detach(), "mean": running[0]}
    return {name: error(got[name], value.numpy()) for name, value in want.items()}


def linear_errors(rows: int, device: Any, dtype: str) -> dict[str, float]:
    """Relative errors of a layer with weights (48, 72) and a bias, and of its gradients."""
    from dlk import _core

    rng = np.random.default_rng(3)
    shapes = {"x": (rows, 72), "w": (48, 72), "b": (48,), "dy": (rows, 48)}
    arrays = {n: rounded(rng.standard_normal(s)) for n, s in shapes.items()}
    leaves = {n: torch.tensor(arrays[n], dtype=torch.float64, requires_grad=True) for n in "xwb"}
    ty = torch.nn.functional.linear(leaves["x"], leaves["w"], leaves["b"])
    ty.backward(torch.tensor(arrays["dy"], dtype=torch.float64))
    graph = _core.Graph()
    xi = graph.add_input("x", "float32", list(shapes["x"]))
    di = graph.add_input("dy", "float32", list(shapes["dy"]))
    wi, bi = graph.add_variable("w", arrays["w"]), graph.add_variable("b", arrays["b"])
    (y,) = graph.add_node("Gemm", [xi, wi, bi], {"transB": 1})
    graph.add_output(y, "y")
    for name, value in zip("xwb", graph.gradients([y], [xi, wi, bi], [di]), strict=True):
        graph.add_output(value, f"d{name}")
    feeds = {n: arrays[n] for n in ("x", "dy")}
    got = _core.Model(graph, device, dtype).create_session().run(feeds)
    want = {"y": ty.detach(), **{f"d{n}": leaf.grad for n, leaf in leaves.items()}}
    return {name: error(got[name], value.numpy()) for name, value in want.items()}


def gather_errors(indices: int, rows: int, device: Any, dtype: str) -> dict[str, float]:
    """Relative errors of the gradients of Gather and GatherND by a table (2, rows, 5), at more
    indices than rows: several name the same row, one row is named by a third of them. "repeated" is
    0 where a second run gives the same bits."""
    from dlk import _core

    rng = np.random.default_rng(5)
    at = rng.integers(-rows, rows, indices)
    at[rng.random(indices) < 1 / 3] = rows // 2
    dy = rounded(rng.standard_normal((2, indices, 5)))
    tuples = np.stack([np.arange(indices) % 2, at], 1)
    graph = _core.Graph()
    table = graph.add_input("table", "float32", [2, rows, 5])
    di = graph.add_input("dy", "float32", list(dy.shape))
    dn = graph.add_input("dn", "float32", [indices, 5])
    i32, i64 = graph.add_input("i", "int32", [indices]), graph.add_input("t", "int64", [indices, 2])
    (y,) = graph.add_node("Gather", [table, i32], {"axis": 1})
    (z,) = graph.add_node("GatherND", [table, i64])
    for name, value, cotangent in (("gather", y, di), ("nd", z, dn)):
        graph.add_output(graph.gradients([value], [table], [cotangent])[0], name)
    session = _core.Model(graph, device, dtype).create_session()
    feeds = {
        "table": np.zeros((2, rows, 5), np.float32), "dy": dy, "dn": dy[0],
        "i": at.astype(np.int32), "t": tuples,
    }  # fmt: skip
    got, again = session.run(feeds), session.run(feeds)
    want = {name: np.zeros((2, rows, 5)) for name in ("gather", "nd")}
    np.add.at(want["gather"].swapaxes(0, 1), at, dy.swapaxes(0, 1))
    np.add.at(want["nd"], (tuples[:, 0], tuples[:, 1]), dy[0])
    errors = {name: error(got[name], value) for name, value in want.items()}
    return errors | {"repeated": float(any((got[n] != again[n]).any() for n in want))}


def block_errors(device: Any, dtype: str) -> dict[str, float]:
    """Branches of convolution, batch normalization and ReLU, joined; then a residual block."""
    from dlk import _core

    rng = np.random.default_rng(4)
    shapes = {
        "x": (2, 8, 6, 6), "dy": (2, 40, 6, 6), "a": (16, 8, 3, 3), "b": (24, 8, 1, 1),
        "c": (40, 40, 3, 3),
    }  # fmt: skip
    arrays = {n: rounded(0.5 * rng.standard_normal(s)) for n, s in shapes.items()}
    leaves = {n: torch.tensor(arrays[n], dtype=torch.float64, requires_grad=True) for n in "xabc"}

    def norm(t: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.batch_norm(t, None, None, None, None, True, 0.1, 1e-5)

    def conv(t: torch.Tensor, w: str) -> torch.Tensor:
        return torch.nn.functional.conv2d(t, leaves[w], padding=arrays[w].shape[2] // 2)

    joined = torch.cat([torch.relu(norm(conv(leaves["x"], w))) for w in "ab"], 1)
    ty = torch.relu(norm(conv(joined, "c")) + joined)
    ty.backward(torch.tensor(arrays["dy"], dtype=torch.float64))
    graph = _core.Graph()
    xi = graph.add_input("x", "float32", list(shapes["x"]))
    di = graph.add_input("dy", "float32", list(shapes["dy"]))
    weights = {n: graph.add_variable(n, arrays[n]) for n in "abc"}

    def normed(value: int, w: str) -> int:
        pads = [arrays[w].shape[2] // 2] * 4
        (made,) = graph.add_node("Conv", [value, weights[w]], {"pads": pads})
        values = [np.ones, np.zeros, np.zeros, np.ones]
        channels = arrays[w].shape[0]
        ids = [graph.add_variable(f"{w}{i}", f(channels, np.float32)) for i, f in enumerate(values)]
        return int(graph.add_node("BatchNormalization", [made, *ids], {"training_mode": 1}, 3)[0])

    parts = [graph.add_node("Relu", [normed(xi, w)])[0] for w in "ab"]
    (both,) = graph.add_node("Concat", parts, {"axis": 1})
    (total,) = graph.add_node("Add", [normed(both, "c"), both])
    (y,) = graph.add_node("Relu", [total])
    graph.add_output(y, "y")
    for name, value in zip(
        "xabc", graph.gradients([y], [xi, *weights.values()], [di]), strict=True
    ):
        graph.add_output(value, f"d{name}")
    feeds = {n: arrays[n] for n in ("x", "dy")}
    got = _core.Model(graph, device, dtype).create_session().run(feeds)
    want = {"y": ty.detach(), **{f"d{n}": leaf.grad for n, leaf in leaves.items()}}
    return {name: error(got[name], value.numpy()) for name, value in want.items()}


def error(got: np.ndarray, want: np.ndarray) -> float:
    """Largest difference relative to the largest number."""
    if not np.isfinite(got).all():
        return float("inf")
    return float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-30))


GATHERS = ((5, 7), (17, 1), (64, 3), (300, 300), (1000, 11))
"""Indices, and rows of the table."""

NORMS = ((4, 24, 9, 7), (2, 64, 30, 30), (3, 5, 8, 8), (33, 40), (2, 12, 300))


def main(device_id: str) -> None:
    from dlk import _core

    device = _core.open_device(device_id)
    assert not device.caps["is_cpu"], "DLK_KERNEL_SHAPES=gpu is not set"
    count = 0
    for dtype in ("float32", "float16"):
        if dtype == "float16" and not device.caps["fp16_storage"]:
            continue
        found: list[tuple[Any, dict[str, float]]] = []
        found += [(p, conv_errors(p, device, dtype)) for p in PROBLEMS]
        found += [(shape, norm_errors(shape, device, dtype)) for shape in NORMS]
        found += [(rows, linear_errors(rows, device, dtype)) for rows in (3, 40, 700)]
        found += [(shape, gather_errors(*shape, device, dtype)) for shape in GATHERS]
        found += [("block", block_errors(device, dtype))]
        for what, errors in found:
            for name, value in errors.items():
                count += 1
                if not value <= BOUNDS[dtype] * (10 if what == "block" else 1):
                    print(f"WRONG {dtype} {name} {value:.3g}: {what}")
    print(f"{count} comparisons")


if __name__ == "__main__":
    main(sys.argv[1])
