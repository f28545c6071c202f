"""Matrix products: broadcasting, vectors, transposes, constants, sizes that fit no tile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..case import Array, Case, case, normal


def _matmul(
    name: str,
    a: Sequence[int],
    b: Sequence[int],
    *,
    constant: bool = False,
    layouts: Sequence[str] = ("contiguous", "strided"),
    dtypes: Sequence[str] = ("float32", "float16"),
) -> None:
    case(
        Case(
            op="MatMul",
            name=name,
            inputs=lambda rng: {
                "a": normal(rng, *a),
                "b": normal(rng, *b, scale=max(a[-1], 1) ** -0.5),
            },
            oracle=lambda a, b: np.matmul(a, b),
            constants=("b",) if constant else (),
            layouts=layouts,
            dtypes=dtypes,
        )
    )


for _constant in (False, True):
    _suffix = "_constant" if _constant else ""
    _matmul("square" + _suffix, (64, 64), (64, 64), constant=_constant)
    _matmul("odd" + _suffix, (13, 37), (37, 29), constant=_constant)
    _matmul("row" + _suffix, (1, 300), (300, 70), constant=_constant)
    _matmul("column" + _suffix, (70, 33), (33, 1), constant=_constant)
    _matmul("batch_times_matrix" + _suffix, (3, 5, 17), (17, 20), constant=_constant)
    _matmul("two_batch_axes_times_matrix" + _suffix, (2, 3, 5, 17), (17, 20), constant=_constant)
    _matmul("vector_matrix" + _suffix, (17,), (17, 9), constant=_constant)
    _matmul("matrix_vector" + _suffix, (9, 17), (17,), constant=_constant)
    _matmul("batch_vector" + _suffix, (2, 3, 9, 17), (17,), constant=_constant)
    _matmul("dot" + _suffix, (17,), (17,), constant=_constant)
    _matmul("batched" + _suffix, (4, 7, 16), (4, 16, 12), constant=_constant)
    _matmul("no_rows" + _suffix, (0, 16), (16, 8), constant=_constant, layouts=("contiguous",))
_matmul("broadcast_both", (2, 1, 5, 8), (3, 8, 6))
_matmul("broadcast_left", (8, 8), (2, 3, 8, 6))
_matmul("vector_batch", (17,), (2, 3, 17, 9))
_matmul("deep", (5, 2048), (2048, 9), layouts=("contiguous",))
_matmul("large", (130, 200), (200, 140), layouts=("contiguous",))
_matmul("five_axes", (2, 1, 3, 5, 8), (1, 2, 3, 8, 4))
_matmul("bfloat16", (9, 16), (16, 8), dtypes=("bfloat16",), layouts=("contiguous",))


def _gemm(
    name: str,
    a: Sequence[int],
    b: Sequence[int],
    c: Sequence[int] | None = None,
    *,
    constant: bool = True,
    **attributes: Any,
) -> None:
    def inputs(rng: np.random.Generator) -> dict[str, Array | None]:
        result: dict[str, Array | None] = {
            "a": normal(rng, *a),
            "b": normal(rng, *b, scale=a[1 - attributes.get("transA", 0)] ** -0.5),
        }
        if c is not None:
            result["c"] = normal(rng, *c)
        return result

    def oracle(a: Array, b: Array, c: Array | None = None) -> Array:
        left = a.T if attributes.get("transA") else a
        right = b.T if attributes.get("transB") else b
        y = attributes.get("alpha", 1.0) * (left @ right)
        return y if c is None else y + attributes.get("beta", 1.0) * c

    case(
        Case(
            op="Gemm",
            name=name,
            inputs=inputs,
            attributes=attributes,
            oracle=oracle,
            constants=("b", "c") if constant else (),
            layouts=("contiguous", "strided"),
        )
    )


for _constant in (False, True):
    _suffix = "_constant" if _constant else ""
    _gemm("plain" + _suffix, (7, 20), (20, 33), constant=_constant)
    _gemm("classifier" + _suffix, (1, 160), (100, 160), (100,), transB=1, constant=_constant)
    _gemm("all" + _suffix, (20, 7), (33, 20), (7, 33), transA=1, transB=1, alpha=0.5, beta=-2.0,
          constant=_constant)  # fmt: skip
    _gemm("bias_row" + _suffix, (6, 20), (20, 16), (1, 16), constant=_constant)
    _gemm("bias_column" + _suffix, (6, 20), (20, 16), (6, 1), constant=_constant)
    _gemm("bias_scalar" + _suffix, (6, 20), (20, 16), (), constant=_constant)
    _gemm("bias_one" + _suffix, (6, 20), (20, 16), (1,), constant=_constant)
    _gemm("beta" + _suffix, (6, 20), (20, 16), (16,), beta=0.25, constant=_constant)
    _gemm("alpha" + _suffix, (6, 20), (20, 16), alpha=3.0, constant=_constant)
_gemm("trans_a", (20, 70), (20, 66), transA=1, constant=False)
_gemm("trans_b", (20, 72), (64, 72), transB=1, constant=False)
