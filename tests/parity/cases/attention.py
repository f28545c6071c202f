"""Attention with masks, grouped heads, softcap, a cache and every score output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..case import Array, Case, Tolerance, case, ints, normal

TOLERANCE = {
    "float16": Tolerance(2e-3, "results round to fp16; the arithmetic is fp32"),
}


def heads(x: Array, count: int) -> Array:
    """(batch, length, heads * size) as (batch, heads, length, size)."""
    return x if x.ndim == 4 else np.moveaxis(x.reshape(*x.shape[:2], count, -1), 2, 1)


def attention(
    inputs: tuple[Array | None, ...], attributes: Mapping[str, Any], past: int, outputs: int
) -> tuple[Array, ...]:
    """ONNX's definition, step by step."""
    q, k, v, mask, past_k, past_v, lengths = (*inputs, *[None] * (7 - len(inputs)))
    assert q is not None
    assert k is not None
    assert v is not None
    flat = q.ndim == 3
    q = heads(q, attributes.get("q_num_heads", 0))
    k, v = (heads(x, attributes.get("kv_num_heads", 0)) for x in (k, v))
    if past_k is not None and past_v is not None:
        k, v = np.concatenate([past_k, k], 2), np.concatenate([past_v, v], 2)
    repeats = q.shape[1] // k.shape[1]
    scale = attributes.get("scale", q.shape[3] ** -0.5)
    scores = [scale * q @ np.repeat(k, repeats, 1).swapaxes(2, 3)]
    rows, columns = scores[0].shape[2:]
    bias = np.zeros((rows, columns))
    if attributes.get("is_causal"):
        bias = np.where(np.arange(columns) > past + np.arange(rows)[:, None], -np.inf, 0.0)
    if mask is not None:
        given = np.where(mask, 0.0, -np.inf) if mask.dtype == bool else mask
        missing = [(0, 0)] * (given.ndim - 1) + [(0, columns - given.shape[-1])]
        bias = bias + np.pad(given, missing, constant_values=-np.inf)
    if lengths is not None:
        bias = bias + np.where(np.arange(columns) < lengths[:, None, None, None], 0.0, -np.inf)
    scores.append(scores[0] + bias)
    cap = attributes.get("softcap", 0.0)
    scores.append(cap * np.tanh(scores[1] / cap) if cap else scores[1])
    weights = np.exp(scores[2] - scores[2].max(3, keepdims=True))
    scores.append(weights / weights.sum(3, keepdims=True))
    y = scores[3] @ np.repeat(v, repeats, 1)
    if flat:
        y = np.moveaxis(y, 1, 2).reshape(y.shape[0], rows, -1)
    return (y, k, v, scores[attributes.get("qk_matmul_output_mode", 0)])[:outputs]


def add(
    name: str,
    shapes: tuple[tuple[int, ...], ...],
    attributes: Mapping[str, Any] | None = None,
    mask: Any = None,
    past: int = 0,
    lengths: Any = None,
    outputs: int = 1,
    layouts: tuple[str, ...] = ("contiguous",),
) -> None:
    """`shapes` of queries, keys and values; `past` keys come before."""
    attributes = attributes or {}

    def inputs(rng: np.random.Generator) -> dict[str, Array | None]:
        q, k, v = (normal(rng, *s) for s in shapes)
        before = [k.shape[1], past], [k.shape[0]]
        result: dict[str, Array | None] = {"q": q, "k": k, "v": v}
        if mask or past or lengths is not None:
            result["mask"] = mask(rng) if mask else None
        if past or lengths is not None:
            b, h = before[1][0], before[0][0]
            result["past_k"] = normal(rng, b, h, past, k.shape[3]) if past else None
            result["past_v"] = normal(rng, b, h, past, v.shape[3]) if past else None
        if lengths is not None:
            result["lengths"] = lengths
        return result

    case(
        Case(
            op="Attention",
            name=name,
            inputs=inputs,
            attributes=attributes,
            outputs=outputs,
            oracle=lambda *x: attention(x, attributes, past, outputs),
            layouts=layouts,
            tolerance=TOLERANCE,
        )
    )


SMALL = ((2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 6))
LONG = ((1, 2, 19, 16), (1, 2, 150, 16), (1, 2, 150, 70))
GROUPED = ((2, 6, 5, 8), (2, 2, 7, 8), (2, 2, 7, 6))
FLAT = ((2, 5, 24),)
add("small", SMALL, layouts=("contiguous", "strided"))
add("long", LONG, {"scale": 0.2})
add("long_causal", LONG, {"is_causal": 1})
add("one_query", ((3, 2, 1, 64), (3, 2, 90, 64), (3, 2, 90, 64)))
add("grouped", GROUPED, {"is_causal": 1})
add("flat", (*FLAT, (2, 7, 8), (2, 7, 6)), {"q_num_heads": 3, "kv_num_heads": 1})
add("flat_two", (*FLAT, (2, 7, 24), (2, 7, 18)), {"q_num_heads": 3, "kv_num_heads": 3})
add("float_mask", SMALL, mask=lambda rng: normal(rng, 5, 7))
add("bool_mask", SMALL, mask=lambda rng: rng.random((2, 1, 5, 7)) < 0.7)
add("short_mask", SMALL, mask=lambda rng: normal(rng, 2, 3, 5, 4))
add("softcap", LONG, {"softcap": 2.0, "is_causal": 1})
add("cache", SMALL, {"is_causal": 1}, past=6, outputs=3)
add("present_only", SMALL, outputs=3)
add("lengths", SMALL, lengths=ints(3, 6))
for mode in range(4):
    add(
        f"scores_{mode}",
        SMALL,
        {"qk_matmul_output_mode": mode, "softcap": 3.0},
        mask=lambda rng: normal(rng, 3, 5, 13),
        past=6,
        outputs=4,
    )
