"""Products of 8-bit integers with zero points, plain and quantized again."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ..case import Array, Case, Tolerance, case, integers
from ._windows import windows

ONE_STEP = {
    "float32": Tolerance(0.01, "a tie of the rounding may fall to either side: one step of 128"),
    "float16": Tolerance(0.01, "a tie of the rounding may fall to either side: one step of 128"),
}


def values(rng: np.random.Generator, dtype: str, *shape: int) -> Array:
    info = np.iinfo(dtype)
    return integers(rng, info.min, info.max + 1, *shape, dtype=dtype)


def shifted(x: Array, zero: Array | None, axis: int) -> Array:
    """x less its zero point, which is one number or one a row (axis -2) or column (axis -1)."""
    wide = x.astype(np.int64)
    if zero is None:
        return wide
    z = zero.astype(np.int64)
    return wide - (z[:, None] if z.ndim == 1 and axis == -2 else z)


def plain(a: Array, b: Array, za: Array | None = None, zb: Array | None = None) -> Array:
    return (shifted(a, za, -2) @ shifted(b, zb, -1)).astype(np.int32)


for (ta, tb), zeros in itertools.product(
    (("uint8", "uint8"), ("int8", "int8"), ("uint8", "int8")), ("none", "one", "each")
):
    shape = {"one": ((), ()), "each": ((7,), (5,)), "none": (None, None)}[zeros]
    case(
        Case(
            op="MatMulInteger",
            name=f"{ta}_{tb}_{zeros}",
            inputs=lambda rng, a=ta, b=tb, s=shape: {
                "a": values(rng, a, 7, 19),
                "b": values(rng, b, 19, 5),
                "za": None if s[0] is None else values(rng, a, *s[0]),
                "zb": None if s[1] is None else values(rng, b, *s[1]),
            },
            oracle=plain,
            dtypes=("none",),
        )
    )
for name, a, b in (("batches", (3, 1, 4, 6), (2, 6, 5)), ("row", (6,), (2, 6, 5))):
    case(
        Case(
            op="MatMulInteger",
            name=name,
            inputs=lambda rng, s=a, t=b: {
                "a": values(rng, "uint8", *s),
                "b": values(rng, "int8", *t),
                "za": values(rng, "uint8"),
            },
            oracle=plain,
            dtypes=("none",),
        )
    )


def requantized(sums: Array, scale: Array, zero: Array) -> Array:
    info = np.iinfo(zero.dtype)
    wide = np.rint(sums * scale) + zero.astype(np.int64)
    return np.clip(wide, info.min, info.max).astype(zero.dtype)


for dtype in ("uint8", "int8"):
    case(
        Case(
            op="QLinearMatMul",
            name=dtype,
            inputs=lambda rng, d=dtype: {
                "a": values(rng, d, 2, 4, 9),
                "sa": np.array(0.03125),
                "za": values(rng, d),
                "b": values(rng, d, 2, 9, 5),
                "sb": np.array(0.0625),
                "zb": values(rng, d),
                "sy": np.array(1.5),
                "zy": values(rng, d),
            },
            oracle=lambda a, sa, za, b, sb, zb, sy, zy: requantized(
                plain(a, b, za, zb), sa * sb / sy, zy
            ),
        )
    )


def convolved(x: Array, w: Array, group: int, attributes: dict[str, Any]) -> Array:
    """Integer convolution of two spatial axes."""
    strides = attributes.get("strides", [1, 1])
    dilations = attributes.get("dilations", [1, 1])
    pads = attributes.get("pads", [0] * 4)
    kernel = w.shape[2:]
    output = [
        (n + pads[i] + pads[i + 2] - (k - 1) * d - 1) // s + 1
        for i, (n, k, d, s) in enumerate(zip(x.shape[2:], kernel, dilations, strides, strict=True))
    ]
    pairs = [(pads[i], pads[i + 2]) for i in range(2)]
    taps = windows(x.astype(np.float64), kernel, strides, dilations, pairs, output, 0.0)
    n, channels = x.shape[:2]
    taps = taps.reshape(len(taps), n, group, channels // group, *output)
    weights = w.reshape(group, w.shape[0] // group, w.shape[1], -1).astype(np.float64)
    return np.einsum("tngcyx,gkct->ngkyx", taps, weights).reshape(n, w.shape[0], *output)


CONV: dict[str, Any] = {"pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2]}
for name, group, attributes in (("plain", 1, {}), ("window", 2, CONV)):
    case(
        Case(
            op="ConvInteger",
            name=name,
            inputs=lambda rng, g=group: {
                "x": values(rng, "uint8", 2, 4, 7, 9),
                "w": values(rng, "int8", 6, 4 // g, 3, 2),
                "zx": values(rng, "uint8"),
                "zw": values(rng, "int8", 6) if g == 2 else values(rng, "int8"),
            },
            attributes={**attributes, "group": group},
            oracle=lambda x, w, zx, zw, g=group, a=attributes: convolved(
                x.astype(np.int64) - int(zx),
                w.astype(np.int64) - zw.astype(np.int64).reshape(-1, 1, 1, 1),
                g,
                a,
            ).astype(np.int32),
            dtypes=("none",),
        )
    )
    case(
        Case(
            op="QLinearConv",
            name=name,
            inputs=lambda rng, g=group: {
                "x": values(rng, "uint8", 2, 4, 7, 9),
                "sx": np.array(0.03125),
                "zx": values(rng, "uint8"),
                "w": values(rng, "int8", 6, 4 // g, 3, 2),
                "sw": 2.0 ** rng.integers(-5, -2, 6).astype(np.float64),
                "zw": np.zeros(6, np.int8),
                "sy": np.array(1.5),
                "zy": values(rng, "uint8"),
                "b": integers(rng, -500, 500, 6, dtype="int32"),
            },
            attributes={**attributes, "group": group},
            oracle=lambda x, sx, zx, w, sw, zw, sy, zy, b, g=group, a=attributes: requantized(
                convolved(x.astype(np.int64) - int(zx), w.astype(np.int64), g, a)
                + b.reshape(-1, 1, 1),
                (sx * sw / sy).reshape(-1, 1, 1),
                zy,
            ),
            dtypes=("float32",),
        )
    )
