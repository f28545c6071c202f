"""Depthwise convolutions and the products behind them, as one dispatch and as two.

A program, because a process opens a device once: ``DLK_KERNEL_SHAPES=gpu python -m
tests.parity.separable DEVICE``. Prints what is wrong; ends with the number of networks.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

import numpy as np

from .net import Net, Tensor, compare

BOUNDS = {"float32": 2e-5, "float16": 6e-3}
"""Of the largest result; float16 rounds x, weights, three layers' results and what lies between."""

VARIANTS = {
    "float32": ("", "128,1,16,8", "64,2,12,3", "128,4,32,2", "32,1,8,1", "256,1,8,4", "apart"),
    "float16": ("", "128,1,16,8", "128,4,32,2"),
}
"""Of DLK_SEPARABLE: the cost model's choice, groups with idle items and tails, two dispatches."""


@dataclass(frozen=True)
class Pair:
    """One pair behind a convolution that widens (N, 8, H, W) to `channels`."""

    channels: int
    kept: int
    size: tuple[int, int, int]  # N, H, W
    kernel: int = 3
    stride: int = 1
    limits: tuple[float | None, float | None] | None = (0.0, 6.0)
    residual: bool = False
    bias: bool = True
    widened: bool = True
    fuses: bool = True


PAIRS = (
    Pair(24, 8, (1, 7, 7), residual=True),
    Pair(40, 20, (2, 9, 13), stride=2),
    Pair(36, 19, (1, 5, 6), kernel=5, limits=None),
    Pair(32, 16, (1, 11, 10), kernel=5, stride=2, limits=(None, 1.0)),
    Pair(96, 8, (3, 4, 4), residual=True, limits=(-0.5, None)),
    Pair(160, 24, (1, 3, 5), bias=False),
    Pair(48, 32, (1, 1, 3)),
    Pair(26, 12, (1, 6, 6), fuses=False),  # 26 channels are no whole vectors
    Pair(8, 12, (1, 6, 6), widened=False, fuses=False),  # channels are not innermost
)


def limited(net: Net, x: Tensor, low: float | None, high: float | None) -> Tensor:
    bounds = [None if b is None else net.constant(np.array(b)) for b in (low, high)]
    return net.node("Clip", [x, *bounds], np.clip(x.data, low, high))


def network(pair: Pair) -> Net:
    net = Net(5)
    n, height, width = pair.size
    x = net.input(n, 8, height, width)
    wide = net.relu(net.conv(x, pair.channels)) if pair.widened else x
    pad = pair.kernel // 2
    y = net.conv(wide, pair.channels, pair.kernel, stride=pair.stride, pad=pad,
                 groups=pair.channels, bias=pair.bias)  # fmt: skip
    if pair.limits:
        y = limited(net, y, *pair.limits)
    y = net.conv(y, pair.kept, bias=pair.bias)
    net.output(net.add(x, y) if pair.residual else net.relu(y))
    return net


def main(device_id: str) -> None:
    from dlk import _core

    device = _core.open_device(device_id)
    assert not device.caps["is_cpu"], "DLK_KERNEL_SHAPES=gpu is not set"
    count = 0
    for pair in PAIRS:
        net = network(pair)
        for dtype, bound in BOUNDS.items():
            for variant in VARIANTS[dtype]:
                os.environ["DLK_SEPARABLE"] = variant
                what = f"{pair} {dtype} '{variant}'"
                model = _core.Model(net.graph, device, dtype=dtype)
                kernels = [step.kernel for step in model.plan(net.feeds).steps]
                fused = any(k.startswith("conv_separable") for k in kernels)
                if fused != (pair.fuses and variant != "apart"):
                    print(f"WRONG {what}: {kernels}")
                try:
                    compare(model.create_session().run(net.feeds), net.wanted, what, bound)
                except AssertionError as error:
                    print(f"WRONG {error}")
                count += 1
    print(f"{count} networks")


if __name__ == "__main__":
    main(sys.argv[1])
