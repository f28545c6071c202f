"""Random numbers: Philox 4x32-10 in NumPy, so that every device must draw the same numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..case import Array, Case, Tolerance, case, normal, uniform

_M, _W = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
TOLERANCE = {
    "float32": Tolerance(2e-6, "one logarithm, root and cosine in fp32"),
    "none": Tolerance(2e-6, "one logarithm, root and cosine in fp32"),
}


def words(count: int, seed: float) -> Array:
    """The first `count` 32-bit words under the key that a seed's float64 bits are."""
    bits = int(np.float64(seed).view(np.uint64))
    keys = [bits & 0xFFFFFFFF, bits >> 32]
    blocks = np.arange(-(-count // 4), dtype=np.uint64)
    state = [blocks, np.zeros_like(blocks), np.zeros_like(blocks), np.zeros_like(blocks)]
    for _ in range(10):
        products = [state[0] * np.uint64(_M[0]), state[2] * np.uint64(_M[1])]
        state = [
            (products[1] >> np.uint64(32)) ^ state[1] ^ np.uint64(keys[0]),
            products[1] & _LOW,
            (products[0] >> np.uint64(32)) ^ state[3] ^ np.uint64(keys[1]),
            products[0] & _LOW,
        ]
        keys = [(k + w) & 0xFFFFFFFF for k, w in zip(keys, _W, strict=True)]
    return np.stack(state, 1).reshape(-1)[:count]


def uniforms(shape: tuple[int, ...], seed: float) -> Array:
    """In [0, 1): the upper 24 bits of each word."""
    return ((words(math.prod(shape), seed) >> np.uint64(8)) / 2.0**24).reshape(shape)


def normals(shape: tuple[int, ...], seed: float) -> Array:
    """Box and Muller's transform of pairs."""
    count = math.prod(shape)
    u = uniforms((count + count % 2,), seed)
    radius = np.sqrt(-2 * np.log(1 - u[0::2]))
    angle = 2 * np.pi * u[1::2]
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    return pairs.reshape(-1)[:count].reshape(shape)


def add(op: str, name: str, oracle: Any, inputs: Any, **more: Any) -> None:
    case(Case(op=op, name=name, inputs=inputs, oracle=oracle, tolerance=TOLERANCE, **more))


SHAPE = (3, 5, 7)
for op, draw, scale in (
    ("RandomUniform", uniforms, lambda u: 2 + 5 * u),
    ("RandomNormal", normals, lambda u: 2 + 5 * u),
):
    low_high = {"low": 2.0, "high": 7.0} if op == "RandomUniform" else {"mean": 2.0, "scale": 5.0}
    add(
        op,
        "shape",
        lambda d=draw, s=scale: s(d(SHAPE, 4.0)),
        lambda rng: {},
        attributes={"seed": 4.0, "shape": list(SHAPE), **low_high},
        dtypes=("none",),
    )
    add(
        f"{op}Like",
        "like",
        lambda x, d=draw, s=scale: s(d(x.shape, -1.5)),
        lambda rng: {"x": normal(rng, *SHAPE)},
        attributes={"seed": -1.5, **low_high},
        layouts=("contiguous", "strided"),
    )
    add(
        f"{op}Like",
        "of_integers",
        lambda x, d=draw: d(x.shape, 0.25),
        lambda rng: {"x": np.zeros((4, 3), np.int32)},
        attributes={"seed": 0.25, "dtype": 1},
        dtypes=("none",),
    )
for kind in (1, 6, 9):
    add(
        "Bernoulli",
        f"to_{kind}",
        lambda p, k=kind: (uniforms(p.shape, 3.0) < p).astype(
            {1: np.float32, 6: np.int32, 9: bool}[k]
        ),
        lambda rng: {"p": uniform(rng, 0, 1, 6, 50)},
        attributes={"seed": 3.0, "dtype": kind},
        layouts=("contiguous", "strided"),
        exact=True,
    )


def multinomial(x: Array, samples: int, seed: float, dtype: Any) -> Array:
    """Inversion of each row's cumulated probabilities."""
    p = np.exp(x - x.max(1, keepdims=True))
    u = uniforms((x.shape[0], samples), seed) * p.sum(1, keepdims=True)
    edges = np.cumsum(p, 1)
    return np.array(
        [np.searchsorted(e, row, side="right") for e, row in zip(edges, u, strict=True)]
    ).astype(dtype)


for number, dtype in ((6, np.int32), (7, np.int64)):
    add(
        "Multinomial",
        np.dtype(dtype).name,
        lambda x, d=dtype: multinomial(x, 40, 9.0, d),
        lambda rng: {"x": normal(rng, 5, 13)},
        attributes={"seed": 9.0, "sample_size": 40, "dtype": number},
        exact=True,
        dtypes=("float32",),
    )


def dropout(x: Array, ratio: float, seed: float) -> tuple[Array, Array]:
    kept = uniforms(x.shape, seed) >= ratio
    return x * kept / (1 - ratio), kept


for ratio in (0.25, 0.5, 0.0):
    add(
        "Dropout",
        f"training_{ratio}",
        lambda x, r, t, v=ratio: dropout(x, v, 7.0),
        lambda rng, v=ratio: {"x": normal(rng, 4, 9, 5), "r": np.array(v), "t": np.array(True)},
        attributes={"seed": 7.0},
        constants=("r", "t"),
        outputs=2,
        layouts=("contiguous", "strided"),
    )
add(
    "Dropout",
    "training_default_ratio",
    lambda x, r, t: dropout(x, 0.5, 7.0)[0],
    lambda rng: {"x": normal(rng, 50), "r": None, "t": np.array(True)},
    attributes={"seed": 7.0},
    constants=("t",),
)
