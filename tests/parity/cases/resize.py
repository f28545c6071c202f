"""Resize: every mode, coordinate transformation and rounding, exact coordinates."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from ..case import Array, Case, case, integers, ints, normal, uniform

LAYOUTS = ("contiguous", "strided", "channels_last")


def coordinate(c: int, n: int, m: int, scale: Fraction, mode: str, roi: tuple[float, float]) -> Any:
    """Where output pixel `c` of `m` lies in an input of `n`: exact."""
    width = scale * n
    if mode == "half_pixel":
        return (c + Fraction(1, 2)) / scale - Fraction(1, 2)
    if mode == "pytorch_half_pixel":
        return (c + Fraction(1, 2)) / scale - Fraction(1, 2) if m > 1 else Fraction(0)
    if mode == "half_pixel_symmetric":
        offset = Fraction(n, 2) * (1 - m / width)
        return offset + (c + Fraction(1, 2)) / scale - Fraction(1, 2)
    if mode == "asymmetric":
        return c / scale
    if mode == "align_corners":
        return Fraction(0) if width == 1 else Fraction(c * (n - 1)) / (width - 1)
    start, end = (Fraction(str(r)) for r in roi)
    if m == 1:
        return (start + end) * (n - 1) / 2
    return start * (n - 1) + c * (end - start) * (n - 1) / (width - 1)


ROUND = {
    "floor": math.floor,
    "ceil": math.ceil,
    "round_prefer_floor": lambda x: math.ceil(x - Fraction(1, 2)),
    "round_prefer_ceil": lambda x: math.floor(x + Fraction(1, 2)),
}


def weights(n: int, m: int, scale: Fraction, a: dict[str, Any], roi: tuple[float, float]) -> Array:
    """The (m, n) matrix of one axis; rows of NaN where the result is extrapolated."""
    mode = a.get("mode", "nearest")
    transform = a.get("coordinate_transformation_mode", "half_pixel")
    result = np.zeros((m, n))
    for c in range(m):
        x = coordinate(c, n, m, scale, transform, roi)
        if transform == "tf_crop_and_resize" and not 0 <= x <= n - 1:
            result[c] = np.nan
            continue
        if mode == "nearest":
            p = ROUND[a.get("nearest_mode", "round_prefer_floor")](x)
            result[c, min(max(p, 0), n - 1)] = 1
            continue
        s = min(float(scale), 1.0) if a.get("antialias") else 1.0
        reach = (1 if mode == "linear" else 2) / s
        total = 0.0
        for p in range(math.floor(float(x) - reach), math.ceil(float(x) + reach) + 1):
            d = abs(p - float(x)) * s
            if mode == "linear":
                w = max(1 - d, 0.0)
            else:
                k = a.get("cubic_coeff_a", -0.75)
                if d <= 1:
                    w = (k + 2) * d**3 - (k + 3) * d**2 + 1
                elif d < 2:
                    w = k * d**3 - 5 * k * d**2 + 8 * k * d - 4 * k
                else:
                    w = 0.0
            if a.get("exclude_outside") and not 0 <= p < n:
                w = 0.0
            total += w
            result[c, min(max(p, 0), n - 1)] += w
        if a.get("exclude_outside") or a.get("antialias"):
            result[c] /= total
    return result


def resize(
    x: Array, sizes: list[tuple[int, Fraction]], a: dict[str, Any], roi: Any = None
) -> Array:
    """`sizes`: new size and scale of each axis."""
    outside = np.zeros([m for m, _ in sizes], bool)
    for axis, (m, scale) in enumerate(sizes):
        if m == x.shape[axis] and scale == 1 and roi is None:
            continue
        matrix = weights(x.shape[axis], m, scale, a, roi[axis] if roi else (0.0, 1.0))
        bad = np.isnan(matrix[:, 0])
        outside |= bad.reshape([-1 if d == axis else 1 for d in range(x.ndim)])
        x = np.moveaxis(np.tensordot(np.nan_to_num(matrix), x, (1, axis)), 0, axis)
    return np.where(outside, a.get("extrapolation_value", 0.0), x)


def by_sizes(x: Array, sizes: tuple[int, ...], a: dict[str, Any], roi: Any = None) -> Array:
    return resize(x, [(m, Fraction(m, n)) for n, m in zip(x.shape, sizes, strict=True)], a, roi)


def by_scales(x: Array, scales: tuple[str, ...], a: dict[str, Any]) -> Array:
    sizes = [
        (math.floor(n * Fraction(s)), Fraction(s)) for n, s in zip(x.shape, scales, strict=True)
    ]
    return resize(x, sizes, a)


def add_sizes(name: str, to: tuple[int, ...], a: dict[str, Any], **options: Any) -> None:
    case(
        Case(
            op="Resize",
            name=name,
            inputs=lambda rng: {
                "x": normal(rng, 2, 3, 7, 9),
                "roi": None,
                "scales": None,
                "sizes": ints(2, 3, *to),
            },
            attributes=a,
            constants=("sizes",),
            oracle=lambda x, *_: by_sizes(x, (2, 3, *to), a),
            **options,
        )
    )


def add_scales(name: str, scales: tuple[str, ...], a: dict[str, Any], **options: Any) -> None:
    case(
        Case(
            op="Resize",
            name=name,
            inputs=lambda rng: {
                "x": normal(rng, 2, 3, 7, 9),
                "roi": None,
                "scales": np.array([float(s) for s in scales], np.float32),
            },
            attributes=a,
            constants=("scales",),
            oracle=lambda x, *_: by_scales(x, scales, a),
            **options,
        )
    )


TRANSFORMS = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
)
# Scales that fp16 would round are tested in float32 only: they would mean another size.
SINGLE: dict[str, Any] = {"dtypes": ("float32",)}
for transform in TRANSFORMS:
    for rounding in ROUND:
        both = {
            "mode": "nearest",
            "coordinate_transformation_mode": transform,
            "nearest_mode": rounding,
        }
        add_sizes(f"nearest_{transform}_{rounding}", (3, 14), both, dtypes=("float32",), exact=True)
    for mode in ("linear", "cubic"):
        smooth = {"mode": mode, "coordinate_transformation_mode": transform}
        add_sizes(f"{mode}_{transform}", (5, 20), smooth, layouts=LAYOUTS)
        add_scales(f"{mode}_{transform}_scales", ("1", "1", "0.6", "1.7"), smooth, **SINGLE)
        add_sizes(f"{mode}_{transform}_to_one", (1, 4), smooth, dtypes=("float32",))
NEAREST = {
    "mode": "nearest",
    "coordinate_transformation_mode": "asymmetric",
    "nearest_mode": "floor",
}
add_scales("nearest_twice", ("1", "1", "2", "2"), NEAREST, layouts=LAYOUTS, exact=True)
add_scales("nearest_scales", ("1", "1", "0.6", "2.3"), NEAREST, exact=True, **SINGLE)
add_sizes("nearest_large", (211, 97), {"mode": "nearest"}, exact=True)
add_sizes("linear_large", (150, 133), {"mode": "linear"}, dtypes=("float32",))
add_sizes("same_size", (7, 9), {"mode": "linear"}, exact=True)
for mode in ("linear", "cubic"):
    add_sizes(f"{mode}_antialias", (3, 4), {"mode": mode, "antialias": 1}, layouts=LAYOUTS)
    add_sizes(f"{mode}_antialias_up", (11, 5), {"mode": mode, "antialias": 1})
    add_sizes(f"{mode}_exclude_outside", (12, 5), {"mode": mode, "exclude_outside": 1})
add_sizes("cubic_other_coefficient", (10, 6), {"mode": "cubic", "cubic_coeff_a": -0.5})

for mode in ("nearest", "linear", "cubic"):
    crop = {
        "mode": mode,
        "coordinate_transformation_mode": "tf_crop_and_resize",
        "extrapolation_value": 10.0,
    }
    case(
        Case(
            op="Resize",
            name=f"{mode}_crop",
            inputs=lambda rng: {
                "x": normal(rng, 1, 2, 6, 5),
                "roi": np.array([0, 0, 0.4, 0.6, 1, 1, 1.2, 1.7], np.float64),
                "scales": None,
                "sizes": ints(1, 2, 3, 4),
            },
            attributes=crop,
            constants=("roi", "sizes"),
            dtypes=("float32",),
            oracle=lambda x, *_, a=crop: by_sizes(
                x, (1, 2, 3, 4), a, [(0.0, 1.0), (0.0, 1.0), (0.4, 1.2), (0.6, 1.7)]
            ),
        )
    )
for policy, to in (("not_larger", (6, 8)), ("not_smaller", (11, 14))):
    ratio = {"not_larger": Fraction(6, 7), "not_smaller": Fraction(11, 7)}[policy]
    case(
        Case(
            op="Resize",
            name=policy,
            inputs=lambda rng, to=to: {
                "x": normal(rng, 2, 7, 9),
                "roi": None,
                "scales": None,
                "sizes": ints(*to),
            },
            attributes={"mode": "linear", "axes": [1, 2], "keep_aspect_ratio_policy": policy},
            constants=("sizes",),
            oracle=lambda x, *_, r=ratio: resize(
                x,
                [(2, Fraction(1)), *((math.floor(r * n + Fraction(1, 2)), r) for n in (7, 9))],
                {"mode": "linear"},
            ),
        )
    )
case(
    Case(
        op="Resize",
        name="one_axis_of_five",
        inputs=lambda rng: {
            "x": normal(rng, 2, 3, 4, 5, 6),
            "roi": None,
            "scales": np.array([1.5], np.float32),
        },
        attributes={"mode": "linear", "axes": [-2]},
        constants=("scales",),
        oracle=lambda x, *_: by_scales(x, ("1", "1", "1", "1.5", "1"), {"mode": "linear"}),
    )
)
for dtype in ("uint8", "int8", "int32"):
    for mode in ("nearest", "cubic"):
        info = np.iinfo(dtype if dtype != "int32" else "int16")
        case(
            Case(
                op="Resize",
                name=f"{mode}_{dtype}",
                inputs=lambda rng, d=dtype, i=info: {
                    "x": integers(rng, i.min, i.max, 1, 2, 5, 6, dtype=d),
                    "roi": None,
                    "scales": np.array([1, 1, 2, 2], np.float32),
                },
                attributes={"mode": mode},
                constants=("scales",),
                dtypes=("none",),
                oracle=lambda x, *_, m=mode, i=np.iinfo(dtype): np.clip(
                    np.rint(by_scales(x.astype(np.float64), ("1", "1", "2", "2"), {"mode": m})),
                    i.min,
                    i.max,
                ).astype(x.dtype),
            )
        )
for mode, a in (
    ("nearest", NEAREST),
    ("linear", {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}),
):
    case(
        Case(
            op="Upsample",
            name=mode,
            inputs=lambda rng: {
                "x": uniform(rng, -1, 1, 1, 3, 4, 5),
                "scales": np.array([1, 1, 2, 3], np.float32),
            },
            attributes={"mode": mode},
            constants=("scales",),
            oracle=lambda x, _, a=a: by_scales(x, ("1", "1", "2", "3"), a),
        )
    )
