"""A pooling layer's input and output as the original DeepLearningKit recorded them."""

from pathlib import Path

import numpy as np

from ..case import Array, Case, case

DATA = Path(__file__).resolve().parents[1] / "data" / "dlkit_pool1.npz"


def _recorded(name: str) -> Array:
    with np.load(DATA) as arrays:
        return np.asarray(arrays[name])


case(
    Case(
        op="MaxPool",
        name="dlkit_pool1",
        inputs=lambda rng: {"x": _recorded("x")},
        attributes={"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
        oracle=lambda x: _recorded("y"),
        dtypes=("float32",),
        layouts=("contiguous", "channels_last"),
        exact=True,
    )
)
