"""Normalizations: rows of every kind, affine parameters, statistics as outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..case import Array, Case, Tolerance, case, normal

LAYOUTS = ("contiguous", "strided", "channels_last")
ROWS = {"float32": Tolerance(1e-5, "a difference from the mean over a deviation")}


def _channels(values: Array, rank: int) -> Array:
    return values.reshape(-1, *[1] * (rank - 2)) if rank > 1 else values


def _positive(rng: np.random.Generator, *shape: int) -> Array:
    return rng.uniform(0.5, 2.0, shape)


def _batch_norm(x: Array, scale: Array, bias: Array, mean: Array, var: Array, eps: float) -> Array:
    s, b, m, v = (_channels(a, x.ndim) for a in (scale, bias, mean, var))
    return (x - m) / np.sqrt(v + eps) * s + b


def _batch_inputs(rng: np.random.Generator, shape: Sequence[int]) -> dict[str, Array | None]:
    channels = shape[1] if len(shape) > 1 else 1
    return {
        "x": normal(rng, *shape) * 2.0 + 1.0,
        "scale": normal(rng, channels),
        "bias": normal(rng, channels),
        "mean": normal(rng, channels),
        "var": _positive(rng, channels),
    }


for _name, _shape in {
    "image": (2, 16, 5, 7),
    "odd": (1, 5, 3, 3),
    "matrix": (7, 12),
    "signal": (2, 6, 11),
    "volume": (1, 4, 3, 5, 2),
    "vector": (9,),
    "no_batch": (0, 4, 3, 3),
}.items():
    case(
        Case(
            op="BatchNormalization",
            name=_name,
            inputs=lambda rng, shape=_shape: _batch_inputs(rng, shape),
            attributes={"epsilon": 1e-3},
            oracle=lambda *inputs: _batch_norm(*inputs, 1e-3),
            constants=("scale", "bias", "mean", "var"),
            layouts=LAYOUTS,
            tolerance=ROWS,
        )
    )


def _batch_norm_training(
    x: Array, scale: Array, bias: Array, mean: Array, var: Array
) -> tuple[Array, Array, Array]:
    axes = (0, *range(2, x.ndim))
    m, v = x.mean(axes), x.var(axes)
    y = _batch_norm(x, scale, bias, m, v, 1e-5)
    return y, mean * 0.75 + m * 0.25, var * 0.75 + v * 0.25


case(
    Case(
        op="BatchNormalization",
        name="training",
        inputs=lambda rng: _batch_inputs(rng, (3, 10, 5, 7)),
        attributes={"training_mode": 1, "momentum": 0.75},
        oracle=_batch_norm_training,
        outputs=3,
        layouts=LAYOUTS,
        tolerance=ROWS,
    )
)


def _layer_norm(
    x: Array, scale: Array, bias: Array | None, axis: int, eps: float
) -> tuple[Array, Array, Array]:
    axes = tuple(range(axis % x.ndim, x.ndim))
    mean = x.mean(axes, keepdims=True)
    inv = 1.0 / np.sqrt(x.var(axes, keepdims=True) + eps)
    y = (x - mean) * inv * scale
    return (y if bias is None else y + bias), mean, inv


def _rms_norm(x: Array, scale: Array, axis: int, eps: float) -> Array:
    axes = tuple(range(axis % x.ndim, x.ndim))
    return np.asarray(x / np.sqrt((x * x).mean(axes, keepdims=True) + eps) * scale)


def _rows(
    name: str,
    shape: Sequence[int],
    axis: int,
    scale: Sequence[int] | None = None,
    bias: bool = True,
) -> None:
    part = tuple(shape[axis % len(shape) :]) if scale is None else tuple(scale)

    def inputs(rng: np.random.Generator, with_bias: bool) -> dict[str, Array | None]:
        result: dict[str, Array | None] = {
            "x": normal(rng, *shape) + 1.0,
            "scale": normal(rng, *part),
        }
        if with_bias:
            result["bias"] = normal(rng, *part)
        return result

    case(
        Case(
            op="LayerNormalization",
            name=name,
            inputs=lambda rng: inputs(rng, bias),
            attributes={"axis": axis, "epsilon": 1e-4},
            oracle=lambda x, scale, bias=None: _layer_norm(x, scale, bias, axis, 1e-4)[0],
            layouts=LAYOUTS,
            tolerance=ROWS,
        )
    )
    case(
        Case(
            op="RMSNormalization",
            name=name,
            inputs=lambda rng: inputs(rng, False),
            attributes={"axis": axis, "epsilon": 1e-4},
            oracle=lambda x, scale: _rms_norm(x, scale, axis, 1e-4),
            layouts=LAYOUTS,
            tolerance=ROWS,
        )
    )


_rows("last", (3, 5, 64), -1)
_rows("odd", (7, 33), 1, bias=False)
_rows("two_axes", (2, 3, 5, 7), 2)
_rows("all_axes", (4, 5, 3), 0)
_rows("broadcast_scale", (2, 3, 4, 6), -2, scale=(6,))
_rows("long", (2, 3000), -1)
_rows("empty", (0, 8), -1)
case(
    Case(
        op="LayerNormalization",
        name="statistics",
        inputs=lambda rng: {
            "x": normal(rng, 2, 3, 20) + 1.0,
            "scale": normal(rng, 20),
            "bias": normal(rng, 20),
        },
        attributes={},
        oracle=lambda x, scale, bias: _layer_norm(x, scale, bias, -1, 1e-5),
        outputs=3,
        layouts=LAYOUTS,
        tolerance=ROWS,
    )
)


def _groups_of(x: Array, groups: int, eps: float) -> Array:
    rows = x.reshape(x.shape[0], groups, -1) if x.size else x.reshape(0, groups, 1)
    y = (rows - rows.mean(2, keepdims=True)) / np.sqrt(rows.var(2, keepdims=True) + eps)
    return y.reshape(x.shape)


def _grouped(op: str, name: str, shape: Sequence[int], groups: int, **attributes: Any) -> None:
    eps = attributes.get("epsilon", 1e-5)
    case(
        Case(
            op=op,
            name=name,
            inputs=lambda rng: {
                "x": normal(rng, *shape) * 3.0 - 1.0,
                "scale": normal(rng, shape[1]),
                "bias": normal(rng, shape[1]),
            },
            attributes=attributes,
            oracle=lambda x, scale, bias: (
                _groups_of(x, groups, eps) * _channels(scale, x.ndim) + _channels(bias, x.ndim)
            ),
            layouts=LAYOUTS,
            tolerance=ROWS,
        )
    )


_grouped("InstanceNormalization", "image", (2, 8, 5, 7), 8)
_grouped("InstanceNormalization", "signal", (1, 3, 50), 3, epsilon=1e-2)
_grouped("InstanceNormalization", "volume", (1, 3, 4, 5, 6), 3)
_grouped("InstanceNormalization", "no_batch", (0, 3, 4, 5), 3)
_grouped("GroupNormalization", "image", (2, 12, 5, 7), 3, num_groups=3)
_grouped("GroupNormalization", "one_group", (1, 6, 4, 4), 1, num_groups=1, epsilon=1e-2)
_grouped("GroupNormalization", "channel_groups", (1, 6, 9), 6, num_groups=6)
_grouped("GroupNormalization", "volume", (1, 4, 3, 5, 2), 2, num_groups=2)


def _mean_variance(name: str, shape: Sequence[int], axes: tuple[int, ...] | None) -> None:
    over = (0, 2, 3) if axes is None else axes
    case(
        Case(
            op="MeanVarianceNormalization",
            name=name,
            inputs=lambda rng: {"x": normal(rng, *shape) * 2.0 + 1.0},
            attributes={} if axes is None else {"axes": list(axes)},
            oracle=lambda x: (
                (x - x.mean(over, keepdims=True)) / (x.std(over, keepdims=True) + 1e-9)
            ),
            layouts=LAYOUTS,
            tolerance=ROWS,
        )
    )


_mean_variance("default", (3, 5, 6, 7), None)
_mean_variance("last", (4, 31), (-1,))
_mean_variance("outer_and_inner", (3, 4, 5), (0, 2))


for _p in (1, 2):
    for _axis in (-1, 1, 0):
        case(
            Case(
                op="LpNormalization",
                name=f"p{_p}_axis{_axis}".replace("-", "minus"),
                inputs=lambda rng: {"x": normal(rng, 3, 6, 11)},
                attributes={"p": _p, "axis": _axis},
                oracle=lambda x, p=_p, axis=_axis: (
                    x / (np.abs(x) ** p).sum(axis, keepdims=True) ** (1.0 / p)
                ),
                layouts=LAYOUTS,
            )
        )


def _lrn(x: Array, size: int, alpha: float, beta: float, bias: float) -> Array:
    squares = np.zeros_like(x)
    for c in range(x.shape[1]):
        first, last = max(0, c - (size - 1) // 2), min(x.shape[1], c + size // 2 + 1)
        squares[:, c] = (x[:, first:last] ** 2).sum(1)
    return np.asarray(x / (bias + alpha / size * squares) ** beta)


def _local_response(name: str, shape: Sequence[int], size: int, **attributes: float) -> None:
    alpha, beta, bias = (
        attributes.get(key, fallback)
        for key, fallback in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    )
    case(
        Case(
            op="LRN",
            name=name,
            inputs=lambda rng: {"x": normal(rng, *shape, scale=2.0)},
            attributes={"size": size, **attributes},
            oracle=lambda x: _lrn(x, size, alpha, beta, bias),
            layouts=LAYOUTS,
            tolerance={"float32": Tolerance(1e-5, "pow of the target")},
        )
    )


_local_response("alexnet", (1, 16, 5, 7), 5)
_local_response("three_vectors", (2, 48, 3, 2), 5, alpha=0.5)
_local_response("reach_of_a_vector", (1, 32, 2, 3), 32, alpha=0.5, beta=0.6)
_local_response("even_size", (2, 7, 4, 4), 4, alpha=0.5, beta=0.5, bias=2.0)
_local_response("signal", (1, 6, 9), 3, alpha=0.1)
_local_response("volume", (1, 5, 2, 3, 4), 3, alpha=0.1)
