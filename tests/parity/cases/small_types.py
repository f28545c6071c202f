"""Storage-only types: casts, quantization and movement of 8, 4 and 2-bit numbers (ml_dtypes)."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from ..case import Array, Case, case, ints, normal

FLOATS = {
    17: "float8_e4m3fn",
    18: "float8_e4m3fnuz",
    19: "float8_e5m2",
    20: "float8_e5m2fnuz",
    23: "float4_e2m1fn",
}
INTEGERS = {21: "uint4", 22: "int4", 25: "uint2", 26: "int2"}


def numpy_type(name: str) -> Any:
    return np.dtype(getattr(ml_dtypes, name))


def every_value(name: str) -> Array:
    """All bit patterns of a type."""
    bits = {"4": 4, "2": 2}.get(name.removeprefix("u").removeprefix("int")[:1], 8)
    bits = 4 if name == "float4_e2m1fn" else bits
    return np.arange(2**bits, dtype=np.uint8).view(numpy_type(name))


def spread(rng: np.random.Generator) -> Array:
    """Numbers over many binades, ties, zeros and infinities; exact in fp16."""
    x = normal(rng, 40, 30) * 2.0 ** rng.integers(-18, 9, (40, 30))
    special = [0.0, -0.0, np.inf, -np.inf, *(448, 464, 465, -480, 240, 248, 6, 7), 2.5, 3.5, 0.75]
    return np.concatenate([x.reshape(-1), special]).astype(np.float16).astype(np.float64)


def to_small(x: Array, name: str, saturate: bool) -> Array:
    limit = float(ml_dtypes.finfo(numpy_type(name)).max)
    clipped = np.clip(x, -limit, limit) if saturate else x
    return clipped.astype(np.float32).astype(numpy_type(name))


for number, name in FLOATS.items():
    for saturate in (1, 0):
        case(
            Case(
                op="Cast",
                name=f"to_{name}_{'clamped' if saturate else 'overflowing'}",
                inputs=lambda rng: {"x": spread(rng)},
                attributes={"to": number, "saturate": saturate},
                oracle=lambda x, n=name, s=saturate: to_small(x, n, bool(s)),
                exact=True,
            )
        )
RANGES = {"int4": (-8, 8), "int2": (-2, 2), "uint4": (0, 16), "uint2": (0, 4)}
for number, name in INTEGERS.items():
    low, high = RANGES[name]
    for dtype in (np.int8, np.float32):
        case(
            Case(
                op="Cast",
                name=f"to_{name}_of_{np.dtype(dtype).name}",
                inputs=lambda rng, a=low, b=high, d=dtype: {"x": rng.integers(a, b, 77).astype(d)},
                attributes={"to": number},
                oracle=lambda x, n=name: x.astype(np.int8).astype(numpy_type(n)),
                dtypes=("none",),
                exact=True,
            )
        )
for name in [*FLOATS.values(), *INTEGERS.values()]:
    case(
        Case(
            op="Cast",
            name=f"of_{name}",
            inputs=lambda rng, n=name: {"x": every_value(n)},
            attributes={"to": 1},
            oracle=lambda x: x.astype(np.float32),
            dtypes=("none",),
            exact=True,
        )
    )
    case(
        Case(
            op="Transpose",
            name=f"of_{name}",
            inputs=lambda rng, n=name: {"x": every_value(n).reshape(2, -1)},
            oracle=lambda x, n=name: x.T.astype(numpy_type(n)),
            dtypes=("none",),
            exact=True,
        )
    )
    case(
        Case(
            op="DequantizeLinear",
            name=f"of_{name}",
            inputs=lambda rng, n=name: {
                "x": every_value(n)[np.isfinite(every_value(n).astype(np.float32))],
                "scale": np.array(0.5),
            },
            oracle=lambda x, s: x * s,
        )
    )
for mode in ("up", "down", "nearest"):
    case(
        Case(
            op="Cast",
            name=f"to_float8_e8m0fnu_{mode}",
            inputs=lambda rng: {"x": np.abs(spread(rng)[:-15]) + 2.0**-20},
            attributes={"to": 24, "round_mode": mode},
            oracle=lambda x, m=mode: (
                2.0 ** {"up": np.ceil, "down": np.floor}.get(m, nearest)(np.log2(x))
            ).astype(numpy_type("float8_e8m0fnu")),
            dtypes=("float32",),
            exact=True,
        )
    )


def nearest(log: Array) -> Array:
    """The nearer of both powers of two by value, the greater of a tie."""
    low = np.floor(log)
    return np.where(2.0**log - 2.0**low < 2.0 ** (low + 1) - 2.0**log, low, low + 1)


for name in ("int4", "uint4", "int2", "uint2"):
    info = ml_dtypes.iinfo(numpy_type(name))
    case(
        Case(
            op="QuantizeLinear",
            name=f"to_{name}",
            inputs=lambda rng, n=name: {
                "x": normal(rng, 3, 8, scale=4),
                "scale": np.array([0.5, 1, 2, 4, 0.25, 8, 1, 1]),
                "zero": np.array([1, 0, 1, 1, 0, 1, 0, 1]).astype(numpy_type(n)),
            },
            oracle=lambda x, s, z, n=name, i=info: np.clip(
                np.rint(x / s) + z, int(i.min), int(i.max)
            ).astype(numpy_type(n)),
            exact=True,
        )
    )
for number, name in FLOATS.items():
    case(
        Case(
            op="QuantizeLinear",
            name=f"to_{name}",
            inputs=lambda rng: {"x": normal(rng, 6, 8, scale=30), "scale": np.array(0.5)},
            attributes={"output_dtype": number},
            oracle=lambda x, s, n=name: to_small(x / s, n, True),
            exact=True,
        )
    )
case(
    Case(
        op="Gather",
        name="of_int4",
        inputs=lambda rng: {"x": every_value("int4").reshape(4, 4), "i": ints(3, 0)},
        oracle=lambda x, i: x[i].astype(numpy_type("int4")),
        dtypes=("none",),
        exact=True,
    )
)
