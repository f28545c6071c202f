"""Reductions and arg-extremes: axes, keepdims, long rows, every type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..case import Array, Case, Tolerance, case, integers, ints, normal, uniform

LAYOUTS = ("contiguous", "strided", "channels_last")


def log_sum_exp(x: Array, axis: tuple[int, ...] | None, keepdims: bool) -> Array:
    m = np.max(x, axis=axis, keepdims=True)
    m = np.where(np.isfinite(m), m, 0.0)
    s = np.log(np.sum(np.exp(x - m), axis=axis, keepdims=True)) + m
    return s if keepdims else np.squeeze(s, axis=axis)


REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceSum": lambda x, a, k: np.sum(x, axis=a, keepdims=k),
    "ReduceMean": lambda x, a, k: np.mean(x, axis=a, keepdims=k),
    "ReduceProd": lambda x, a, k: np.prod(x, axis=a, keepdims=k),
    "ReduceMax": lambda x, a, k: np.max(x, axis=a, keepdims=k),
    "ReduceMin": lambda x, a, k: np.min(x, axis=a, keepdims=k),
    "ReduceL1": lambda x, a, k: np.sum(np.abs(x), axis=a, keepdims=k),
    "ReduceL2": lambda x, a, k: np.sqrt(np.sum(x * x, axis=a, keepdims=k)),
    "ReduceSumSquare": lambda x, a, k: np.sum(x * x, axis=a, keepdims=k),
    "ReduceLogSum": lambda x, a, k: np.log(np.sum(x, axis=a, keepdims=k)),
    "ReduceLogSumExp": log_sum_exp,
}


def add(
    op: str,
    name: str,
    data: Callable[[np.random.Generator], Array],
    axes: tuple[int, ...] | None,
    keepdims: bool = True,
    **options: Any,
) -> None:
    oracle = REDUCTIONS[op]
    case(
        Case(
            op=op,
            name=name,
            inputs=lambda rng: {
                "x": data(rng),
                **({} if axes is None else {"axes": ints(*axes)}),
            },
            attributes={"keepdims": int(keepdims)},
            constants=("axes",),
            oracle=lambda x, *_: oracle(x, axes, keepdims),
            **options,
        )
    )


for op in REDUCTIONS:

    def positive(rng: np.random.Generator, *shape: int) -> Array:
        return uniform(rng, 0.5, 1.5, *shape)

    add(op, "spatial", lambda rng: positive(rng, 3, 5, 7, 11), (2, 3), layouts=LAYOUTS)
    add(op, "channel", lambda rng: positive(rng, 2, 19, 5, 6), (-3,), False, layouts=LAYOUTS)
    add(
        op,
        "mixed",
        lambda rng: positive(rng, 3, 4, 5, 6),
        (0, 2),
        layouts=LAYOUTS,
        dtypes=("float32", "float16", "bfloat16", "float64"),
    )
    add(op, "all", lambda rng: positive(rng, 5, 9), None)
    add(op, "long_row", lambda rng: uniform(rng, 0.999, 1.001, 2, 300), (1,), False)

LONG = Tolerance(2e-5, "a sum of 200,000 float32 terms, in blocks")
for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2", "ReduceLogSumExp"):
    add(
        op,
        "huge_row",
        lambda rng: normal(rng, 200_003) + 1.0,
        None,
        dtypes=("float32",),
        tolerance={"float32": LONG},
    )
add("ReduceMean", "two_long_rows", lambda rng: normal(rng, 2, 3, 9001) + 2.0, (-1,), False)
add("ReduceMax", "negative", lambda rng: -np.abs(normal(rng, 4, 33)) - 1, (1,), exact=True)
add("ReduceSum", "scalar", lambda rng: normal(rng), None)
add("ReduceSum", "size_one_axes", lambda rng: normal(rng, 4, 1, 3, 1), (1, 3), False)
for op in ("ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin", "ReduceLogSumExp"):
    empty = {"ReduceSum": 0.0, "ReduceProd": 1.0, "ReduceMax": -np.inf, "ReduceMin": np.inf}
    case(
        Case(
            op=op,
            name="empty_set",
            inputs=lambda rng: {"x": np.zeros((3, 0, 4)), "axes": ints(1)},
            constants=("axes",),
            oracle=lambda x, _, value=empty.get(op, -np.inf): np.full((3, 1, 4), value),
        )
    )
case(
    Case(
        op="ReduceSum",
        name="empty_result",
        inputs=lambda rng: {"x": np.zeros((3, 0, 4)), "axes": ints(2)},
        constants=("axes",),
        oracle=lambda x, _: x.sum(2, keepdims=True),
    )
)
case(
    Case(
        op="ReduceSumSquare",
        name="noop_maps_each_element",
        inputs=lambda rng: {"x": normal(rng, 3, 5), "axes": ints()},
        attributes={"noop_with_empty_axes": 1},
        constants=("axes",),
        oracle=lambda x, _: x * x,
    )
)


def with_nan(rng: np.random.Generator) -> Array:
    x = normal(rng, 6, 40)
    x[1, 3] = x[4, 39] = np.nan
    x[2, :] = -np.inf
    x[3, 7] = np.inf
    return x


for op in ("ReduceMax", "ReduceMin", "ReduceLogSumExp"):
    add(op, "nan_and_inf", with_nan, (1,))

for dtype in ("int8", "uint8", "int32", "uint32", "int64"):
    for op in ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"):
        low = 0 if dtype.startswith("u") else -2
        case(
            Case(
                op=op,
                name=f"of_{dtype}",
                inputs=lambda rng, d=dtype, n=low: {
                    "x": integers(rng, n, 3, 3, 6, 5, dtype=d),
                    "axes": ints(1),
                },
                constants=("axes",),
                dtypes=("none",),
                oracle=lambda x, _, f=REDUCTIONS[op]: f(x, (1,), True).astype(x.dtype),
            )
        )
for op in ("ReduceMax", "ReduceMin"):
    case(
        Case(
            op=op,
            name="of_bool",
            inputs=lambda rng: {"x": integers(rng, 0, 2, 4, 3, 5, dtype="bool"), "axes": ints(1)},
            constants=("axes",),
            dtypes=("none",),
            oracle=lambda x, _, f=REDUCTIONS[op]: f(x, (1,), True),
        )
    )


def arg(op: str, x: Array, axis: int, keepdims: bool, last: bool) -> Array:
    pick = np.argmax if op == "ArgMax" else np.argmin
    place = pick(np.flip(x, axis) if last else x, axis=axis)
    result = x.shape[axis] - 1 - place if last else place
    return np.expand_dims(result, axis) if keepdims else np.asarray(result)


for op in ("ArgMax", "ArgMin"):
    for axis, keepdims, last in ((0, True, False), (-1, False, True), (1, True, True)):
        case(
            Case(
                op=op,
                name=f"axis{axis}_keep{int(keepdims)}_last{int(last)}",
                inputs=lambda rng: {"x": rng.integers(0, 5, (4, 9, 6)).astype(np.float64)},
                attributes={
                    "axis": axis,
                    "keepdims": int(keepdims),
                    "select_last_index": int(last),
                },
                layouts=LAYOUTS,
                oracle=lambda x, o=op, a=axis, k=keepdims, s=last: arg(o, x, a, k, s),
            )
        )
    case(
        Case(
            op=op,
            name="long_row",
            inputs=lambda rng: {"x": normal(rng, 3, 1000)},
            attributes={"axis": 1},
            oracle=lambda x, o=op: arg(o, x, 1, True, False),
        )
    )
    case(
        Case(
            op=op,
            name="nan",
            inputs=lambda rng: {"x": with_nan(rng)},
            attributes={"axis": 1},
            oracle=lambda x, o=op: arg(o, x, 1, True, False),
        )
    )
    for dtype in ("uint8", "int32"):
        case(
            Case(
                op=op,
                name=f"of_{dtype}",
                inputs=lambda rng, d=dtype: {"x": integers(rng, 0, 9, 5, 7, dtype=d)},
                attributes={"axis": 1},
                dtypes=("none",),
                oracle=lambda x, o=op: arg(o, x, 1, True, False),
            )
        )
for op in ("ReduceMin", "ReduceMax", "ReduceSum"):
    for dtype in ("uint64", "int64"):
        case(
            Case(
                op=op,
                name=f"beyond_32_bits_{dtype}",
                inputs=lambda rng, d=dtype: {
                    "x": integers(rng, 1 << 33, 1 << 40, 5, 7, dtype=d),
                    "axes": np.array([1]),
                },
                constants=("axes",),
                attributes={"keepdims": 0},
                dtypes=("none",),
                oracle=lambda x, _, o=op: getattr(x, o.removeprefix("Reduce").lower())(1),
            )
        )
