"""Linear quantization: per tensor, per axis, per block, dynamic."""

from __future__ import annotations

import numpy as np

from ..case import Array, Case, Tolerance, case, integers, uniform

LAYOUTS = ("contiguous", "strided", "channels_last")
SHAPE = (2, 6, 4, 5)


def spread(values: Array, axis: int, block: int) -> Array:
    """Scales or zero points over the whole tensor."""
    if block:
        return np.repeat(values, block, axis)
    if values.ndim == 0:
        return values
    return values.reshape([-1 if d == axis % 4 else 1 for d in range(4)])


def scales(rng: np.random.Generator, kind: str) -> Array:
    shape = {"tensor": (), "axis": (6,), "block": (2, 3, 4, 5)}[kind]
    # Powers of two: quotients are exact, so that no tie depends on the division's last bit.
    return 2.0 ** rng.integers(-5, -2, shape).astype(np.float64)


for dtype in ("uint8", "int8", "uint16", "int16"):
    info = np.iinfo(dtype)
    for kind in ("tensor", "axis", "block"):
        block = 2 if kind == "block" else 0
        attributes = {"block_size": block} if block else {}
        case(
            Case(
                op="QuantizeLinear",
                name=f"{kind}_{dtype}",
                inputs=lambda rng, k=kind, d=dtype: {
                    "x": uniform(rng, -9, 9, *SHAPE),
                    "scale": scales(rng, k),
                    "zero": integers(rng, 0, 50, *scales(rng, k).shape, dtype=d),
                },
                attributes=attributes,
                oracle=lambda x, s, z, b=block, i=info: np.clip(
                    np.rint(x / spread(s, 1, b)) + spread(z, 1, b), i.min, i.max
                ).astype(z.dtype),
                layouts=LAYOUTS,
            )
        )
        case(
            Case(
                op="DequantizeLinear",
                name=f"{kind}_{dtype}",
                inputs=lambda rng, k=kind, d=dtype, i=info: {
                    "x": integers(rng, i.min, i.max, *SHAPE, dtype=d),
                    "scale": scales(rng, k),
                    "zero": integers(rng, 0, 50, *scales(rng, k).shape, dtype=d),
                },
                attributes=attributes,
                oracle=lambda x, s, z, b=block: (
                    (x.astype(np.float64) - spread(z, 1, b)) * spread(s, 1, b)
                ),
            )
        )
case(
    Case(
        op="QuantizeLinear",
        name="no_zero_point",
        inputs=lambda rng: {"x": uniform(rng, -1, 9, 3, 7), "scale": np.array(0.125)},
        oracle=lambda x, s: np.clip(np.rint(x / s), 0, 255).astype(np.uint8),
    )
)
case(
    Case(
        op="DequantizeLinear",
        name="of_int32",
        inputs=lambda rng: {
            "x": integers(rng, -1000, 1000, 4, 9, dtype="int32"),
            "scale": np.array(0.25),
        },
        oracle=lambda x, s: x * s,
    )
)


def dynamic(x: Array) -> tuple[Array, Array, Array]:
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = (high - low) / 255
    zero = np.rint(np.clip(-low / scale, 0, 255))
    return np.clip(np.rint(x / scale) + zero, 0, 255), np.array(scale), zero


for name, low, high in (
    ("both_signs", -2.0, 3.0),
    ("positive", 1.0, 4.0),
    ("negative", -6.0, -1.0),
):
    case(
        Case(
            op="DynamicQuantizeLinear",
            name=name,
            inputs=lambda rng, a=low, b=high: {"x": uniform(rng, a, b, 7, 11)},
            outputs=3,
            oracle=lambda x: (
                dynamic(x)[0].astype(np.uint8),
                dynamic(x)[1],
                np.asarray(dynamic(x)[2], np.uint8),
            ),
            dtypes=("float32",),
            layouts=("contiguous", "strided"),
            tolerance={"float32": Tolerance(1e-6, "one subtraction and one division")},
        )
    )
