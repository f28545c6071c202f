"""Softmax and its relatives along every kind of axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..case import Array, Case, Tolerance, case, normal

LAYOUTS = ("contiguous", "strided", "channels_last")


def _softmax(x: Array, axis: int) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(e / e.sum(axis, keepdims=True))


def _log_softmax(x: Array, axis: int) -> Array:
    shifted = x - x.max(axis, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis, keepdims=True)))


def _hardmax(x: Array, axis: int) -> Array:
    y = np.zeros_like(x)
    np.put_along_axis(y, np.expand_dims(x.argmax(axis), axis), 1.0, axis)
    return y


def _add(
    op: str, oracle: Callable[[Array, int], Array], name: str, shape: Sequence[int], axis: int
) -> None:
    case(
        Case(
            op=op,
            name=name,
            inputs=lambda rng: {"x": normal(rng, *shape, scale=3.0)},
            attributes={"axis": axis},
            oracle=lambda x: oracle(x, axis),
            layouts=LAYOUTS,
            exact=op == "Hardmax",
            tolerance={
                "float32": Tolerance(1e-5, "exp of the target is good to a few units"),
            },
        )
    )


for _op, _oracle in (
    ("Softmax", _softmax),
    ("LogSoftmax", _log_softmax),
    ("Hardmax", _hardmax),
):
    _add(_op, _oracle, "last", (3, 17), -1)
    _add(_op, _oracle, "classes", (1, 1000), 1)
    _add(_op, _oracle, "middle", (2, 5, 7, 3), 1)
    _add(_op, _oracle, "first", (6, 5, 4), 0)
    _add(_op, _oracle, "one", (4, 1), -1)
    _add(_op, _oracle, "vector", (33,), 0)
    _add(_op, _oracle, "empty", (0, 5), 1)

case(
    Case(
        op="Softmax",
        name="large_values",
        inputs=lambda rng: {"x": normal(rng, 4, 50, scale=3.0) * 1000.0},
        attributes={},
        oracle=lambda x: _softmax(x, -1),
        dtypes=("float32",),
    )
)
case(
    Case(
        op="Softmax",
        name="masked",
        inputs=lambda rng: {"x": np.where(rng.random((5, 40)) < 0.5, -np.inf, 1.0)},
        attributes={},
        oracle=lambda x: _softmax(x, -1),
    )
)
case(
    Case(
        op="Hardmax",
        name="ties",
        inputs=lambda rng: {"x": np.array([[1.0, 3.0, 3.0, 0.0], [2.0, 2.0, 2.0, 2.0]])},
        attributes={},
        oracle=lambda x: _hardmax(x, -1),
        exact=True,
    )
)
