"""Pointwise operators of integers and bools, in every type that ONNX allows.

Integers wrap as NumPy's do. Division truncates toward 0; x / 0 is 0 and the remainder x by 0 is x,
where ONNX defines nothing: dlk promises that no operand traps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..case import Array, Case, case, integers
from .movement import any_values

SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
ALL = SIGNED + UNSIGNED


def edges(dtype: str) -> Array:
    info = np.iinfo(dtype)
    values = {info.min, info.min + 1, 0, 1, 2, 3, 5, 7, info.max - 1, info.max}
    if info.min < 0:
        values |= {-1, -2, -3, -7}
    return np.array(sorted(values), dtype=dtype)


def all_pairs(dtype: str) -> dict[str, Array]:
    """Every edge value against every other, by broadcasting."""
    e = edges(dtype)
    return {"a": e[:, None], "b": e[None, :]}


def add(
    op: str,
    oracle: Callable[..., Any],
    dtypes: Sequence[str],
    inputs: Callable[[np.random.Generator, str], Mapping[str, Array | None]],
    name: str = "",
    **options: Any,
) -> None:
    for dtype in dtypes:
        case(
            Case(
                op=op,
                name=f"{name}{dtype}",
                inputs=lambda rng, d=dtype: inputs(rng, d),
                oracle=oracle,
                dtypes=("none",),
                **options,
            )
        )


def _quotient(a: Array, b: Array) -> Array:
    """Rounded toward 0, without Python's floor and without traps."""
    wide = [int(v) for v in np.broadcast_arrays(a, b)[0].ravel()]
    divisors = [int(v) for v in np.broadcast_arrays(a, b)[1].ravel()]
    shape = np.broadcast_shapes(a.shape, b.shape)
    result = []
    for x, y in zip(wide, divisors, strict=True):
        q = 0 if y == 0 else abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
        result.append(q)
    return _wrapped(result, a.dtype).reshape(shape)


def _wrapped(values: Sequence[int], dtype: np.dtype[Any]) -> Array:
    bits = 8 * dtype.itemsize
    low = [v & ((1 << bits) - 1) for v in values]
    return np.array(low, np.uint64).astype(f"uint{bits}").view(dtype)


def _remainder(a: Array, b: Array, like_c: bool) -> Array:
    x, y = np.broadcast_arrays(a, b)
    result = []
    for p, q in zip(x.ravel().tolist(), y.ravel().tolist(), strict=True):
        if q == 0:
            r = p
        else:
            r = abs(p) % abs(q) * (-1 if p < 0 else 1)
            if not like_c and r != 0 and (r < 0) != (q < 0):
                r += q
        result.append(r)
    return _wrapped(result, a.dtype).reshape(x.shape)


def pairs(rng: np.random.Generator, dtype: str) -> dict[str, Array]:
    return all_pairs(dtype)


for _op, _function in (
    ("Add", np.add),
    ("Sub", np.subtract),
    ("Mul", np.multiply),
    ("Equal", np.equal),
    ("Greater", np.greater),
    ("GreaterOrEqual", np.greater_equal),
    ("Less", np.less),
    ("LessOrEqual", np.less_equal),
    ("Max", np.maximum),
    ("Min", np.minimum),
    ("BitwiseAnd", np.bitwise_and),
    ("BitwiseOr", np.bitwise_or),
    ("BitwiseXor", np.bitwise_xor),
    ("Div", _quotient),
    ("Mod", lambda a, b: _remainder(a, b, False)),
):
    add(_op, _function, ALL, pairs)
add(
    "Mod",
    lambda a, b: _remainder(a, b, True),
    ALL,
    pairs,
    "like_c_",
    attributes={"fmod": 1},
)


def _one(rng: np.random.Generator, dtype: str) -> dict[str, Array]:
    return {"x": np.resize(edges(dtype), (3, 5, 7))}


add("Abs", np.abs, ALL, _one)
add("Neg", np.negative, SIGNED, _one)
add("Sign", np.sign, ALL, _one)
add("Relu", lambda x: np.maximum(x, 0), SIGNED, _one)
add("BitwiseNot", np.invert, ALL, _one)


def _shifts(rng: np.random.Generator, dtype: str) -> dict[str, Array]:
    bits = 8 * np.dtype(dtype).itemsize
    return {"a": any_values(rng, dtype, 5, bits), "b": np.arange(bits).astype(dtype)}


add("BitShift", np.left_shift, UNSIGNED, _shifts, "left_", attributes={"direction": "LEFT"})
add("BitShift", np.right_shift, UNSIGNED, _shifts, "right_", attributes={"direction": "RIGHT"})


def _prelu(x: Array, slope: Array) -> Array:
    return np.where(x < 0, slope * x, x)


add(
    "PRelu",
    _prelu,
    ("int32", "int64", "uint32", "uint64"),
    lambda rng, d: {
        "x": any_values(rng, d, 3, 5) % 100 - (50 if d[0] == "i" else 0),
        "s": integers(rng, 0, 4, 5, dtype=d),
    },
)


def _shrink(x: Array) -> Array:
    return np.where(x < -2, x + 1, np.where(x > 2, x - 1, 0)).astype(x.dtype)


add(
    "Shrink",
    _shrink,
    SIGNED,
    lambda rng, d: {"x": integers(rng, -9, 10, 3, 5, dtype=d)},
    attributes={"lambd": 2.0, "bias": 1.0},
)


def _powers(rng: np.random.Generator, dtype: str) -> dict[str, Array]:
    """All that fit."""
    limit = np.iinfo(dtype).max
    chosen = [(b, e) for b in range(-7, 12) for e in range(40) if abs(b) ** e <= limit]
    return {
        "a": np.array([b for b, _ in chosen], dtype),
        "b": np.array([e for _, e in chosen], dtype),
    }


add("Pow", np.power, ("int32", "int64"), _powers)
for _dtype, _exponent in (("int32", "uint8"), ("int64", "int32"), ("int32", "int64")):
    case(
        Case(
            op="Pow",
            name=f"{_dtype}_to_{_exponent}",
            inputs=lambda rng, d=_dtype, e=_exponent: {
                "a": integers(rng, -6, 7, 5, 9, dtype=d),
                "b": integers(rng, 0, 8, 9, dtype=e),
            },
            oracle=lambda a, b: np.power(a, b.astype(a.dtype)),
            dtypes=("none",),
        )
    )
for _exponent in ("int32", "int64", "uint8"):
    case(
        Case(
            op="Pow",
            name=f"float_to_{_exponent}",
            inputs=lambda rng, e=_exponent: {
                "a": rng.uniform(-2, 2, (5, 9)),
                "b": integers(rng, 0, 6, 9, dtype=e),
            },
            oracle=np.power,
        )
    )


def _bounds(rng: np.random.Generator, dtype: str) -> dict[str, Array | None]:
    low = 3 if dtype[0] == "u" else -5
    return {
        "x": any_values(rng, dtype, 5, 9),
        "low": np.array(low, dtype),
        "high": np.array(100, dtype),
    }


add("Clip", lambda x, low, high: np.minimum(np.maximum(x, low), high), ALL, _bounds)
add(
    "Clip",
    lambda x, low, high: np.minimum(np.maximum(x, low), high),
    ("int64", "uint8"),
    _bounds,
    "constant_",
    constants=("low", "high"),
)


def _choices(rng: np.random.Generator, dtype: str) -> dict[str, Array]:
    return {
        "c": integers(rng, 0, 2, 5, 1, dtype="bool"),
        "x": any_values(rng, dtype, 5, 9),
        "y": any_values(rng, dtype, 9),
    }


add("Where", np.where, (*ALL, "bool"), _choices)


# Bools ----------------------------------------------------------------------------------------

for _op, _function in (
    ("And", np.logical_and),
    ("Or", np.logical_or),
    ("Xor", np.logical_xor),
    ("Equal", np.equal),
):
    for _name, _first, _second in (
        ("bools", (3, 5, 7), (3, 5, 7)),
        ("bools_broadcast", (3, 1, 7), (5, 1)),
        ("bools_scalars", (), ()),
        ("bools_empty", (0, 3), (1, 3)),
    ):
        case(
            Case(
                op=_op,
                name=_name,
                inputs=lambda rng, f=_first, s=_second: {
                    "a": np.asarray(rng.random(f) < 0.5),
                    "b": np.asarray(rng.random(s) < 0.5),
                },
                oracle=_function,
                dtypes=("none",),
            )
        )
case(
    Case(
        op="Not",
        name="bools",
        inputs=lambda rng: {"x": integers(rng, 0, 2, 3, 5, 7, dtype="bool")},
        oracle=np.logical_not,
        dtypes=("none",),
    )
)
