"""GridSample: modes, paddings and corners in two and three dimensions."""

from __future__ import annotations

import math
from itertools import product

import numpy as np

from ..case import Array, Case, Tolerance, case, integers, normal, uniform


def reflect(x: float, low: float, high: float) -> float:
    if high <= low:
        return low
    period = 2 * (high - low)
    d = (x - low) % period
    return low + min(d, period - d)


def taps(x: float, n: int, mode: str, padding: str, align: bool) -> list[tuple[int, float]]:
    """Pixels and weights of one axis at normalized coordinate x."""
    low, high = (0.0, n - 1.0) if align else (-0.5, n - 0.5)
    x = (x + 1) / 2 * (n - 1) if align else ((x + 1) * n - 1) / 2
    if mode == "nearest":
        x = float(np.rint(x))
    if padding == "border" and not low <= x <= high:
        x = min(max(x, 0.0), n - 1.0)
    elif padding == "reflection":
        x = reflect(x, low, high)
    base = math.floor(x)
    f = x - base
    if mode == "nearest":
        points = [(base, 1.0)]
    elif mode == "linear":
        points = [(base, 1 - f), (base + 1, f)]
    else:
        points = []
        for k in (-1, 0, 1, 2):
            d = abs(k - f)
            near = 1.25 * d**3 - 2.25 * d**2 + 1
            points.append((base + k, near if d <= 1 else -0.75 * d**3 + 3.75 * d**2 - 6 * d + 3))
    result = []
    for p, w in points:
        if padding == "zeros":
            if 0 <= p < n:
                result.append((p, w))
        elif padding == "border":
            result.append((min(max(p, 0), n - 1), w))
        else:
            result.append((int(reflect(p, low, high)), w))
    return result


def sample(x: Array, grid: Array, mode: str, padding: str, align: bool) -> Array:
    space = x.shape[2:]
    y = np.zeros(x.shape[:2] + grid.shape[1:-1])
    for n in range(len(x)):
        for o in np.ndindex(*grid.shape[1:-1]):
            axes = [
                taps(v, size, mode, padding, align)
                for v, size in zip(grid[(n, *o)][::-1], space, strict=True)
            ]
            for points in product(*axes):
                w = math.prod(p[1] for p in points)
                y[(n, slice(None), *o)] += w * x[(n, slice(None), *(p[0] for p in points))]
    return y


def grid(rng: np.random.Generator, *shape: int) -> Array:
    """Coordinates that fp16 holds exactly, inside and outside, away from halves of a pixel."""
    return np.round(uniform(rng, -1.9, 1.9, *shape) * 64) / 64 + 1 / 256


for mode in ("nearest", "linear", "cubic"):
    for padding in ("zeros", "border", "reflection"):
        for align in (0, 1):
            case(
                Case(
                    op="GridSample",
                    name=f"{mode}_{padding}_align{align}",
                    inputs=lambda rng: {
                        "x": normal(rng, 2, 3, 5, 6),
                        "grid": grid(rng, 2, 4, 3, 2),
                    },
                    attributes={"mode": mode, "padding_mode": padding, "align_corners": align},
                    oracle=lambda x, g, m=mode, p=padding, a=align: sample(x, g, m, p, bool(a)),
                    layouts=("contiguous", "strided", "channels_last"),
                    dtypes=("float32",),
                    tolerance={"float32": Tolerance(1e-5, "coordinates are float32 sums")},
                )
            )
    if mode != "cubic":
        case(
            Case(
                op="GridSample",
                name=f"{mode}_volume",
                inputs=lambda rng: {
                    "x": normal(rng, 1, 2, 3, 4, 5),
                    "grid": grid(rng, 1, 2, 3, 2, 3),
                },
                attributes={"mode": mode},
                oracle=lambda x, g, m=mode: sample(x, g, m, "zeros", False),
                layouts=("contiguous", "strided"),
                dtypes=("float32",),
                tolerance={"float32": Tolerance(1e-5, "coordinates are float32 sums")},
            )
        )

for dtype in ("int8", "uint8", "int32", "bool"):
    case(
        Case(
            op="GridSample",
            name=f"nearest_{dtype}",
            inputs=lambda rng, t=dtype: {
                "x": integers(rng, 0, 2 if t == "bool" else 100, 2, 3, 5, 6, dtype=t),
                "grid": grid(rng, 2, 4, 3, 2).astype(np.float32),
            },
            attributes={"mode": "nearest"},
            oracle=lambda x, g, t=dtype: sample(x, g, "nearest", "zeros", False).astype(t),
            layouts=("contiguous", "strided"),
            dtypes=("none",),
        )
    )
