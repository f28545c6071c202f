"""float64 through the operators whose kernels compute in double, and integer matrix products."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from ..case import CASES, Array, Case, Tolerance, case, integers
from . import (  # noqa: F401 (their cases are copied)
    attention,
    conv,
    grid_sample,
    matmul,
    normalization,
    pool,
    resize,
    rnn,
    softmax,
    vision,
)

EXACT = Tolerance(1e-12, "float64 sums of a few hundred terms")
FUNCTIONS = Tolerance(3e-6, "exponentials, powers and the like are those of float32")
PARAMETERS = Tolerance(3e-7, "attributes reach kernels in float32")
OPERATORS = {
    **dict.fromkeys(
        ("MatMul", "Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool"), EXACT
    ),
    **dict.fromkeys(
        ("Gemm", "GlobalMaxPool", "Hardmax", "Col2Im", "DeformConv", "MaxRoiPool"), EXACT
    ),
    **dict.fromkeys(("LpNormalization", "MeanVarianceNormalization"), PARAMETERS),
    **dict.fromkeys(("LpPool", "GlobalLpPool", "LRN", "Softmax", "LogSoftmax"), FUNCTIONS),
    **dict.fromkeys(("Attention", "Resize", "GridSample", "RoiAlign"), FUNCTIONS),
    **dict.fromkeys(
        ("BatchNormalization", "InstanceNormalization", "LayerNormalization"), FUNCTIONS
    ),
    **dict.fromkeys(("GroupNormalization", "RMSNormalization", "RNN", "GRU", "LSTM"), FUNCTIONS),
}

taken: dict[str, int] = {}
for found in list(CASES.values()):
    if found.op not in OPERATORS or "float32" not in found.dtypes or found.exact or found.slow:
        continue
    taken[found.op] = taken.get(found.op, 0) + 1
    if taken[found.op] > 4:
        continue
    bound = OPERATORS[found.op]
    case(
        dataclasses.replace(
            found,
            name=f"float64_{found.name}",
            dtypes=("float64",),
            layouts=("contiguous",),
            tolerance={"float64": bound},
        )
    )


def product(a: Array, b: Array) -> Array:
    return (a.astype(object) @ b.astype(object)).astype(np.int64).astype(a.dtype)


for dtype, (a, b) in itertools.product(
    ("int32", "uint32", "int64", "uint64", "int8"), (((2, 3, 5, 7), (3, 7, 4)), ((6,), (6, 3)))
):
    case(
        Case(
            op="MatMul",
            name=f"{dtype}_{len(a)}d",
            inputs=lambda rng, d=dtype, s=a, t=b: {
                "a": integers(rng, 0, 5, *s).astype(d),
                "b": integers(rng, 0, 5, *t).astype(d),
            },
            oracle=product,
            dtypes=("none",),
        )
    )
for dtype in ("int32", "uint64"):
    case(
        Case(
            op="Gemm",
            name=dtype,
            inputs=lambda rng, d=dtype: {
                "a": integers(rng, 0, 9, 5, 4).astype(d),
                "b": integers(rng, 0, 9, 3, 5).astype(d),
                "c": integers(rng, 0, 9, 3).astype(d),
            },
            attributes={"transA": 1, "transB": 1, "alpha": 2.0, "beta": 3.0},
            oracle=lambda a, b, c: 2 * a.T @ b.T + 3 * c,
            dtypes=("none",),
        )
    )
