"""The first cases: what must work before anything else can."""

import numpy as np

from ..case import Case, case, normal

case(
    Case(
        op="Relu",
        name="odd",
        inputs=lambda rng: {"x": normal(rng, 3, 5, 7, 11)},
        oracle=lambda x: np.maximum(x, 0),
        layouts=("contiguous", "strided", "channels_last"),
        exact=True,
    )
)
case(
    Case(
        op="Add",
        name="broadcast_both",
        inputs=lambda rng: {"a": normal(rng, 4, 1, 9), "b": normal(rng, 5, 1)},
        oracle=lambda a, b: a + b,
        layouts=("contiguous", "strided"),
    )
)
