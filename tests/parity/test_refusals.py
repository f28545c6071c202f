"""Nodes that make no sense are refused, before anything runs, with the reason in the message."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

X = np.zeros((2, 3, 4), np.float32)
IMAGE = np.zeros((1, 2, 4, 4), np.float32)


def i64(*values: int) -> Any:
    return np.array(values, np.int64)


# Operator, inputs (the first is an input of the run, the others constants), attributes, message.
REFUSALS: list[tuple[str, list[Any], dict[str, Any], str]] = [
    ("Concat", [X, np.zeros((2, 4, 4), np.float32)], {"axis": 0}, "differ on an axis other than 0"),
    ("Concat", [X, X], {"axis": 3}, "axis"),
    ("Concat", [X, np.zeros((2, 3, 4), np.int32)], {"axis": 0}, "int32"),
    ("Slice", [X, i64(0), i64(1), i64(0), i64(0)], {}, "step of 0"),
    ("Slice", [X, i64(0, 0), i64(1)], {}, "same length"),
    ("Slice", [X, i64(0, 0), i64(1, 1), i64(1, -2)], {}, "twice"),
    ("Split", [X, i64(1, 3)], {"axis": 1}, "does not cut"),
    ("Pad", [X, i64(1, 1)], {}, "two an axis"),
    ("Pad", [X, i64(0, 0, 0, 0, 0, 1)], {"mode": "mirror"}, "mirror"),
    ("Pad", [X, i64(-2, 0, 0, -1, 0, 0)], {}, "less than nothing"),
    ("Tile", [X, i64(1, 2)], {}, "repeats"),
    ("Tile", [X, i64(1, 2, -1)], {}, "negative repeat"),
    ("Gather", [X, i64(3)], {"axis": 1}, "out of range for an axis of 3"),
    ("Gather", [X, i64(-4, 0)], {"axis": 1}, "out of range"),
    ("Gather", [X, i64(0)], {"axis": 5}, "axis"),
    ("GatherElements", [X, i64(0, 1)], {"axis": 1}, "same rank"),
    ("GatherND", [X, np.array([[5, 0]])], {}, "out of range"),
    ("GatherND", [X, np.zeros((2, 4), np.int64)], {}, "do not fit"),
    ("ScatterND", [X, np.array([[9]]), np.zeros((1, 3, 4), np.float32)], {}, "out of range"),
    ("ScatterND", [X, np.array([[0]]), np.zeros((1, 3), np.float32)], {}, "expected"),
    (
        "ScatterElements",
        [X, np.zeros((1, 1, 1), np.int64), np.zeros((1, 1, 1), np.float32)],
        {"reduction": "xor"},
        "xor",
    ),
    ("ReduceSum", [X, i64(3)], {}, "axis"),
    ("ReduceSum", [X, i64(1, 1)], {}, "twice"),
    ("ArgMax", [np.zeros((2, 0), np.float32)], {"axis": 1}, "empty axis"),
    ("TopK", [X, i64(5)], {"axis": 2}, "from 0 to 4"),
    ("DepthToSpace", [IMAGE], {"blocksize": 2}, "multiple of blocksize squared"),
    ("DepthToSpace", [IMAGE], {"blocksize": 0}, "at least 1"),
    ("SpaceToDepth", [IMAGE], {"blocksize": 3}, "no multiples"),
    ("Resize", [IMAGE], {}, "either scales or sizes"),
    ("Resize", [IMAGE, None, np.array([1, 1, 0, 1], np.float32)], {}, "greater than 0"),
    ("Resize", [IMAGE, None, np.array([1, 1], np.float32)], {}, "one element for each"),
    (
        "Resize",
        [IMAGE, None, np.array([1, 1, 2, 2], np.float32)],
        {"coordinate_transformation_mode": "centre"},
        "centre",
    ),
    ("Resize", [IMAGE, None, np.array([1, 1, 2, 2], np.float32)], {"mode": "area"}, "area"),
    ("GridSample", [IMAGE, np.zeros((1, 3, 3, 3), np.float32)], {}, "does not fit"),
    ("Einsum", [X], {"equation": "ij->i"}, "does not fit"),
    ("Einsum", [X], {"equation": "ijk->ii"}, "result's labels"),
    ("Einsum", [X, X], {"equation": "ijk,jki->k"}, "names axes of"),
    ("CumSum", [X, i64(0, 1)], {}, "one element"),
    ("Trilu", [np.zeros(3, np.float32)], {}, "rank of at least 2"),
    ("ReverseSequence", [X, i64(1)], {}, "one element a batch entry"),
    (
        "LSTM",
        [X, np.zeros((1, 20, 4), np.float32), np.zeros((1, 20, 6), np.float32)],
        {"hidden_size": 5},
        "do not fit",
    ),
    (
        "RNN",
        [X, np.zeros((1, 5, 4), np.float32), np.zeros((1, 5, 5), np.float32)],
        {"hidden_size": 5, "direction": "up"},
        "direction",
    ),
    (
        "GRU",
        [X, np.zeros((1, 15, 4), np.float32), np.zeros((1, 15, 5), np.float32)],
        {"hidden_size": 5, "activations": ["Tanh"]},
        "1 activations, expected 2",
    ),
    ("QuantizeLinear", [X, np.zeros(5, np.float32)], {"axis": 1}, "does not fit axis 1"),
]


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "message"),
    REFUSALS,
    ids=[f"{i}-{r[0]}" for i, r in enumerate(REFUSALS)],
)
def test_refused(
    device: Any, op: str, inputs: list[Any], attributes: dict[str, Any], message: str
) -> None:
    from dlk import _core

    graph = _core.Graph()
    x = graph.add_input("x", str(inputs[0].dtype), list(inputs[0].shape))
    values = [x]
    for i, constant in enumerate(inputs[1:]):
        values.append(None if constant is None else graph.add_constant(f"c{i}", constant))
    outputs = 2 if op in ("TopK", "Split") else 1
    for i, value in enumerate(graph.add_node(op, values, attributes, outputs)):
        graph.add_output(value, f"y{i}")
    with pytest.raises(ValueError, match=message) as error:
        _core.Model(graph, device).create_session().run({"x": inputs[0]})
    assert op in str(error.value)
