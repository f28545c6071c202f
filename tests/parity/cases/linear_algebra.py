"""Determinants, caches and optimizer steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..case import Array, Case, Tolerance, case, ints, normal, uniform
from .movement import ALL_DTYPES

for name, shape in (("one", (5, 5)), ("batch", (2, 3, 4, 4)), ("scalar", (3, 1, 1))):
    case(
        Case(
            op="Det",
            name=name,
            inputs=lambda rng, s=shape: {"x": normal(rng, *s)},
            oracle=np.linalg.det,
            layouts=("contiguous", "strided"),
            dtypes=("float32", "float64"),
            tolerance={"float32": Tolerance(2e-5, "an elimination in fp32")},
        )
    )
case(
    Case(
        op="Det",
        name="singular",
        inputs=lambda rng: {"x": np.ones((2, 3, 3)) * ints(1, 0)[:, None, None]},
        oracle=lambda x: np.zeros(2),
        exact=True,
    )
)


def scattered(cache: Array, update: Array, start: Array | None, axis: int, wrap: bool) -> Array:
    result = np.moveaxis(cache, axis, 1).copy()
    new = np.moveaxis(update, axis, 1)
    for b in range(len(result)):
        for i in range(new.shape[1]):
            place = i + (0 if start is None else int(start[b]))
            result[b, place % result.shape[1] if wrap else place] = new[b, i]
    return np.moveaxis(result, 1, axis)


for axis, wrap, given in ((-2, False, True), (1, True, True), (2, False, False)):
    length = {-2: 2, 1: 4, 2: 2}[axis]
    case(
        Case(
            op="TensorScatter",
            name=f"axis{axis}_{'circular' if wrap else 'linear'}",
            inputs=lambda rng, a=axis, n=length, g=given: {
                "cache": normal(rng, 3, 5, 4, 6),
                "update": np.moveaxis(
                    normal(rng, 3, n, 4 if a == 1 else 5, 6), 1, a if a > 0 else 2
                ),
                "start": ints(0, 2, 1) if g else None,
            },
            attributes={"axis": axis, "mode": "circular" if wrap else "linear"},
            oracle=lambda c, u, *s, a=axis, w=wrap: scattered(c, u, *(s or (None,)), a, w),
            layouts=("contiguous", "strided"),
            dtypes=ALL_DTYPES,
            exact=True,
        )
    )

TRAINING = "ai.onnx.preview.training"
RATE = np.array(0.1)


def state(rng: np.random.Generator, names: str, steps: int) -> dict[str, Array]:
    """The rate, the number of steps, then two tensors of each kind."""
    tensors = {
        f"{name}{i}": uniform(rng, 0.1, 1, *shape)
        for name in names
        for i, shape in enumerate(((4, 7), (5,)))
    }
    return {"r": RATE, "t": np.array(steps), **tensors}


def adagrad(r: Array, t: Array, x: Array, g: Array, h: Array) -> tuple[Array, ...]:
    g = 0.01 * x + g
    h = h + g * g
    return x - r / (1 + t * 0.5) * g / (np.sqrt(h) + 1e-2), h


def adam(r: Array, t: Array, x: Array, g: Array, v: Array, h: Array) -> tuple[Array, ...]:
    g = 0.01 * x + g
    v, h = 0.9 * v + 0.1 * g, 0.8 * h + 0.2 * g * g
    rate = r * np.sqrt(1 - 0.8**t) / (1 - 0.9**t) if t > 0 else r
    return 0.98 * (x - rate * v / (np.sqrt(h) + 1e-2)), v, h


def momentum(nesterov: bool) -> Any:
    def step(r: Array, t: Array, x: Array, g: Array, v: Array) -> tuple[Array, ...]:
        g = 0.01 * x + g
        v = 0.9 * v + (0.7 if t > 0 else 1.0) * g
        return x - r * (g + 0.9 * v if nesterov else v), v

    return step


def of_two(step: Any) -> Any:
    """The step of each of the two tensors, outputs in ONNX's order."""

    def oracle(r: Array, t: Array, *tensors: Array) -> tuple[Array, ...]:
        first, second = step(r, t, *tensors[0::2]), step(r, t, *tensors[1::2])
        return tuple(y for pair in zip(first, second, strict=True) for y in pair)

    return oracle


MOMENTUM = {"alpha": 0.9, "beta": 0.7}
for op, name, names, step, attributes in (
    ("Adagrad", "decay", "xgh", adagrad, {"decay_factor": 0.5}),
    (
        "Adam",
        "post",
        "xgvh",
        adam,
        {"alpha": 0.9, "beta": 0.8, "norm_coefficient_post": 0.02},
    ),
    ("Momentum", "standard", "xgv", momentum(False), {**MOMENTUM, "mode": "standard"}),
    ("Momentum", "nesterov", "xgv", momentum(True), {**MOMENTUM, "mode": "nesterov"}),
):
    for steps in (0, 3):
        case(
            Case(
                op=op,
                name=f"{name}_{steps}",
                domain=TRAINING,
                inputs=lambda rng, n=names, s=steps: state(rng, n, s),
                attributes={
                    "norm_coefficient": 0.01,
                    **({} if op == "Momentum" else {"epsilon": 1e-2}),
                    **attributes,
                },
                outputs=2 * (len(names) - 1),
                oracle=of_two(step),
                layouts=("contiguous", "strided"),
            )
        )
