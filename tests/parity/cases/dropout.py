"""dlk::Dropout: the mask is Philox 4x32-10 of (seed, step, element), written here a second time."""

from __future__ import annotations

import numpy as np

from ..case import Array, Case, case, normal


def _philox(index: Array, stream: int, key: int) -> Array:
    """Word `index % 4` of the block at counter (index / 4, stream) under a 64-bit key."""
    word = np.uint64(0xFFFFFFFF)
    counter = [index // 4, np.zeros_like(index), np.full_like(index, stream), np.zeros_like(index)]
    a, b, c, d = (x.astype(np.uint64) for x in counter)
    low, high = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        p, q = np.uint64(0xD2511F53) * a, np.uint64(0xCD9E8D57) * c
        a, b, c, d = (
            (q >> np.uint64(32)) ^ b ^ np.uint64(low),
            q & word,
            (p >> np.uint64(32)) ^ d ^ np.uint64(high),
            p & word,
        )
        low, high = (low + 0x9E3779B9) & 0xFFFFFFFF, (high + 0xBB67AE85) & 0xFFFFFFFF
    return np.choose(index % 4, [a, b, c, d])


def _oracle(x: Array, step: Array, ratio: float, seed: int) -> Array:
    index = np.arange(x.size, dtype=np.int64)
    uniform = (_philox(index, int(step[0]), seed) >> np.uint64(8)).astype(np.float64) * 2.0**-24
    kept = (uniform.astype(np.float32) >= np.float32(ratio)).reshape(x.shape)
    return np.asarray(np.where(kept, x / (1 - np.float64(np.float32(ratio))), 0.0))


for name, ratio, seed, shape in (
    ("half", 0.5, 7, (3, 5, 7, 4)),
    ("tenth", 0.1, 2**40 + 3, (130,)),
    ("none", 0.0, 0, (4, 4)),
):
    case(
        Case(
            op="Dropout",
            domain="dlk",
            name=name,
            inputs=lambda rng, shape=shape: {
                "x": normal(rng, *shape),
                "step": np.array([11], np.int32),
            },
            attributes={"ratio": ratio, "seed": seed},
            oracle=lambda x, step, r=ratio, s=seed: _oracle(x, step, r, s),
            layouts=("contiguous", "strided", "channels_last"),
        )
    )
