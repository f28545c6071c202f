"""Operators that move elements: slices, joins, padding, repetition, blocks of pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..case import Array, Case, case, integers, ints, normal

LAYOUTS = ("contiguous", "strided", "channels_last")
ALL_DTYPES = ("float32", "float16", "bfloat16", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")


def any_values(rng: np.random.Generator, dtype: str, *shape: int) -> Array:
    """Integers over the whole range of the type (bool: both values)."""
    if dtype == "bool":
        return integers(rng, 0, 2, *shape, dtype="bool")
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


# Slice ---------------------------------------------------------------------------------------


def add_slice(name: str, shape: tuple[int, ...], index: tuple[slice, ...], **options: Any) -> None:
    """`index` names starts, ends and steps of the first axes."""
    big = np.iinfo(np.int64).max
    parts = []
    for n, s in zip(shape, index, strict=False):
        step = s.step if s.step is not None else 1
        start = s.start if s.start is not None else (0 if step > 0 else n - 1)
        end = s.stop if s.stop is not None else (big if step > 0 else -big)
        parts.append((start, end, step))
    case(
        Case(
            op="Slice",
            name=name,
            inputs=lambda rng: {
                "x": normal(rng, *shape),
                "starts": ints(*(p[0] for p in parts)),
                "ends": ints(*(p[1] for p in parts)),
                "axes": ints(*range(len(parts))),
                "steps": ints(*(p[2] for p in parts)),
            },
            constants=("starts", "ends", "axes", "steps"),
            oracle=lambda x, *_: x[index].copy(),
            exact=True,
            **options,
        )
    )


add_slice("inner", (5, 7, 9), np.s_[1:4, 2:6, 3:8], layouts=LAYOUTS, dtypes=ALL_DTYPES)
add_slice("steps", (9, 10, 11), np.s_[::2, 1::3, :-1:4], layouts=LAYOUTS)
add_slice(
    "negative_steps", (6, 7, 8), np.s_[::-1, 5:1:-2, ::-3], layouts=LAYOUTS, dtypes=ALL_DTYPES
)
add_slice("negative_starts", (6, 7), np.s_[-4:-1, -100:100])
add_slice("nothing", (6, 7), np.s_[4:4, ::-1])
add_slice("one_backwards", (6, 7), np.s_[3:2:-1, :])
add_slice("channels", (2, 16, 5, 6), np.s_[:, 4:12], layouts=LAYOUTS)
for dtype in INTEGERS:
    case(
        Case(
            op="Slice",
            name=f"backwards_{dtype}",
            inputs=lambda rng, d=dtype: {
                "x": any_values(rng, d, 5, 8),
                "starts": ints(-1, -1),
                "ends": ints(-100, 1),
                "axes": ints(0, 1),
                "steps": ints(-1, -2),
            },
            constants=("starts", "ends", "axes", "steps"),
            dtypes=("none",),
            oracle=lambda x, *_: x[::-1, :1:-2].copy(),
        )
    )


# Split ---------------------------------------------------------------------------------------

for axis, sizes in ((1, (3, 1, 5)), (-1, (4, 0, 2)), (0, (2, 2))):
    shape = {1: (2, 9, 5, 6), -1: (3, 5, 6), 0: (4, 3)}[axis]
    case(
        Case(
            op="Split",
            name=f"axis{axis}",
            inputs=lambda rng, s=shape, z=sizes: {"x": normal(rng, *s), "split": ints(*z)},
            attributes={"axis": axis},
            constants=("split",),
            outputs=len(sizes),
            oracle=lambda x, z, a=axis: tuple(np.split(x, np.cumsum(z)[:-1], axis=a)),
            layouts=LAYOUTS if axis == 1 else ("contiguous", "strided"),
            exact=True,
        )
    )
case(
    Case(
        op="Split",
        name="uneven_num_outputs",
        inputs=lambda rng: {"x": normal(rng, 3, 10)},
        attributes={"axis": 1, "num_outputs": 3},
        outputs=3,
        oracle=lambda x: (x[:, :4], x[:, 4:8], x[:, 8:]),
        exact=True,
    )
)


# Concat --------------------------------------------------------------------------------------

for axis in (0, 1, -1):
    case(
        Case(
            op="Concat",
            name=f"axis{axis}",
            inputs=lambda rng, a=axis: {
                f"x{i}": normal(rng, *[n if d == a % 4 else s for d, s in enumerate((2, 3, 5, 4))])
                for i, n in enumerate((3, 1, 6))
            },
            attributes={"axis": axis},
            oracle=lambda *x, a=axis: np.concatenate(x, axis=a),
            layouts=LAYOUTS,
            dtypes=ALL_DTYPES if axis == 1 else ("float32", "float16"),
            exact=True,
        )
    )
case(
    Case(
        op="Concat",
        name="with_empty",
        inputs=lambda rng: {"a": normal(rng, 2, 3), "b": np.zeros((2, 0)), "c": normal(rng, 2, 1)},
        attributes={"axis": 1},
        oracle=lambda *x: np.concatenate(x, axis=1),
        exact=True,
    )
)
case(
    Case(
        op="Concat",
        name="one_input",
        inputs=lambda rng: {"a": normal(rng, 2, 3)},
        attributes={"axis": 1},
        oracle=lambda a: a,
        exact=True,
    )
)
for dtype in INTEGERS:
    case(
        Case(
            op="Concat",
            name=f"of_{dtype}",
            inputs=lambda rng, d=dtype: {
                "a": any_values(rng, d, 3, 5),
                "b": any_values(rng, d, 3, 2),
            },
            attributes={"axis": 1},
            dtypes=("none",),
            oracle=lambda *x: np.concatenate(x, axis=1),
        )
    )


# Pad -----------------------------------------------------------------------------------------


def add_pad(
    name: str,
    mode: str,
    shape: tuple[int, ...],
    pads: tuple[tuple[int, int], ...],
    value: float | None = None,
    **options: Any,
) -> None:
    def oracle(x: Array, pads_given: Array, filling: Array | float = 0) -> Array:
        assert list(pads_given) == [*(p[0] for p in pads), *(p[1] for p in pads)]
        grow = [(max(b, 0), max(a, 0)) for b, a in pads]
        crop = tuple(
            slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(x.shape, pads, strict=True)
        )
        x = x[crop]
        if mode == "constant":
            return np.pad(x, grow, constant_values=filling)
        return np.pad(x, grow, mode=mode)  # type: ignore[call-overload, no-any-return]

    case(
        Case(
            op="Pad",
            name=name,
            inputs=lambda rng: {
                "x": normal(rng, *shape),
                "pads": ints(*(p[0] for p in pads), *(p[1] for p in pads)),
                **({} if value is None else {"value": np.array(value)}),
            },
            attributes={"mode": mode},
            constants=("pads",),
            oracle=oracle,
            exact=True,
            **options,
        )
    )


IMAGE = (2, 3, 5, 7)
BORDER = ((0, 0), (0, 0), (2, 1), (3, 0))
for mode in ("constant", "reflect", "edge", "wrap"):
    add_pad(mode, mode, IMAGE, BORDER, layouts=LAYOUTS, dtypes=ALL_DTYPES)
    add_pad(f"{mode}_crops", mode, IMAGE, ((0, 0), (-1, 0), (-2, 2), (3, -1)))
    add_pad(f"{mode}_far", mode, (3, 4), ((7, 2), (0, 9)))
add_pad("value", "constant", IMAGE, ((1, 0), (0, 2), (1, 1), (0, 0)), 1.5, layouts=LAYOUTS)
add_pad("empty_input", "constant", (2, 0, 3), ((0, 0), (1, 2), (1, 0)), 2.5)
add_pad("only_crops", "edge", IMAGE, ((0, -1), (0, 0), (-1, -1), (-2, 0)), layouts=LAYOUTS)
add_pad("crops_to_one", "constant", (4, 5), ((-2, -1), (1, 1)))
case(
    Case(
        op="Pad",
        name="axes_and_run_value",
        inputs=lambda rng: {
            "x": normal(rng, 2, 3, 4),
            "pads": ints(1, 2),
            "value": np.array(-3.0),
            "axes": ints(-2),
        },
        constants=("pads", "axes"),
        oracle=lambda x, p, v, a: np.pad(x, ((0, 0), (1, 2), (0, 0)), constant_values=v),
        exact=True,
    )
)
for dtype in INTEGERS:
    case(
        Case(
            op="Pad",
            name=f"of_{dtype}",
            inputs=lambda rng, d=dtype: {
                "x": any_values(rng, d, 3, 5),
                "pads": ints(1, 0, 0, 2),
                "value": any_values(rng, d),
            },
            constants=("pads",),
            dtypes=("none",),
            oracle=lambda x, p, v: np.pad(x, ((1, 0), (0, 2)), constant_values=v),
        )
    )


# Tile, DepthToSpace, SpaceToDepth ------------------------------------------------------------

for name, shape, repeats in (
    ("rank3", (2, 3, 5), (2, 1, 3)),
    ("broadcasts", (1, 4, 1), (5, 1, 2)),
    ("to_nothing", (2, 3), (0, 2)),
    ("rank4", (2, 3, 4, 5), (1, 2, 3, 1)),
):
    case(
        Case(
            op="Tile",
            name=name,
            inputs=lambda rng, s=shape, r=repeats: {"x": normal(rng, *s), "repeats": ints(*r)},
            constants=("repeats",),
            oracle=lambda x, r: np.tile(x, r),
            layouts=LAYOUTS if len(shape) == 4 else ("contiguous", "strided"),
            dtypes=ALL_DTYPES,
            exact=True,
        )
    )


def depth_to_space(x: Array, b: int, mode: str) -> Array:
    n, c, h, w = x.shape
    if mode == "DCR":
        y = x.reshape(n, b, b, c // (b * b), h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        y = x.reshape(n, c // (b * b), b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return y.reshape(n, c // (b * b), h * b, w * b)


for mode in ("DCR", "CRD"):
    case(
        Case(
            op="DepthToSpace",
            name=mode.lower(),
            inputs=lambda rng: {"x": normal(rng, 2, 18, 3, 5)},
            attributes={"blocksize": 3, "mode": mode},
            oracle=lambda x, m=mode: depth_to_space(x, 3, m),
            layouts=LAYOUTS,
            exact=True,
        )
    )
case(
    Case(
        op="SpaceToDepth",
        name="block2",
        inputs=lambda rng: {"x": normal(rng, 2, 3, 6, 8)},
        attributes={"blocksize": 2},
        oracle=lambda x: (
            x.reshape(2, 3, 3, 2, 4, 2).transpose(0, 3, 5, 1, 2, 4).reshape(2, 12, 3, 4)
        ),
        layouts=LAYOUTS,
        exact=True,
    )
)
