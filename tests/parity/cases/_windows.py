"""Sliding windows in float64 NumPy, for the oracles of convolution and pooling."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from ..case import Array


def windows(
    x: Array,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[tuple[int, int]],
    output: Sequence[int],
    fill: float,
) -> Array:
    """The values under each tap: (taps, N, C, output...), `fill` outside of the image.

    Windows may reach past the padding (ceil_mode): what is there is `fill` as well.
    """
    extra = [
        max(0, (o - 1) * s + (k - 1) * d + 1 - (n + a + b))
        for o, s, k, d, n, (a, b) in zip(
            output, strides, kernel, dilations, x.shape[2:], pads, strict=True
        )
    ]
    padded = np.pad(
        x,
        [(0, 0), (0, 0), *[(a, b + e) for (a, b), e in zip(pads, extra, strict=True)]],
        constant_values=fill,
    )
    taps = []
    for tap in itertools.product(*[range(k) for k in kernel]):
        where = tuple(
            slice(t * d, t * d + (o - 1) * s + 1, s)
            for t, d, o, s in zip(tap, dilations, output, strides, strict=True)
        )
        taps.append(padded[(slice(None), slice(None), *where)])
    return np.stack(taps)


def convolve(
    x: Array,
    w: Array,
    b: Array | None = None,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[tuple[int, int]] | None = None,
    groups: int = 1,
) -> Array:
    """Convolution of (N, C, ...) with (K, C/g, ...), tap by tap."""
    rank = x.ndim - 2
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    pads = pads or [(0, 0)] * rank
    output = [
        (n + a + e - (k - 1) * d - 1) // s + 1
        for n, (a, e), k, d, s in zip(
            x.shape[2:], pads, w.shape[2:], dilations, strides, strict=True
        )
    ]
    taps = windows(x, w.shape[2:], strides, dilations, pads, output, 0.0)
    size_in, size_out = x.shape[1] // groups, w.shape[0] // groups
    parts = [
        np.einsum(
            "tnc...,kct->nk...",
            taps[:, :, g * size_in : (g + 1) * size_in],
            w[g * size_out : (g + 1) * size_out].reshape(size_out, size_in, -1),
        )
        for g in range(groups)
    ]
    y = np.concatenate(parts, axis=1)
    return y if b is None else y + b.reshape(-1, *[1] * rank)


def convolve_transposed(
    x: Array,
    w: Array,
    b: Array | None = None,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    begin: Sequence[int] | None = None,
    output: Sequence[int] = (),
    groups: int = 1,
) -> Array:
    """Every input element adds its weights, scaled, to the output; (C, K/g, ...) weights."""
    rank = x.ndim - 2
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    begin = begin or [0] * rank
    size_in, size_out = x.shape[1] // groups, w.shape[1]
    y = np.zeros((x.shape[0], size_out * groups, *output))
    for place in itertools.product(*[range(n) for n in x.shape[2:]]):
        for tap in itertools.product(*[range(k) for k in w.shape[2:]]):
            at = [
                p * s + t * d - a
                for p, s, t, d, a in zip(place, strides, tap, dilations, begin, strict=True)
            ]
            if any(i < 0 or i >= n for i, n in zip(at, output, strict=True)):
                continue
            for g in range(groups):
                rows = slice(g * size_in, (g + 1) * size_in)
                part = x[(slice(None), rows, *place)] @ w[(rows, slice(None), *tap)]
                y[(slice(None), slice(g * size_out, (g + 1) * size_out), *at)] += part
    return y if b is None else y + b.reshape(-1, *[1] * rank)
