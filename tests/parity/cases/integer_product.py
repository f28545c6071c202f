"""Products of 8-bit integers with zero points, plain and quantized again."""

from __future__ import annotations

import itertools
from functools import partial
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


# On matrix units: channels as they stand or padded, several tiles, groups, images that can be
# copied as they are (int8, 32 channels, channels innermost) and that cannot (uint8, a zero point at
# the border). The zero point of an image is left out, 0, or another.
Shape = tuple[int, ...]
TILES: tuple[tuple[str, str, str, int | None, int, Shape, Shape, dict[str, Any]], ...] = (
    ("deep", "int8", "int8", None, 1, (2, 32, 9, 7), (70, 32, 3, 3), {"pads": [1, 1, 1, 1]}),
    ("zero", "int8", "int8", 0, 1, (1, 48, 6, 5), (24, 48, 3, 2), {"pads": [0, 1, 2, 0]}),
    ("border", "int8", "int8", -7, 1, (1, 32, 6, 7), (17, 32, 3, 3), {"pads": [1, 2, 0, 1]}),
    ("bytes", "uint8", "int8", 131, 1, (2, 20, 9, 8), (66, 20, 3, 3), {"strides": [2, 2]}),
    ("unsigned", "uint8", "uint8", None, 1, (1, 17, 8, 9), (9, 17, 2, 3), {"pads": [1, 0, 0, 2]}),
    ("stem", "uint8", "int8", 117, 1, (1, 3, 19, 17), (32, 3, 7, 7),
     {"pads": [3, 3, 3, 3], "strides": [2, 2]}),
    ("groups", "uint8", "int8", 128, 3, (2, 36, 7, 6), (72, 12, 3, 3),
     {"pads": [2, 2, 2, 2], "dilations": [2, 2]}),
    ("point", "int8", "int8", 5, 2, (3, 64, 1, 1), (20, 32, 1, 1), {}),
    ("pads_past_the_image", "uint8", "int8", 9, 1, (1, 8, 2, 3), (12, 8, 3, 3),
     {"pads": [4, 3, 3, 5], "strides": [2, 1]}),
)  # fmt: skip


def quantized_convolution(
    group: int, attributes: dict[str, Any], x: Array, sx: Array, zx: Array, w: Array, sw: Array,
    zw: Array, sy: Array, zy: Array, b: Array | None = None,
) -> Array:  # fmt: skip
    filters = w.astype(np.int64) - zw.astype(np.int64).reshape(-1, 1, 1, 1)
    sums = convolved(x.astype(np.int64) - int(zx), filters, group, attributes)
    if b is not None:
        sums = sums + b.reshape(-1, 1, 1)
    return requantized(sums, np.reshape(sx * sw / sy, (-1, 1, 1)), zy)


for name, tx, tw, zero, group, x_shape, w_shape, attributes in TILES:
    for constant in (True, False):
        case(
            Case(
                op="ConvInteger",
                name=f"tiles_{name}" + ("" if constant else "_at_run_time"),
                inputs=lambda rng, x=x_shape, w=w_shape, t=tx, u=tw, z=zero, c=constant: {
                    "x": values(rng, t, *x),
                    "w": values(rng, u, *w),
                    "zx": None if z is None else np.array(z, t),
                    "zw": None if c and u == "uint8" else
                    np.array(0, u) if c else values(rng, u, w[0]),
                },
                attributes={**attributes, "group": group},
                oracle=lambda x, w, zx, zw, g=group, a=attributes: convolved(
                    x.astype(np.int64) - (0 if zx is None else int(zx)),
                    w.astype(np.int64)
                    - (0 if zw is None else zw.astype(np.int64).reshape(-1, 1, 1, 1)),
                    g,
                    a,
                ).astype(np.int32),
                constants=("w", "zx", "zw") if constant else (),
                dtypes=("none",),
            )
        )  # fmt: skip
    for bias in (True, False):
        case(
            Case(
                op="QLinearConv",
                name=f"tiles_{name}" + ("" if bias else "_no_bias"),
                inputs=lambda rng, x=x_shape, w=w_shape, t=tx, u=tw, z=zero, b=bias: {
                    "x": values(rng, t, *x),
                    "sx": np.array(2.0**-6),
                    "zx": np.array(z or 0, t),
                    "w": values(rng, u, *w),
                    "sw": 2.0 ** rng.integers(-8, -5, w[0]).astype(np.float64)
                    if b else np.array(2.0**-7),
                    "zw": np.zeros(w[0], u) if u == "int8" else values(rng, u),
                    "sy": np.array(0.5),
                    "zy": values(rng, t),
                    **({"b": integers(rng, -5000, 5000, w[0], dtype="int32")} if b else {}),
                },
                attributes={**attributes, "group": group},
                oracle=partial(quantized_convolution, group, attributes),
                constants=("w", "sw", "zw", "zx"),
                dtypes=("float32",),
            )
        )  # fmt: skip
