"""Operators about shapes: views of the input, numbers that the host knows, constant tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..case import Array, Case, case, ints, normal
from .movement import ALL_DTYPES, INTEGERS, any_values

LAYOUTS = ("contiguous", "strided", "channels_last")


# Reshape, Flatten, Squeeze, Unsqueeze, Identity, Dropout --------------------------------------


def add_reshape(
    name: str, shape: Sequence[int], wanted: Sequence[int], result: Sequence[int], **options: Any
) -> None:
    case(
        Case(
            op="Reshape",
            name=name,
            inputs=lambda rng: {"x": normal(rng, *shape), "shape": ints(*wanted)},
            constants=("shape",),
            oracle=lambda x, _: x.reshape(result),
            exact=True,
            **options,
        )
    )


add_reshape("merge", (3, 5, 7), (15, 7), (15, 7), layouts=LAYOUTS, dtypes=ALL_DTYPES)
add_reshape("split", (2, 12, 5), (2, 3, 4, -1), (2, 3, 4, 5), layouts=LAYOUTS)
add_reshape("mix", (4, 6, 5), (5, -1, 8), (5, 3, 8), layouts=LAYOUTS)
add_reshape("copies_axes", (3, 4, 5), (0, 0, 5, 1), (3, 4, 5, 1), layouts=LAYOUTS)
add_reshape("vector", (2, 3, 4, 5), (-1,), (120,), layouts=LAYOUTS)
add_reshape("to_scalar", (1, 1), (), ())
add_reshape("from_scalar", (), (1, -1, 1), (1, 1, 1))
add_reshape("ones", (1, 6, 1), (1, 1, 2, 1, 3, 1), (1, 1, 2, 1, 3, 1), layouts=LAYOUTS)
add_reshape("empty", (2, 0, 3), (0, 3, -1), (2, 3, 0))
add_reshape("allowzero", (2, 0, 3), (0, 7), (0, 7), attributes={"allowzero": 1})
add_reshape("rank8", (2, 3, 2, 2, 1, 2, 3, 2), (6, 4, 12), (6, 4, 12), layouts=("strided",))

for axis, result in ((0, (1, 120)), (1, (2, 60)), (3, (24, 5)), (4, (120, 1)), (-2, (6, 20))):
    case(
        Case(
            op="Flatten",
            name=f"axis{axis}",
            inputs=lambda rng: {"x": normal(rng, 2, 3, 4, 5)},
            attributes={"axis": axis},
            oracle=lambda x, r=result: x.reshape(r),
            layouts=LAYOUTS,
            exact=True,
        )
    )
case(
    Case(
        op="Flatten",
        name="scalar",
        inputs=lambda rng: {"x": normal(rng)},
        attributes={"axis": 0},
        oracle=lambda x: x.reshape(1, 1),
        exact=True,
    )
)

for name, shape, axes, result in (
    ("all", (1, 3, 1, 5, 1), None, (3, 5)),
    ("some", (1, 3, 1, 5, 1), (0, -1), (3, 1, 5)),
    ("one", (2, 3, 1, 5), (2,), (2, 3, 5)),
    ("to_scalar", (1, 1), None, ()),
    ("empty", (1, 0, 1), (0,), (0, 1)),
):
    case(
        Case(
            op="Squeeze",
            name=name,
            inputs=lambda rng, s=shape, a=axes: {
                "x": normal(rng, *s),
                "axes": None if a is None else ints(*a),
            },
            constants=("axes",),
            oracle=lambda x, _, r=result: x.reshape(r),
            layouts=LAYOUTS if name == "one" else ("contiguous", "strided"),
            dtypes=ALL_DTYPES,
            exact=True,
        )
    )
for name, shape, axes, result in (
    ("front", (3, 5), (0,), (1, 3, 5)),
    ("several", (3, 5), (4, 0, 2), (1, 3, 1, 5, 1)),
    ("negative", (3, 5), (-1, -3), (3, 1, 5, 1)),
    ("scalar", (), (0, 1), (1, 1)),
    ("empty", (0, 3), (1,), (0, 1, 3)),
):
    case(
        Case(
            op="Unsqueeze",
            name=name,
            inputs=lambda rng, s=shape, a=axes: {"x": normal(rng, *s), "axes": ints(*a)},
            constants=("axes",),
            oracle=lambda x, _, r=result: x.reshape(r),
            layouts=("contiguous", "strided"),
            dtypes=ALL_DTYPES,
            exact=True,
        )
    )

for name, shape in (("odd", (2, 3, 5, 7)), ("scalar", ()), ("empty", (3, 0))):
    for op in ("Identity", "Dropout"):
        case(
            Case(
                op=op,
                name=name,
                inputs=lambda rng, s=shape: {"x": normal(rng, *s)},
                oracle=lambda x: x,
                layouts=LAYOUTS if name == "odd" else ("contiguous",),
                dtypes=ALL_DTYPES,
                exact=True,
            )
        )
for dtype in INTEGERS:
    case(
        Case(
            op="Identity",
            name=f"of_{dtype}",
            inputs=lambda rng, d=dtype: {"x": any_values(rng, d, 3, 5)},
            oracle=lambda x: x,
            dtypes=("none",),
        )
    )
case(
    Case(
        op="Dropout",
        name="mask",
        inputs=lambda rng: {"x": normal(rng, 2, 3, 5), "ratio": np.array(0.5)},
        constants=("ratio",),
        outputs=2,
        oracle=lambda x, r: (x, np.ones(x.shape, bool)),
        layouts=LAYOUTS,
        exact=True,
    )
)


# Transpose, Expand ----------------------------------------------------------------------------

for name, shape, perm in (
    ("reversed", (2, 3, 5), None),
    ("matrix", (33, 65), (1, 0)),
    ("to_channels_last", (2, 3, 5, 7), (0, 2, 3, 1)),
    ("from_channels_last", (2, 5, 7, 3), (0, 3, 1, 2)),
    ("identity", (2, 3, 4), (0, 1, 2)),
    ("ones", (1, 4, 1, 5), (3, 0, 1, 2)),
    ("rank6", (2, 3, 2, 4, 1, 3), (5, 2, 0, 3, 1, 4)),
    ("rank8", (2, 3, 1, 2, 2, 1, 3, 2), (7, 0, 6, 1, 5, 2, 4, 3)),
    ("vector", (7,), (0,)),
    ("scalar", (), ()),
    ("empty", (2, 0, 3), (2, 0, 1)),
):
    case(
        Case(
            op="Transpose",
            name=name,
            inputs=lambda rng, s=shape: {"x": normal(rng, *s)},
            attributes={} if perm is None else {"perm": ("ints", list(perm))},
            oracle=lambda x, p=perm: np.transpose(x, p),
            layouts=("contiguous", "strided") if name == "rank8" else LAYOUTS,
            dtypes=("float32",) if name == "rank8" else ALL_DTYPES,
            exact=True,
        )
    )
for dtype in INTEGERS:
    case(
        Case(
            op="Transpose",
            name=f"of_{dtype}",
            inputs=lambda rng, d=dtype: {"x": any_values(rng, d, 3, 5, 2)},
            attributes={"perm": [2, 0, 1]},
            oracle=lambda x: x.transpose(2, 0, 1),
            dtypes=("none",),
        )
    )
    case(
        Case(
            op="Expand",
            name=f"of_{dtype}",
            inputs=lambda rng, d=dtype: {"x": any_values(rng, d, 3, 1), "shape": ints(2, 3, 5)},
            constants=("shape",),
            oracle=lambda x, s: np.broadcast_to(x, (2, 3, 5)),
            dtypes=("none",),
        )
    )
for name, shape, wanted, result in (
    ("inner", (3, 1), (3, 5), (3, 5)),
    ("more_axes", (3, 1, 4), (2, 3, 5, 1), (2, 3, 5, 4)),
    ("smaller_shape", (2, 3, 4), (1, 4), (2, 3, 4)),
    ("scalar", (), (2, 3), (2, 3)),
    ("to_itself", (2, 3), (2, 3), (2, 3)),
    ("to_nothing", (1, 3), (0, 3), (0, 3)),
    ("rank8", (1, 2, 1, 1, 3, 1, 2, 1), (2, 1, 3, 1, 1, 2, 1, 2), (2, 2, 3, 1, 3, 2, 2, 2)),
):
    case(
        Case(
            op="Expand",
            name=name,
            inputs=lambda rng, s=shape, w=wanted: {"x": normal(rng, *s), "shape": ints(*w)},
            constants=("shape",),
            oracle=lambda x, _, r=result: np.broadcast_to(x, r),
            layouts=("contiguous", "strided"),
            dtypes=ALL_DTYPES,
            exact=True,
        )
    )


# Shape, Size, Range, ConstantOfShape ----------------------------------------------------------

for name, attributes in (
    ("whole", {}),
    ("start", {"start": 1}),
    ("end", {"end": -1}),
    ("both", {"start": -3, "end": 3}),
    ("beyond", {"start": -9, "end": 99}),
    ("nothing", {"start": 3, "end": 1}),
):
    case(
        Case(
            op="Shape",
            name=name,
            inputs=lambda rng: {"x": normal(rng, 2, 0, 5, 7)},
            attributes=attributes,
            oracle=lambda x, a=attributes: np.array(x.shape[a.get("start") : a.get("end")], int),
            dtypes=("float32",),
        )
    )
for name, shape in (("odd", (3, 5, 7)), ("scalar", ()), ("empty", (4, 0))):
    case(
        Case(
            op="Size",
            name=name,
            inputs=lambda rng, s=shape: {"x": normal(rng, *s)},
            oracle=lambda x: np.array(x.size, np.int64),
            dtypes=("float32",),
        )
    )
    case(
        Case(
            op="Shape",
            name=name,
            inputs=lambda rng, s=shape: {"x": normal(rng, *s)},
            oracle=lambda x: np.array(x.shape, np.int64),
            dtypes=("float32",),
        )
    )

for name, dtype, bounds in (
    ("int64", "int64", (3, 20, 4)),
    ("int32_down", "int32", (10, -7, -3)),
    ("int16", "int16", (-5, 5, 2)),
    ("int64_wide", "int64", (2**40, 2**40 + 10, 3)),
    ("nothing", "int64", (5, 5, 1)),
    ("backwards", "int32", (0, 5, -1)),
    ("float32", "float32", (0.5, 9.0, 0.75)),
    ("float64", "float64", (1.0, -2.0, -0.25)),
):
    case(
        Case(
            op="Range",
            name=name,
            inputs=lambda rng, d=dtype, b=bounds: {
                n: np.array(v, d) for n, v in zip(("start", "limit", "step"), b, strict=True)
            },
            constants=("start", "limit", "step"),
            oracle=lambda start, limit, step, d=dtype: np.arange(start, limit, step).astype(d),
            dtypes=("none",),
        )
    )
case(
    Case(
        op="Range",
        name="bounds_of_the_run",
        inputs=lambda rng: {n: np.array(v) for n, v in (("start", 2), ("limit", 99), ("step", 5))},
        oracle=lambda start, limit, step: np.arange(start, limit, step),
        dtypes=("none",),
    )
)

for dtype in ("float32", "float16", "float64", *INTEGERS):
    value = any_values(np.random.default_rng(7), dtype, 1) if dtype in INTEGERS else None
    value = np.array([-1.75], dtype) if value is None else value
    case(
        Case(
            op="ConstantOfShape",
            name=dtype,
            inputs=lambda rng: {"shape": ints(3, 5, 7)},
            constants=("shape",),
            attributes={"value": value},
            oracle=lambda s, v=value: np.full((3, 5, 7), v[0]),
            dtypes=("none",),
        )
    )
for name, shape in (("default", (2, 3)), ("scalar", ()), ("empty", (2, 0))):
    case(
        Case(
            op="ConstantOfShape",
            name=name,
            inputs=lambda rng, s=shape: {"shape": ints(*s)},
            constants=("shape",),
            oracle=lambda _, s=shape: np.zeros(s, np.float32),
            dtypes=("none",),
        )
    )


# Cast, CastLike -------------------------------------------------------------------------------

FLOATS = ("float16", "bfloat16", "float32", "float64")


def numpy_dtype(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def cast_inputs(rng: np.random.Generator, source: str, target: str) -> Array:
    """Values of `source` that `target` defines: floats must be in the range of an integer type."""
    if source == "bool":
        return np.array([[True, False, True], [False, True, True]])
    if source not in FLOATS:
        return any_values(rng, source, 5, 7)
    if target in FLOATS:
        values = rng.standard_normal(40) * 10.0 ** rng.integers(-6, 6, 40)
        extra = [np.nan, np.inf, -np.inf, 0.0, 1e30, -1e30, 1.0 + 2**-9, 1.0 + 3 * 2**-9, 65519.0]
        values = np.concatenate([values, extra])
    elif target == "bool":
        values = np.array([0.0, -0.0, 0.25, -3.0, np.nan, np.inf])
    else:
        info = np.iinfo(target)
        low, high = max(info.min, -1000), min(info.max, 1000)
        values = np.concatenate(
            [rng.uniform(low, high, 30), [low, high, 0.0, 0.5, 0.99, 1.5], -np.array([0.5, 0.9])]
        )
    with np.errstate(over="ignore"):
        return values.astype(numpy_dtype(source))


def cast_oracle(source: str, target: str) -> Any:
    def oracle(x: Array, *_: Any) -> Array:
        # The harness widens floats to float64, which is exact; bool is true for every non-zero.
        with np.errstate(all="ignore"):
            return np.asarray(x != 0 if target == "bool" else x.astype(numpy_dtype(target)))

    return oracle


for source in (*FLOATS, *INTEGERS):
    for target in (*FLOATS, *INTEGERS):
        case(
            Case(
                op="Cast",
                name=f"{source}_to_{target}",
                inputs=lambda rng, s=source, t=target: {"x": cast_inputs(rng, s, t)},
                attributes={"to": target},
                oracle=cast_oracle(source, target),
                dtypes=("none",),
                exact=True,
            )
        )
for source, target in (
    ("float32", "int32"),
    ("int64", "float16"),
    ("float16", "float32"),
    ("uint8", "bool"),
    ("float32", "float32"),
):
    case(
        Case(
            op="CastLike",
            name=f"{source}_to_{target}",
            inputs=lambda rng, s=source, t=target: {
                "x": cast_inputs(rng, s, t),
                "like": np.zeros(2, numpy_dtype(t)),
            },
            oracle=cast_oracle(source, target),
            dtypes=("none",),
            exact=True,
        )
    )
