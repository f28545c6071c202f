"""Einsum: sums, diagonals, products, ellipses."""

from __future__ import annotations

import numpy as np

from ..case import Case, case, integers, normal

EQUATIONS: dict[str, tuple[str, tuple[tuple[int, ...], ...]]] = {
    "transpose": ("ij->ji", ((4, 7),)),
    "sum": ("ijk->j", ((4, 7, 3),)),
    "total": ("ij->", ((5, 6),)),
    "implicit": ("ba", ((5, 6),)),
    "trace": ("ii", ((6, 6),)),
    "diagonal": ("...ii->...i", ((3, 5, 5),)),
    "matmul": ("ij,jk->ik", ((5, 9), (9, 7))),
    "implicit_matmul": ("ij,jk", ((5, 9), (9, 7))),
    "inner": ("i,i", ((13,), (13,))),
    "outer": ("i,j->ji", ((5,), (6,))),
    "batch": ("bij,bjk->bik", ((3, 4, 5), (3, 5, 6))),
    "attention": ("bqhd,bkhd->bhqk", ((2, 3, 4, 5), (2, 6, 4, 5))),
    "two_sums": ("ijk,jkl->il", ((3, 4, 5), (4, 5, 6))),
    "dropped": ("ij,k->j", ((3, 4), (5,))),
    "ellipsis": ("...ij,...jk->...ik", ((2, 1, 3, 4), (5, 4, 6))),
    "three": ("ij,jk,kl->il", ((3, 4), (4, 5), (5, 6))),
    "hadamard": ("ij,ij->ij", ((3, 4), (3, 4))),
    "empty": ("ij,jk->ik", ((3, 0), (0, 4))),
}

for name, (equation, shapes) in EQUATIONS.items():
    case(
        Case(
            op="Einsum",
            name=name,
            inputs=lambda rng, s=shapes: {
                f"x{i}": normal(rng, *shape) for i, shape in enumerate(s)
            },
            attributes={"equation": equation},
            oracle=lambda *x, e=equation: np.asarray(np.einsum(e, *x)),
            layouts=("contiguous", "strided"),
            dtypes=("float32", "float16", "float64"),
        )
    )
case(
    Case(
        op="Einsum",
        name="of_int32",
        inputs=lambda rng: {
            "a": integers(rng, -9, 9, 3, 4, 5, dtype="int32"),
            "b": integers(rng, -9, 9, 5, 4, dtype="int32"),
        },
        attributes={"equation": "ijk,kj->i"},
        dtypes=("none",),
        oracle=lambda a, b: np.einsum("ijk,kj->i", a, b),
    )
)
