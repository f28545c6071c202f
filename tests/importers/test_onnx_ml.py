"""ai.onnx.ml by tensor operators, against what the operators' texts say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from dlk import _core
from dlk.importers.onnx import load_graph
from onnx import TensorProto, helper

DOMAIN = "ai.onnx.ml"
X = np.array([[1.0, -2.0, 0.5], [4.0, 0.0, 3.0]], np.float32)
NAN = np.array([[1.0, np.nan, 0.5], [np.nan, 0.0, 3.0]], np.float32)
INTS = np.array([[3, 1, 7], [9, 3, 1]], np.int64)


def model(op: str, x: np.ndarray, dtype: int, **attributes: Any) -> Any:
    node = helper.make_node(op, ["x"], ["y"], domain=DOMAIN, **attributes)
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    graph = helper.make_graph(
        [node],
        "ml",
        [helper.make_tensor_value_info("x", kind, x.shape)],
        [helper.make_tensor_value_info("y", dtype, None)],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 4)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def softmax(y: np.ndarray) -> np.ndarray:
    e = np.exp(y - y.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


WEIGHTS = np.array([[1.0, 2.0, -1.0], [0.5, 0.0, 3.0]])


@pytest.mark.parametrize(
    ("op", "x", "attributes", "expected"),
    [
        (
            "Scaler",
            X,
            {"offset": [1.0, 2.0, 3.0], "scale": [2.0, 0.5, 1.0]},
            lambda x: (x - [1, 2, 3]) * [2, 0.5, 1],
        ),
        ("Scaler", INTS, {"offset": [1.0], "scale": [2.0]}, lambda x: (x - 1.0) * 2),
        ("Normalizer", X, {"norm": "L1"}, lambda x: x / np.abs(x).sum(1, keepdims=True)),
        (
            "Normalizer",
            X,
            {"norm": "L2"},
            lambda x: x / np.sqrt((x * x).sum(1, keepdims=True)),
        ),
        ("Normalizer", X, {"norm": "MAX"}, lambda x: x / x.max(1, keepdims=True)),
        (
            "Imputer",
            NAN,
            {"imputed_value_floats": [7.0, 8.0, 9.0], "replaced_value_float": float("nan")},
            lambda x: np.where(np.isnan(x), [7.0, 8.0, 9.0], x),
        ),
        (
            "Imputer",
            INTS,
            {"imputed_value_int64s": [5], "replaced_value_int64": 3},
            lambda x: np.where(x == 3, 5, x),
        ),
        (
            "LinearRegressor",
            X,
            {
                "coefficients": [float(v) for v in WEIGHTS.reshape(-1)],
                "intercepts": [0.25, -1.0],
                "targets": 2,
                "post_transform": "SOFTMAX",
            },
            lambda x: softmax(x @ WEIGHTS.T + [0.25, -1.0]),
        ),
        (
            "LabelEncoder",
            INTS,
            {"keys_int64s": [1, 3, 7], "values_floats": [0.5, 1.5, 2.5], "default_float": -3.0},
            lambda x: np.vectorize({1: 0.5, 3: 1.5, 7: 2.5, 9: -3.0}.get)(x),
        ),
        (
            "LabelEncoder",
            NAN,
            {"keys_floats": [float("nan"), 3.0], "values_int64s": [10, 20]},
            lambda x: np.where(np.isnan(x), 10, np.where(x == 3, 20, -1)),
        ),
        ("Binarizer", X, {"threshold": 0.5}, lambda x: (x > 0.5).astype(np.float64)),
    ],
)
def test_operator(
    op: str,
    x: np.ndarray,
    attributes: dict[str, Any],
    expected: Callable[[np.ndarray], np.ndarray],
    device: Any,
) -> None:
    want = expected(x)
    dtype = TensorProto.INT64 if want.dtype.kind == "i" else TensorProto.FLOAT
    graph = load_graph(model(op, x, dtype, **attributes))
    got = _core.Model(graph, device).create_session().run({"x": x})["y"]
    assert got.dtype == (np.int64 if want.dtype.kind == "i" else np.float32)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)


def test_bad_attributes_are_named() -> None:
    with pytest.raises(ValueError, match="norm is MAX, L1 or L2"):
        load_graph(model("Normalizer", X, TensorProto.FLOAT, norm="L3"))
    with pytest.raises(ValueError, match="lacks attributes"):
        load_graph(model("TreeEnsemble", X, TensorProto.FLOAT))
    with pytest.raises(ValueError, match="texts are mapped from texts only"):
        load_graph(model("LabelEncoder", X, TensorProto.FLOAT, keys_int64s=[1], values_strings="a"))
