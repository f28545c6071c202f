"""Operators whose results are as long as the data say."""

from __future__ import annotations

import itertools

import numpy as np

from ..case import Array, Case, case, integers, ints, normal, uniform

TYPES = ("float32", "int32", "int64", "uint8", "bool")


def sparse(rng: np.random.Generator, dtype: str, *shape: int) -> Array:
    return (integers(rng, 0, 3, *shape) * (rng.random(shape) < 0.5)).astype(dtype)


for dtype in TYPES:
    case(
        Case(
            op="NonZero",
            name=dtype,
            inputs=lambda rng, d=dtype: {"x": sparse(rng, d, 7, 3, 40)},
            oracle=lambda x: np.array(np.nonzero(x), np.int64),
            dtypes=("none",),
            exact=True,
        )
    )
for name, x in (
    ("none", np.zeros((3, 4), np.float32)),
    ("empty", np.zeros((0, 4), np.float32)),
    ("scalar", np.array(2.0, np.float32)),
):
    case(
        Case(
            op="NonZero",
            name=name,
            inputs=lambda rng, x=x: {"x": x},
            oracle=lambda x: np.array(np.nonzero(np.atleast_1d(x)), np.int64),
            dtypes=("none",),
            exact=True,
        )
    )

for axis, length in ((0, 5), (1, 6), (-1, 7), (1, 4), (None, 150)):
    case(
        Case(
            op="Compress",
            name=f"axis{axis}_{length}",
            inputs=lambda rng, n=length: {
                "x": normal(rng, 5, 6, 7),
                "condition": rng.random(n) < 0.5,
            },
            attributes={} if axis is None else {"axis": axis},
            oracle=lambda x, c, a=axis: np.compress(c, x, a),
            layouts=("contiguous", "strided"),
            exact=True,
        )
    )
for dtype in ("int64", "float64", "int8"):
    case(
        Case(
            op="Compress",
            name=dtype,
            inputs=lambda rng, d=dtype: {
                "x": integers(rng, -100, 100, 4, 9).astype(d),
                "condition": rng.random(9) < 0.4,
            },
            attributes={"axis": 1},
            oracle=lambda x, c: np.compress(c, x, 1),
            dtypes=("none",),
            exact=True,
        )
    )


def unique(x: Array, axis: int | None, by_value: bool) -> tuple[Array, ...]:
    y, index, inverse, counts = np.unique(x, True, True, True, axis=axis)
    inverse = inverse.reshape(-1)
    if not by_value:
        order = np.argsort(index)
        rank = np.argsort(order)
        y, index, counts = np.take(y, order, axis or 0), index[order], counts[order]
        inverse = rank[inverse]
    return y, *(part.astype(np.int64) for part in (index, inverse, counts))


for axis, by_value, dtype in itertools.product((None, 0, 1, -1), (1, 0), ("float32", "int64")):
    case(
        Case(
            op="Unique",
            name=f"axis{axis}_{'sorted' if by_value else 'in_order'}_{dtype}",
            inputs=lambda rng, d=dtype: {"x": integers(rng, 0, 2, 6, 5, 4).astype(d)},
            attributes={"sorted": by_value, **({} if axis is None else {"axis": axis})},
            outputs=4,
            oracle=lambda x, a=axis, b=by_value: unique(x, a, bool(b)),
            dtypes=("none",),
            exact=True,
        )
    )
case(
    Case(
        op="Unique",
        name="many",
        inputs=lambda rng: {"x": integers(rng, -300, 300, 1500).astype(np.float32)},
        oracle=lambda x: np.unique(x),
        dtypes=("none",),
        exact=True,
    )
)


def overlap(a: Array, b: Array) -> float:
    """Intersection over union of two boxes given by any two opposite corners."""
    low = [np.minimum(box[:2], box[2:]) for box in (a, b)]
    high = [np.maximum(box[:2], box[2:]) for box in (a, b)]
    inner = np.prod(np.maximum(np.minimum(*high) - np.maximum(*low), 0))
    areas = [float(np.prod(h - w)) for h, w in zip(high, low, strict=True)]
    return float(inner / (sum(areas) - inner)) if inner > 0 else 0.0


def suppressed(
    boxes: Array, scores: Array, limit: int, iou: float, least: float | None, centers: bool
) -> Array:
    if centers:
        boxes = np.concatenate(
            [boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1
        )
    chosen = []
    for b, c in itertools.product(range(scores.shape[0]), range(scores.shape[1])):
        kept: list[int] = []
        for i in np.argsort(-scores[b, c], kind="stable"):
            if len(kept) == limit or (least is not None and scores[b, c, i] <= least):
                break
            if all(overlap(boxes[b, i], boxes[b, k]) <= iou for k in kept):
                kept.append(int(i))
        chosen += [(b, c, k) for k in kept]
    return np.array(chosen, np.int64).reshape(-1, 3)


for name, limit, iou, least, centers in (
    ("plain", 5, 0.3, None, 0),
    ("threshold", 40, 0.5, 0.6, 0),
    ("centers", 7, 0.2, 0.1, 1),
    ("nothing", 3, 0.5, 2.0, 0),
):
    case(
        Case(
            op="NonMaxSuppression",
            name=name,
            inputs=lambda rng, n=limit, t=iou, s=least: {
                "boxes": uniform(rng, 0, 1, 2, 90, 4) + np.array([0, 0, 0.3, 0.3]),
                "scores": uniform(rng, 0, 1, 2, 3, 90),
                "limit": ints(n),
                "iou": np.array([t], np.float32),
                **({} if s is None else {"least": np.array([s], np.float32)}),
            },
            attributes={"center_point_box": centers},
            constants=("limit", "iou", "least"),
            oracle=lambda b, s, n, t, *least, c=centers: suppressed(
                b, s, int(n[0]), float(t[0]), float(least[0][0]) if least else None, bool(c)
            ),
            dtypes=("float32",),
            exact=True,
        )
    )
