"""Gather and scatter: every index form, negative and repeated indices, every type."""

from __future__ import annotations

import itertools

import numpy as np

from ..case import Array, Case, case, integers, ints, normal
from .movement import ALL_DTYPES, INTEGERS, LAYOUTS, any_values

for axis, shape in ((0, (3, 2)), (1, (4,)), (-1, (2, 1, 2)), (2, ())):
    for dtype in ("int32", "int64"):
        case(
            Case(
                op="Gather",
                name=f"axis{axis}_{dtype}",
                inputs=lambda rng, a=axis, s=shape, d=dtype: {
                    "x": normal(rng, 5, 6, 4, 7),
                    "i": integers(rng, -4, 4, *s, dtype=d),
                },
                attributes={"axis": axis},
                oracle=lambda x, i, a=axis: np.take(x, i, axis=a),
                layouts=LAYOUTS,
                dtypes=ALL_DTYPES,
                exact=True,
            )
        )
for name, indices in (("one", ints(-2)), ("rising", ints(1, 3, 5)), ("falling", ints(4, 2, 0))):
    case(
        Case(
            op="Gather",
            name=f"constant_{name}",
            inputs=lambda rng, i=indices: {"x": normal(rng, 3, 6, 4), "i": i},
            attributes={"axis": 1},
            constants=("i",),
            oracle=lambda x, i: np.take(x, i, axis=1),
            layouts=LAYOUTS,
            exact=True,
        )
    )
case(
    Case(
        op="Gather",
        name="no_indices",
        inputs=lambda rng: {"x": normal(rng, 3, 6), "i": np.zeros((0, 2), np.int64)},
        oracle=lambda x, i: np.take(x, i, axis=0),
        exact=True,
    )
)
case(
    Case(
        op="Gather",
        name="out_of_range_is_clamped",
        inputs=lambda rng: {"x": normal(rng, 3, 6), "i": ints(7, -9, 1)},
        oracle=lambda x, i: x[[2, 0, 1]],
        exact=True,
    )
)
for dtype in INTEGERS:
    case(
        Case(
            op="Gather",
            name=f"of_{dtype}",
            inputs=lambda rng, d=dtype: {
                "x": any_values(rng, d, 6, 5),
                "i": integers(rng, -6, 6, 4),
            },
            dtypes=("none",),
            oracle=lambda x, i: x[i],
        )
    )
    case(
        Case(
            op="ScatterElements",
            name=f"of_{dtype}",
            inputs=lambda rng, d=dtype: {
                "x": any_values(rng, d, 6, 5),
                "i": np.stack([rng.permutation(6)[:4] for _ in range(5)], 1),
                "u": any_values(rng, d, 4, 5),
            },
            dtypes=("none",),
            oracle=lambda x, i, u: scatter(x, i, u, 0, "none"),
        )
    )

for axis in (0, 1, -1):
    case(
        Case(
            op="GatherElements",
            name=f"axis{axis}",
            inputs=lambda rng, a=axis: {
                "x": normal(rng, 5, 6, 4),
                "i": integers(rng, -4, 4, *[9 if d == a % 3 else 3 for d in range(3)]),
            },
            attributes={"axis": axis},
            oracle=lambda x, i, a=axis: np.take_along_axis(
                x[tuple(slice(None) if d == a % 3 else slice(3) for d in range(3))],
                np.where(i < 0, i + x.shape[a], i),
                axis=a,
            ),
            layouts=LAYOUTS,
            exact=True,
        )
    )


def gather_nd(x: Array, i: Array, batch: int) -> Array:
    parts = [
        x[(*b, *i[(*b, *p)])]
        for b in np.ndindex(*i.shape[:batch])
        for p in np.ndindex(*i.shape[batch:-1])
    ]
    shape = i.shape[:-1] + x.shape[batch + i.shape[-1] :]
    return np.stack(parts).reshape(shape) if parts else np.zeros(shape)


for name, batch, shape in (
    ("slices", 0, (4, 1, 2)),
    ("elements", 0, (5, 3)),
    ("batch", 1, (3, 4, 1)),
    ("batch_of_two", 2, (3, 5, 1)),
):
    case(
        Case(
            op="GatherND",
            name=name,
            inputs=lambda rng, s=shape: {
                "x": normal(rng, 3, 5, 4),
                "i": integers(rng, -3, 3, *s),
            },
            attributes={"batch_dims": batch},
            oracle=lambda x, i, b=batch: gather_nd(x, i, b),
            layouts=LAYOUTS,
            exact=True,
        )
    )

COMBINE = {
    "none": lambda old, new: new,
    "add": lambda old, new: old + new,
    "mul": lambda old, new: old * new,
    "max": np.maximum,
    "min": np.minimum,
}


def scatter(x: Array, i: Array, u: Array, axis: int, reduction: str) -> Array:
    y = x.copy()
    for p in np.ndindex(*i.shape):
        at = list(p)
        at[axis] = int(i[p])
        y[tuple(at)] = COMBINE[reduction](y[tuple(at)], u[p])
    return y


def scatter_nd(x: Array, i: Array, u: Array, reduction: str) -> Array:
    y = x.copy()
    for p in np.ndindex(*i.shape[:-1]):
        at = tuple(i[p])
        y[at] = COMBINE[reduction](y[at], u[p])
    return y


for reduction, axis in itertools.product(COMBINE, (0, -1)):
    case(
        Case(
            op="ScatterElements",
            name=f"{reduction}_axis{axis}",
            inputs=lambda rng, r=reduction, a=axis: {
                "x": normal(rng, 6, 5, 7),
                # Without a reduction, equal indices are undefined: each line gets distinct ones.
                "i": np.moveaxis(
                    np.stack([rng.permutation(5 if r == "none" else 3) for _ in range(12)])[:, :4]
                    .repeat(1 if r == "none" else 2, 1)
                    .reshape(3, 4, -1)[:, :, : 4 if r == "none" else 6],
                    -1,
                    a,
                )
                - 5,
                "u": normal(
                    rng,
                    *(
                        [4 if r == "none" else 6, 3, 4]
                        if a == 0
                        else [3, 4, 4 if r == "none" else 6]
                    ),
                ),
            },
            attributes={"axis": axis, "reduction": reduction},
            oracle=lambda x, i, u, r=reduction, a=axis: scatter(x, i, u, a, r),
            layouts=LAYOUTS,
            exact=reduction in ("none", "max", "min"),
        )
    )
for reduction in COMBINE:
    case(
        Case(
            op="ScatterND",
            name=reduction,
            inputs=lambda rng, r=reduction: {
                "x": normal(rng, 4, 5, 6),
                "i": np.array([[0, 1], [3, -1], [2, 2], [1, 4] if r == "none" else [0, 1]]),
                "u": normal(rng, 4, 6),
            },
            attributes={"reduction": reduction},
            oracle=lambda x, i, u, r=reduction: scatter_nd(x, i, u, r),
            layouts=("contiguous", "strided"),
            exact=reduction in ("none", "max", "min"),
        )
    )
case(
    Case(
        op="ScatterND",
        name="elements",
        inputs=lambda rng: {
            "x": normal(rng, 4, 5),
            "i": np.array([[[0, 1], [3, 4]], [[2, 0], [1, 1]]]),
            "u": normal(rng, 2, 2),
        },
        oracle=lambda x, i, u: scatter_nd(x, i, u, "none"),
        dtypes=ALL_DTYPES,
        exact=True,
    )
)
case(
    Case(
        op="ScatterND",
        name="nothing",
        inputs=lambda rng: {
            "x": normal(rng, 4, 5),
            "i": np.zeros((0, 1), np.int64),
            "u": np.zeros((0, 5)),
        },
        oracle=lambda x, i, u: x,
        exact=True,
    )
)
