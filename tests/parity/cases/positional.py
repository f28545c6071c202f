"""Operators whose result depends on positions: one-hot, triangles, running sums, top-k."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..case import Array, Case, case, integers, ints, normal
from .movement import ALL_DTYPES, INTEGERS, LAYOUTS, any_values

# OneHot --------------------------------------------------------------------------------------


def one_hot(i: Array, depth: int, values: Array, axis: int) -> Array:
    i = np.where(i < 0, i + depth, i)
    on = np.expand_dims(i, axis) == np.arange(depth).reshape(
        [-1 if d == axis % (i.ndim + 1) else 1 for d in range(i.ndim + 1)]
    )
    return np.where(on, values[1], values[0])


for axis in (-1, 0, 1):
    for dtype in ("int32", "int64", "uint8"):
        case(
            Case(
                op="OneHot",
                name=f"axis{axis}_{dtype}",
                inputs=lambda rng, d=dtype: {
                    "i": integers(rng, 0 if d == "uint8" else -9, 9, 4, 5, dtype=d),
                    "depth": ints(7),
                    "values": np.array([-0.5, 2.0]),
                },
                attributes={"axis": axis},
                constants=("depth",),
                oracle=lambda i, _, v, a=axis: one_hot(i.astype(np.int64), 7, v, a),
                exact=True,
            )
        )
for dtype in ("int64", "uint8", "bool"):
    case(
        Case(
            op="OneHot",
            name=f"values_{dtype}",
            inputs=lambda rng, d=dtype: {
                "i": integers(rng, 0, 5, 6),
                "depth": ints(5),
                "values": np.array([0, 1], d),
            },
            constants=("depth",),
            dtypes=("none",),
            oracle=lambda i, _, v: one_hot(i, 5, v, -1),
        )
    )
case(
    Case(
        op="OneHot",
        name="float_indices",
        inputs=lambda rng: {
            "i": integers(rng, 0, 5, 3, 4).astype(np.float64),
            "depth": ints(5),
            "values": np.array([0.0, 1.0]),
        },
        constants=("depth",),
        oracle=lambda i, _, v: one_hot(i, 5, v, -1),
        layouts=("contiguous", "strided"),
        exact=True,
    )
)

# EyeLike, Trilu ------------------------------------------------------------------------------

for k in (0, 2, -3):
    case(
        Case(
            op="EyeLike",
            name=f"k{k}",
            inputs=lambda rng: {"x": normal(rng, 5, 7)},
            attributes={"k": k},
            oracle=lambda x, k=k: np.eye(5, 7, k),
            exact=True,
        )
    )
case(
    Case(
        op="EyeLike",
        name="of_int32",
        inputs=lambda rng: {"x": normal(rng, 4, 3)},
        attributes={"dtype": 6},
        oracle=lambda x: np.eye(4, 3, dtype=np.int32),
        exact=True,
    )
)
for upper in (0, 1):
    for k in (None, 0, 2, -2, 100):
        case(
            Case(
                op="Trilu",
                name=f"upper{upper}_k{k}",
                inputs=lambda rng, k=k: {
                    "x": normal(rng, 2, 3, 5, 7),
                    **({} if k is None else {"k": np.array(k)}),
                },
                attributes={"upper": upper},
                constants=("k",),
                oracle=lambda x, *_, u=upper, k=k: (np.triu if u else np.tril)(x, k or 0),
                layouts=LAYOUTS,
                exact=True,
            )
        )
for dtype in INTEGERS:
    case(
        Case(
            op="Trilu",
            name=f"of_{dtype}",
            inputs=lambda rng, d=dtype: {"x": any_values(rng, d, 5, 4)},
            dtypes=("none",),
            oracle=np.triu,
        )
    )

# ReverseSequence, CumSum ---------------------------------------------------------------------

for time in (0, 1):
    case(
        Case(
            op="ReverseSequence",
            name=f"time{time}",
            inputs=lambda rng, t=time: {
                "x": normal(rng, *((6, 4) if t == 0 else (4, 6)), 3),
                "lengths": ints(6, 1, 4, 0),
            },
            attributes={"time_axis": time, "batch_axis": 1 - time},
            oracle=lambda x, n, t=time: np.stack(
                [
                    np.concatenate([np.take(x, b, 1 - t)[:m][::-1], np.take(x, b, 1 - t)[m:]])
                    for b, m in enumerate(n)
                ],
                1 - t,
            ),
            layouts=("contiguous", "strided"),
            dtypes=ALL_DTYPES,
            exact=True,
        )
    )


def cumulative_sum(x: Array, axis: int, exclusive: int, reverse: int) -> Array:
    x = np.flip(x, axis) if reverse else x
    y = np.cumsum(x, axis, dtype=x.dtype)
    y = y - x if exclusive else y
    return np.flip(y, axis) if reverse else y


for axis in (0, -1, 1):
    for exclusive, reverse in ((0, 0), (0, 1), (1, 0), (1, 1)):
        case(
            Case(
                op="CumSum",
                name=f"axis{axis}_exclusive{exclusive}_reverse{reverse}",
                inputs=lambda rng, a=axis: {"x": normal(rng, 4, 9, 5), "axis": np.array(a)},
                attributes={"exclusive": exclusive, "reverse": reverse},
                constants=("axis",),
                oracle=lambda x, _, a=axis, e=exclusive, r=reverse: cumulative_sum(x, a, e, r),
                layouts=LAYOUTS,
            )
        )
for dtype in ("int32", "int64", "uint32"):
    case(
        Case(
            op="CumSum",
            name=f"of_{dtype}",
            inputs=lambda rng, d=dtype: {
                "x": integers(rng, 0, 1000, 3, 300, dtype=d),
                "axis": np.array(1),
            },
            constants=("axis",),
            dtypes=("none",),
            oracle=lambda x, _: cumulative_sum(x, 1, 0, 0),
        )
    )

# TopK ----------------------------------------------------------------------------------------


def top_k(x: Array, k: int, axis: int, largest: bool) -> tuple[Array, Array]:
    order = np.argsort(-x if largest else x, axis=axis, kind="stable")
    order = np.take(order, np.arange(k), axis=axis)
    return np.take_along_axis(x, order, axis), order


for axis, k, largest in ((-1, 3, 1), (0, 4, 1), (1, 1, 0), (1, 9, 1), (-1, 0, 1)):
    case(
        Case(
            op="TopK",
            name=f"axis{axis}_k{k}_largest{largest}",
            inputs=lambda rng, k=k: {
                "x": rng.integers(-4, 5, (4, 9, 6)).astype(np.float64),
                "k": ints(k),
            },
            attributes={"axis": axis, "largest": largest},
            constants=("k",),
            outputs=2,
            oracle=lambda x, _, a=axis, k=k, g=largest: top_k(x, k, a, bool(g)),
            layouts=LAYOUTS,
            exact=True,
        )
    )
case(
    Case(
        op="TopK",
        name="long_rows",
        inputs=lambda rng: {"x": normal(rng, 2, 10_007), "k": ints(50)},
        constants=("k",),
        outputs=2,
        oracle=lambda x, _: top_k(x, 50, 1, True),
        dtypes=("float32",),
        exact=True,
    )
)


for largest, k in ((1, 700), (0, 5000)):
    case(
        Case(
            op="TopK",
            name=f"many_of_long_rows_{largest}",
            inputs=lambda rng, k=k: {
                "x": rng.integers(-900, 900, (2, 5000, 2)).astype(np.float64),
                "k": ints(k),
            },
            attributes={"axis": 1, "largest": largest},
            constants=("k",),
            outputs=2,
            oracle=lambda x, _, k=k, g=largest: top_k(x, k, 1, bool(g)),
            dtypes=("float32",),
            exact=True,
        )
    )


def _typed(values_and_places: tuple[Array, Array], dtype: np.dtype[Any]) -> tuple[Array, Array]:
    values, places = values_and_places
    return values.astype(dtype), places


for dtype in ("int32", "uint8", "int64"):
    case(
        Case(
            op="TopK",
            name=f"of_{dtype}",
            inputs=lambda rng, d=dtype: {"x": integers(rng, 0, 9, 3, 20, dtype=d), "k": ints(5)},
            constants=("k",),
            outputs=2,
            dtypes=("none",),
            oracle=lambda x, _: _typed(top_k(x.astype(np.int64), 5, 1, True), x.dtype),
        )
    )
