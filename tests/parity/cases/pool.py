"""Pooling: modes, padding, dilation, ceil_mode, indices, ranks and element types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..case import Array, Case, Tolerance, case, integers, normal
from ._windows import windows

IMAGE_LAYOUTS = ("contiguous", "strided", "channels_last")
Pads = Sequence[tuple[int, int]]


def _pool(
    op: str,
    name: str,
    x: Sequence[int],
    kernel: Sequence[int],
    output: Sequence[int],
    *,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Pads | None = None,
    auto_pad: str | None = None,
    layouts: Sequence[str] = IMAGE_LAYOUTS,
    integer: str | None = None,
    **attributes: Any,
) -> None:
    """`output` and `pads` are the oracle's; pads are the node's too unless it has `auto_pad`."""
    attributes["kernel_shape"] = list(kernel)
    rank = len(kernel)
    if strides:
        attributes["strides"] = list(strides)
    if dilations:
        attributes["dilations"] = list(dilations)
    if auto_pad:
        attributes["auto_pad"] = auto_pad
    elif pads:
        attributes["pads"] = [a for a, _ in pads] + [b for _, b in pads]
    step, gap, around = strides or [1] * rank, dilations or [1] * rank, pads or [(0, 0)] * rank

    def taps(x: Array, fill: float) -> Array:
        return windows(x, kernel, step, gap, around, output, fill)

    def maximum(x: Array) -> Array:
        return taps(x.astype(np.float64), -np.inf).max(0).astype(integer or np.float64)

    def average(x: Array) -> Array:
        image = np.pad(
            np.ones_like(x),
            [(0, 0), (0, 0), *around],
            constant_values=float(attributes.get("count_include_pad", 0)),
        )
        counted = windows(image, kernel, step, gap, [(0, 0)] * rank, output, 0.0)
        return taps(x, 0.0).sum(0) / counted.sum(0)

    def lp(x: Array) -> Array:
        p = attributes.get("p", 2)
        return (np.abs(taps(x, 0.0)) ** p).sum(0) ** (1.0 / p)

    oracles: dict[str, Callable[[Array], Array]] = {
        "MaxPool": maximum,
        "AveragePool": average,
        "LpPool": lp,
    }
    case(
        Case(
            op=op,
            name=name,
            inputs=lambda rng: {
                "x": integers(rng, 0, 100, *x, dtype=integer) if integer else normal(rng, *x)
            },
            attributes=attributes,
            oracle=oracles[op],
            layouts=("contiguous",) if integer else layouts,
            dtypes=("none",) if integer else ("float32", "float16"),
            exact=op == "MaxPool",
        )
    )


for _op in ("MaxPool", "AveragePool", "LpPool"):
    _pool(_op, "k2_stride2", (2, 16, 8, 10), (2, 2), (4, 5), strides=[2, 2])
    _pool(_op, "k3_stride2_padded", (1, 64, 9, 9), (3, 3), (5, 5), strides=[2, 2],
          pads=[(1, 1), (1, 1)])  # fmt: skip
    _pool(_op, "odd_channels", (1, 5, 7, 9), (3, 2), (5, 8))
    _pool(_op, "asymmetric_pads", (1, 8, 7, 9), (3, 3), (4, 4), strides=[2, 3],
          pads=[(0, 2), (2, 1)])  # fmt: skip
    _pool(_op, "dilated", (1, 8, 9, 9), (3, 2), (5, 6), dilations=[2, 3])
    _pool(_op, "ceil", (1, 8, 8, 10), (3, 3), (4, 5), strides=[2, 2], ceil_mode=1)
    _pool(_op, "ceil_drops_window_in_padding", (1, 1, 2, 2), (1, 1), (1, 1), strides=[2, 2],
          ceil_mode=1)  # fmt: skip
    _pool(_op, "same_upper", (1, 8, 8, 9), (3, 3), (4, 5), strides=[2, 2], auto_pad="SAME_UPPER",
          pads=[(0, 1), (1, 1)])  # fmt: skip
    _pool(_op, "same_lower", (1, 8, 8, 9), (3, 3), (4, 5), strides=[2, 2], auto_pad="SAME_LOWER",
          pads=[(1, 0), (1, 1)])  # fmt: skip
    _pool(_op, "signal", (2, 7, 21), (4,), (9,), strides=[2], pads=[(0, 0)])
    _pool(_op, "volume", (1, 4, 5, 6, 7), (2, 3, 2), (4, 4, 6))
    _pool(_op, "no_batch", (0, 4, 6, 6), (2, 2), (5, 5), layouts=("contiguous",))
_pool("AveragePool", "count_padding", (1, 16, 7, 9), (3, 3), (7, 9), pads=[(1, 1), (1, 1)],
      count_include_pad=1)  # fmt: skip
_pool("AveragePool", "count_padding_ceil", (1, 8, 6, 6), (3, 3), (4, 4), strides=[2, 2],
      pads=[(1, 1), (1, 1)], count_include_pad=1, ceil_mode=1)  # fmt: skip
_pool("LpPool", "p1", (1, 8, 7, 9), (3, 3), (5, 7), p=1)
_pool("LpPool", "p3", (1, 8, 7, 9), (3, 3), (5, 7), p=3)
_pool("MaxPool", "uint8", (1, 3, 8, 8), (2, 2), (4, 4), strides=[2, 2], integer="uint8")
_pool("MaxPool", "int8", (1, 3, 8, 8), (3, 3), (8, 8), pads=[(1, 1), (1, 1)], integer="int8")


def _max_with_index(x: Array, order: int) -> tuple[Array, Array]:
    """Windows of 3 x 2 with stride 2 and one line of padding in front, element by element."""
    batch, channels, height, width = x.shape
    shape = (batch, channels, (height + 1 - 3) // 2 + 1, (width - 2) // 2 + 1)
    y, where = np.empty(shape), np.empty(shape, np.int64)
    for n, c, i, j in np.ndindex(shape):
        best = None
        for h in range(max(0, 2 * i - 1), min(height, 2 * i + 2)):
            for w in range(2 * j, 2 * j + 2):
                if best is None or x[n, c, h, w] > x[n, c, best[0], best[1]]:
                    best = (h, w)
        assert best is not None
        y[n, c, i, j] = x[n, c, best[0], best[1]]
        flat = best[0] * width + best[1] if order == 0 else best[1] * height + best[0]
        where[n, c, i, j] = (n * channels + c) * height * width + flat
    return y, where


for _order in (0, 1):
    case(
        Case(
            op="MaxPool",
            name=f"indices_order{_order}",
            inputs=lambda rng: {"x": rng.permutation(2 * 3 * 7 * 8).reshape(2, 3, 7, 8) / 8.0},
            attributes={
                "kernel_shape": [3, 2],
                "strides": [2, 2],
                "pads": [1, 0, 0, 0],
                "storage_order": _order,
            },
            oracle=lambda x, order=_order: _max_with_index(x, order),
            outputs=2,
            layouts=IMAGE_LAYOUTS,
            exact=True,
        )
    )


def _global(op: str, name: str, shape: Sequence[int], **attributes: Any) -> None:
    axes = tuple(range(2, len(shape)))

    def oracle(x: Array) -> Array:
        if op == "GlobalMaxPool":
            return np.asarray(x.max(axes, keepdims=True))
        if op == "GlobalAveragePool":
            return np.asarray(x.mean(axes, keepdims=True))
        p = attributes.get("p", 2)
        return np.asarray((np.abs(x) ** p).sum(axes, keepdims=True) ** (1.0 / p))

    case(
        Case(
            op=op,
            name=name,
            inputs=lambda rng: {"x": normal(rng, *shape) + 0.25},
            attributes=attributes,
            oracle=oracle,
            layouts=IMAGE_LAYOUTS,
            tolerance={
                "float32": Tolerance(1e-5, "sums of a few thousand terms that partly cancel"),
            },
        )
    )


for _op in ("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"):
    _global(_op, "image", (2, 32, 7, 7))
    _global(_op, "odd", (1, 5, 13, 9))
    _global(_op, "signal", (2, 6, 31))
    _global(_op, "volume", (1, 3, 4, 5, 6))
    _global(_op, "one_pixel", (1, 20, 1, 1))
    _global(_op, "large", (1, 4, 61, 67))
_global("GlobalLpPool", "p1", (1, 8, 5, 5), p=1)
