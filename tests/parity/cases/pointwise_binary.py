"""Pointwise operators of two and more floats: broadcasting, ranks, sizes, special values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np

from ..case import Array, Case, Tolerance, case, normal, uniform
from .pointwise import FLOATS, IN_FLOAT32, LAYOUTS

GRID = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -3.0, 7.5])


@dataclass(frozen=True)
class Row:
    op: str
    oracle: Callable[[Array, Array], Any]
    low: tuple[float, float] = (-3.0, -3.0)
    high: tuple[float, float] = (3.0, 3.0)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    in_float32: bool = False
    to_bool: bool = False
    one_way: bool = False
    """The second input broadcasts to the first, not the other way."""


ROWS = [
    Row("Add", np.add),
    Row("Sub", np.subtract),
    Row("Mul", np.multiply),
    Row("Div", np.divide, (-3, 0.3), (3, 4)),
    Row("PRelu", lambda x, s: np.where(x < 0, s * x, x), one_way=True),
    Row("Pow", np.power, (0.2, -3), (3, 3), in_float32=True),
    Row("Mod", np.fmod, (-9, 0.6), (9, 3), {"fmod": 1}, "c_", True),
    Row("Mod", np.mod, (-9, -3), (9, -0.6), name="python_", in_float32=True),
    Row("Max", np.maximum),
    Row("Min", np.minimum),
    Row("Sum", np.add),
    Row("Mean", lambda a, b: (a + b) / 2),
    Row("Equal", np.equal, to_bool=True),
    Row("Greater", np.greater, to_bool=True),
    Row("GreaterOrEqual", np.greater_equal, to_bool=True),
    Row("Less", np.less, to_bool=True),
    Row("LessOrEqual", np.less_equal, to_bool=True),
]


def add(row: Row) -> None:
    common: dict[str, Any] = {
        "op": row.op,
        "oracle": row.oracle,
        "attributes": row.attributes,
        "exact": row.to_bool,
        "tolerance": {
            **(IN_FLOAT32 if row.in_float32 else {}),
            **({"float32": POW_TOLERANCE} if row.op == "Pow" else {}),
        },
    }

    def pair(rng: np.random.Generator, first: Any, second: Any) -> dict[str, Array]:
        a = uniform(rng, row.low[0], row.high[0], *first)
        b = uniform(rng, row.low[1], row.high[1], *second)
        if row.to_bool:  # many equal ones
            a, b = np.rint(a), np.rint(b)
        return {"a": a, "b": b}

    case(
        Case(
            name=f"{row.name}same",
            inputs=lambda rng: pair(rng, (3, 5, 7, 11), (3, 5, 7, 11)),
            layouts=LAYOUTS,
            dtypes=FLOATS,
            **common,
        )
    )
    wide = (4, 5, 9) if row.one_way else (4, 1, 9)
    case(
        Case(
            name=f"{row.name}broadcast",
            inputs=lambda rng: pair(rng, wide, (5, 1)),
            layouts=("contiguous", "strided"),
            **common,
        )
    )
    for name, first, second in (("scalars", (), ()), ("one_scalar", (3, 5), ())):
        case(
            Case(
                name=f"{row.name}{name}",
                inputs=lambda rng, f=first, s=second: pair(rng, f, s),
                dtypes=("float32",),
                **common,
            )
        )
    case(
        Case(
            name=f"{row.name}special",
            inputs=lambda rng: {"a": np.repeat(GRID, len(GRID)), "b": np.tile(GRID, len(GRID))},
            **common,
        )
    )


POW_TOLERANCE = Tolerance(1e-5, "exp(b log a): the error of log grows with the exponent")
for _row in ROWS:
    add(_row)


# Shapes, once for all operators ---------------------------------------------------------------

SHAPES: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = [
    ("rank1", (1,), (17,)),
    ("ones", (1, 1, 1), (1, 1)),
    ("row_and_column", (33, 1), (1, 65)),
    ("inner", (2, 3, 5), (5,)),
    ("channel", (2, 7, 5, 3), (7, 1, 1)),
    ("batch", (3, 1, 1, 1), (3, 4, 5, 2)),
    ("middle", (4, 1, 6), (1, 5, 1)),
    ("rank5", (2, 1, 3, 1, 5), (1, 4, 1, 2, 1)),
    ("rank7", (2, 1, 2, 1, 3, 1, 2), (1, 3, 1, 2, 1, 2, 1)),
    ("rank8", (2, 1, 2, 1, 2, 1, 2, 3), (1, 2, 1, 3, 1, 2, 1, 3)),
    ("empty_with_one", (3, 0, 2), (1, 1, 2)),
    ("empty_rank8", (1, 2, 1, 1, 0, 1, 1, 3), (1,)),
    ("empty_by_broadcast", (1, 4), (0, 1)),
]
for _name, _first, _second in SHAPES:
    case(
        Case(
            op="Sub",
            name=f"shape_{_name}",
            inputs=lambda rng, f=_first, s=_second: {"a": normal(rng, *f), "b": normal(rng, *s)},
            oracle=np.subtract,
            layouts=("contiguous", "strided"),
            dtypes=("float32",),
        )
    )
for _name, _first, _second in (
    ("linear", (4_300_801,), (4_300_801,)),
    ("broadcast", (2099, 2051), (2099, 1)),
):
    case(
        Case(
            op="Sub",
            name=f"more_than_65535_groups_{_name}",
            inputs=lambda rng, f=_first, s=_second: {
                "a": rng.random(f, np.float32),
                "b": rng.random(s, np.float32),
            },
            oracle=np.subtract,
            dtypes=("float32",),
            slow=True,
        )
    )
for _side in ("left", "right"):
    case(
        Case(
            op="Div",
            name=f"constant_{_side}",
            inputs=lambda rng, right=_side == "right": {
                "a": uniform(rng, 1, 2, *((3, 5) if right else ())),
                "b": uniform(rng, 1, 2, *(() if right else (3, 5))),
            },
            constants=("b",) if _side == "right" else ("a",),
            oracle=np.divide,
            dtypes=FLOATS,
        )
    )
case(
    Case(
        op="Mul",
        name="constant_channel",
        inputs=lambda rng: {"a": normal(rng, 2, 6, 5, 3), "b": normal(rng, 6, 1, 1)},
        constants=("b",),
        oracle=np.multiply,
        layouts=LAYOUTS,
        dtypes=FLOATS,
    )
)
case(
    Case(
        op="Pow",
        name="integer_exponents_of_negatives",
        inputs=lambda rng: {
            "a": uniform(rng, -2, 2, 7, 9),
            "b": np.rint(uniform(rng, -3, 4, 7, 9)),
        },
        oracle=np.power,
        dtypes=("float32", "float64"),
        tolerance={"float32": POW_TOLERANCE, "float64": POW_TOLERANCE},
    )
)


# Any number of inputs -------------------------------------------------------------------------

VARIADIC: dict[str, Callable[..., Any]] = {
    "Max": lambda *x: reduce(np.maximum, x),
    "Min": lambda *x: reduce(np.minimum, x),
    "Sum": lambda *x: reduce(np.add, x),
    "Mean": lambda *x: reduce(np.add, x) / len(x),
}
for _op, _oracle in VARIADIC.items():
    case(
        Case(
            op=_op,
            name="one",
            inputs=lambda rng: {"x": normal(rng, 3, 5)},
            oracle=_oracle,
            layouts=("contiguous", "strided"),
        )
    )
    case(
        Case(
            op=_op,
            name="five_broadcast",
            inputs=lambda rng: {
                "a": normal(rng, 3, 1, 5),
                "b": normal(rng, 5),
                "c": normal(rng),
                "d": normal(rng, 4, 1),
                "e": normal(rng, 1, 1, 1, 1),
            },
            oracle=_oracle,
            layouts=("contiguous", "strided"),
            dtypes=FLOATS,
        )
    )


# Clip, Where ----------------------------------------------------------------------------------


def clip(x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    if low is not None:
        x = np.where(x < low, low, x)
    return np.asarray(x if high is None else np.where(x > high, high, x))


for _name, _low, _high in (
    ("both", -0.5, 1.0),
    ("low", 0.25, None),
    ("high", None, -0.25),
    ("neither", None, None),
    ("crossed", 1.0, -1.0),
):
    for _where in ("constant", "run"):
        case(
            Case(
                op="Clip",
                name=f"{_name}_{_where}",
                inputs=lambda rng, lo=_low, hi=_high: {
                    "x": np.concatenate([normal(rng, 29), [np.nan, np.inf, -np.inf]]).reshape(4, 8),
                    "low": None if lo is None else np.array(lo),
                    "high": None if hi is None else np.array(hi),
                },
                constants=("low", "high") if _where == "constant" else (),
                oracle=clip,
                layouts=("contiguous", "strided"),
                dtypes=FLOATS,
                exact=True,
            )
        )

for _name, _shapes in (
    ("same", ((3, 5, 7), (3, 5, 7), (3, 5, 7))),
    ("broadcast", ((3, 1, 7), (5, 1), (1, 1, 1, 7))),
    ("scalars", ((), (), ())),
    ("empty", ((2, 0), (), (1, 1))),
):
    case(
        Case(
            op="Where",
            name=_name,
            inputs=lambda rng, s=_shapes: {
                "c": np.asarray(rng.random(s[0]) < 0.5),
                "x": normal(rng, *s[1]),
                "y": normal(rng, *s[2]),
            },
            oracle=np.where,
            layouts=LAYOUTS if _name == "same" else ("contiguous", "strided"),
            dtypes=FLOATS,
            exact=True,
        )
    )
case(
    Case(
        op="Where",
        name="keeps_nan_out",
        inputs=lambda rng: {
            "c": np.array([True, False, True, False]),
            "x": np.array([1.0, np.nan, np.inf, np.inf]),
            "y": np.array([np.nan, 2.0, np.nan, -np.inf]),
        },
        oracle=np.where,
        exact=True,
    )
)
