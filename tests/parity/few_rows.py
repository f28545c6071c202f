"""Ends and beginnings of networks: matrix-vector kernels, classifiers behind images, windows of
whole images, pools whose results leave the graph, and first layers over pairs of pixels.

A program, because a process opens a device once: ``DLK_KERNEL_SHAPES=gpu python -m
tests.parity.few_rows DEVICE``. Prints what is wrong; ends with the number of graphs.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np

from .net import Net, check

BOUNDS = {"float32": 1e-5, "float16": 2e-3}
SHAPES = {"": (1, 2, 3, 4), "gemv:64,2,4": (1, 4, 8), "gemv:32,8,1": (1, 7), "gemv": (5,)}
"""Rows of products, by how ``DLK_CONV_ALGO`` shares them out."""


PAIRS = "conv_pixel_pairs"
"""Of first layers in float16."""


def product(rows: int, depth: int, columns: int, op: str, turned: bool) -> Net:
    """A matrix product with bias and activation, its left side a computed one."""
    net = Net(rows + depth + columns)
    x = net.relu(net.input(rows, depth))
    w = net.random(columns, depth) if turned else net.random(depth, columns)
    right = w.data.T if turned else w.data
    if op == "Gemm":
        c = net.random(columns)
        y = net.node("Gemm", [x, w, c], x.data @ right + c.data, transB=int(turned))
    else:
        y = net.node("MatMul", [x, w], x.data @ right)
    net.output(net.relu(y))
    return net


def classifier(batch: int, pixels: int, turned: bool) -> Net:
    """conv, flatten, Gemm, Gemm, flattened once more."""
    net = Net(batch + pixels)
    x = net.relu(net.conv(net.input(batch, 8, pixels, pixels), 16, 1))
    rows = net.node("Flatten", [x], x.data.reshape(batch, -1))
    w = net.random(*((29, rows.data.shape[1]) if turned else (rows.data.shape[1], 29)))
    right = w.data.T if turned else w.data
    hidden = net.relu(net.node("Gemm", [rows, w], rows.data @ right, transB=int(turned)))
    v = net.random(29, 10)
    y = net.node("MatMul", [hidden, v], hidden.data @ v.data)
    net.output(
        net.node("Reshape", [y, net.constant(np.array([-1, 2, 5]))], y.data.reshape(-1, 2, 5))
    )
    return net


def whole_window(batch: int, channels: int) -> Net:
    """A convolution whose window is its image, and one of a pixel behind it."""
    net = Net(batch + channels)
    x = net.relu(net.conv(net.input(batch, 3, 5, 4), channels, 1))
    w = net.random(21, channels, 5, 4)
    y = net.node("Conv", [x, w], np.einsum("nchw,kchw->nk", x.data, w.data)[:, :, None, None])
    net.output(net.conv(net.relu(y), 6, 1))
    return net


def first_layer(batch: int, channels: int, kernel: int, stride: int, pad: int) -> Net:
    """Pairs of pixels begin where windows do; lines have an odd number of pixels."""
    net = Net(kernel + stride)
    x = net.relu(net.conv(net.input(batch, channels, 12, 13), 24, kernel, stride=stride, pad=pad))
    net.output(net.conv(x, 8, 1))
    return net


FIRST_LAYERS = ((1, 3, 7, 2, 3), (2, 3, 3, 2, 1), (1, 3, 3, 1, 1), (3, 1, 5, 1, 2),
                (1, 4, 11, 4, 0), (1, 2, 2, 3, 0))  # fmt: skip
"""Batch, channels, window, stride, padding."""


def pooled(batch: int) -> Net:
    """A pool whose flattened results leave the graph."""
    net = Net(batch)
    x = net.conv(net.input(batch, 3, 9, 7), 20, 3)
    y = net.node("GlobalAveragePool", [x], x.data.mean((2, 3), keepdims=True))
    net.output(net.node("Flatten", [y], y.data.reshape(batch, -1)))
    return net


def cases() -> list[tuple[str, Net, str]]:
    found: list[tuple[str, Net, str]] = []
    for algorithm, all_rows in SHAPES.items():
        for rows in all_rows:
            for depth, columns in ((8, 3), (40, 64), (77, 5), (1031, 9), (520, 130)):
                turned = (rows + columns) % 2 == 0
                op = "MatMul" if depth == 40 else "Gemm"
                found.append(
                    (algorithm, product(rows, depth, columns, op, turned and op == "Gemm"), "gemv")
                )
    for batch in (1, 3, 20):
        kernel = "gemv" if batch <= 8 else ""
        found += [
            ("", classifier(batch, 3, batch == 3), kernel),
            ("", classifier(batch, 2, batch != 3), kernel),
        ]
        found += [("", whole_window(batch, 8), kernel), ("", whole_window(batch, 5), kernel)]
        found.append(("", pooled(batch), "pool_global"))
    streams = (classifier(2, 3, True), classifier(1, 2, False), whole_window(2, 5))
    found += [("gemv:32,2,2", net, "gemv") for net in streams]
    found += [("", first_layer(*sizes), PAIRS) for sizes in FIRST_LAYERS]
    return found


def run(device: Any) -> int:
    count = 0
    for algorithm, net, kernel in cases():
        os.environ["DLK_CONV_ALGO"] = algorithm
        for dtype, bound in BOUNDS.items():
            name = f"{algorithm} {dtype} {[v.shape for v in net.feeds.values()]}"
            count += 1
            try:
                plan = check(net, device, {"dtype": dtype, "guards": True}, name, bound=bound)
            except Exception as error:
                print(f"WRONG {name}: {error!r}")
                continue
            kernels = [step.kernel for step in plan.steps]
            expected = kernel and not (kernel == PAIRS and dtype == "float32")
            if (expected and kernel not in kernels) or "pointwise" in kernels[1:]:
                print(f"WRONG {name}: runs {kernels}")
    return count


if __name__ == "__main__":
    from dlk import _core

    device = _core.open_device(sys.argv[1])
    assert not device.caps["is_cpu"], "DLK_KERNEL_SHAPES=gpu is not set"
    print(f"{run(device)} graphs")
