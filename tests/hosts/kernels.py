"""Kernels to run by a foreign host: what they need, and what NumPy says they give.

Also the one thing hosts share: how parameters are laid out (KernelCode in core/device/device.h).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..parity.case import Array
from ..parity.cases._windows import convolve, windows

POINTWISE = """kernel fused
in A0 : f32
in A1 : f32
out Y : f32
param n : uint
param d[2] : uint
param s[2] : uint
param v0 : float
group 64
{
  uint i = WL * 64u + LX;
  if (i < n) {
    uint i1 = i % d[1];
    uint i0 = i / d[1];
    float a = ld(A0, i);
    float b = ld(A1, i0 * s[0] + i1 * s[1]);
    st(Y, i, tanh(a * v0) + (b > 0.0f ? b : exp(b) - 1.0f));
  }
}
"""

SUM = """kernel group_sum
in X : f32
out Y : f32
param n : uint
local part : float[64]
group 64
{
  float sum = 0.0f;
  for (uint i = LX; i < n; i += 64u) sum += ld(X, WX * n + i);
  part[LX] = sum;
  barrier();
  for (uint s = 32u; s > 0u; s = s / 2u) {
    if (LX < s) part[LX] = part[LX] + part[LX + s];
    barrier();
  }
  if (LX == 0u) st(Y, WX, part[0]);
}
"""


@dataclass(frozen=True)
class HostCase:
    name: str
    inputs: Mapping[str, Array]
    """By binding."""
    output: str
    want: Array
    params: Mapping[str, Any]
    groups: tuple[int, int, int]
    kernel: str
    source: str = ""
    constants: Mapping[str, int] = field(default_factory=dict)

    def request(self) -> Any:
        from dlk import _core

        return _core.KernelRequest(self.kernel, self.source, dict(self.constants))


def _rng(seed: int) -> Callable[..., Array]:
    rng = np.random.default_rng(seed)
    return lambda *shape: rng.standard_normal(shape).astype(np.float32)


def _strides(shape: Sequence[int]) -> list[int]:
    return [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]


def _groups(total: int, size: int = 64) -> tuple[int, int, int]:
    return (total + size - 1) // size, 1, 1


def pointwise() -> HostCase:
    a, b = _rng(1)(5, 33), _rng(2)(33)
    x, y = a.astype(np.float64) * 0.75, b.astype(np.float64)
    return HostCase(
        "pointwise",
        {"A0": a, "A1": b},
        "Y",
        np.tanh(x) + np.where(y > 0, y, np.expm1(y)),
        {"n": a.size, "d": [5, 33], "s": [0, 1], "v0": 0.75},
        _groups(a.size),
        "fused",
        POINTWISE,
    )


def group_sum() -> HostCase:
    x = _rng(3)(4, 333)
    want = x.astype(np.float64).sum(1)
    return HostCase("group_sum", {"X": x}, "Y", want, {"n": 333}, (4, 1, 1), "group_sum", SUM)


def softmax(split: int) -> HostCase:
    x = _rng(4)(3, 90, 5)
    e = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    rows = 15
    return HostCase(
        f"softmax_split{split}",
        {"X": x},
        "Y",
        e / e.sum(1, keepdims=True),
        {"rows": rows, "n": 90, "xa": 5, "ya": 5, "dims": [3, 5], "xs": [450, 1], "ys": [450, 1]},
        (rows, 1, 1) if split else _groups(rows),
        "softmax",
        constants={"ND": 2, "SPLIT": split},
    )


def gemm(kernel: str) -> HostCase:
    """Two batches of A^T B, sizes that fit no tile."""
    a, b = _rng(5)(2, 19, 37), _rng(6)(2, 19, 45)
    m, n, k = 37, 45, 19
    tile = {"gemm_tile": (32, 32), "gemm_simple": (4, 8)}[kernel]
    return HostCase(
        kernel,
        {"A": a, "B": b},
        "C",
        1.5 * a.astype(np.float64).transpose(0, 2, 1) @ b.astype(np.float64),
        {
            "m": m,
            "n": n,
            "k": k,
            "alpha": 1.5,
            "a_row": 1,
            "a_col": m,
            "a_batch": k * m,
            "b_row": n,
            "b_col": 1,
            "b_batch": k * n,
            "c_row": n,
            "c_col": 1,
            "c_batch": m * n,
        },
        ((n + tile[1] - 1) // tile[1], (m + tile[0] - 1) // tile[0], 2),
        kernel,
        constants={"BM": 32, "BN": 32} if kernel == "gemm_tile" else {},
    )


def _window_params(x: Array, y: Sequence[int], stride: int, pad: int) -> dict[str, Any]:
    """Of pictures, as volumes of depth 1."""
    n, c, h, w = x.shape
    return {
        "xs": [*_strides((n, c, h * w))[:2], 0, w, 1],
        "ys": [*_strides((y[0], y[1], y[2] * y[3]))[:2], 0, y[3], 1],
        "ext": [1, h, w],
        "res": [1, y[2], y[3]],
        "k": [1, 3, 3],
        "stride": [1, stride, stride],
        "dil": [1, 1, 1],
        "pad": [0, pad, pad],
    }


def conv() -> HostCase:
    x, w, b = _rng(7)(2, 6, 9, 8), _rng(8)(10, 3, 3, 3), _rng(9)(10)
    wide = [t.astype(np.float64) for t in (x, w, b)]
    want = convolve(*wide, [2, 2], [1, 1], [(1, 1)] * 2, 2)
    return HostCase(
        "conv_direct",
        {"X": x, "W": w, "B": b},
        "Y",
        want,
        {
            "total": want.size,
            "channels": 10,
            "cg": 3,
            "kg": 5,
            "channels_inner": 0,
            **_window_params(x, want.shape, 2, 1),
        },
        _groups(want.size),
        "conv_direct",
        constants={"HAS_BIAS": 1},
    )


def pool() -> HostCase:
    x = _rng(10)(2, 5, 11, 7)
    y = (2, 5, 5, 3)
    want = windows(x.astype(np.float64), [3, 3], [2, 2], [1, 1], [(0, 0)] * 2, y[2:], -np.inf).max(
        0
    )
    return HostCase(
        "max_pool",
        {"X": x},
        "Y",
        want,
        {
            "total": want.size,
            "channels": 5,
            "count_pad": 0,
            "power": 1,
            **_window_params(x, y, 2, 0),
            "limit": [1, 11, 7],
        },
        _groups(want.size),
        "pool",
        constants={"VW": 1},
    )


def gather() -> HostCase:
    """A backward slice, transposed."""
    x = _rng(11)(6, 8, 5)
    want = x[::2, ::-1, 1:].transpose(2, 0, 1)
    return HostCase(
        "strided_gather",
        {"X": x},
        "Y",
        want,
        {
            "total": want.size,
            "base": 7 * 5 + 1,
            "dims": [4, 3, 8],
            "ys": _strides(want.shape),
            "xs": [1, 80, -5],
        },
        _groups(want.size),
        "strided_gather",
        constants={"ND": 3},
    )


CASES = [
    pointwise(),
    group_sum(),
    softmax(0),
    softmax(1),
    gemm("gemm_simple"),
    gemm("gemm_tile"),
    conv(),
    pool(),
    gather(),
]


def scalars(code: Mapping[str, Any], params: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(kind, value) of each 4-byte element of the parameter block, in order."""
    elements: list[tuple[str, Any]] = []
    for p in code["params"]:
        given = params[p["name"]]
        values = list(given) if isinstance(given, (list, tuple)) else [given]
        assert len(values) == p["count"], p["name"]
        assert p["offset_bytes"] == 4 * len(elements), p["name"]
        elements += [(p["kind"], v) for v in values]
    assert code["param_bytes"] == 4 * len(elements)
    return elements


def param_block(code: Mapping[str, Any], params: Mapping[str, Any], bases: Sequence[int]) -> bytes:
    """A SPIR-V kernel's block: the base of each binding in elements, then the parameters."""
    block = b"".join(struct.pack("<I", base) for base in bases)
    kinds = {"u": "<I", "i": "<i", "f": "<f"}
    return block + b"".join(struct.pack(kinds[k], v) for k, v in scalars(code, params))


def check(case: HostCase, got: Array) -> None:
    error = np.abs(got.reshape(case.want.shape).astype(np.float64) - case.want).max()
    assert error <= 5e-6 * np.abs(case.want).max(), f"{case.name} is off by {error}"
