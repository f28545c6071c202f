"""Small networks for the package's tests, with references in NumPy float64."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from dlk import _core

RNG = np.random.default_rng(7)
WEIGHT = RNG.standard_normal((6, 4)).astype(np.float32)
BIAS = RNG.standard_normal(4).astype(np.float32)


def dense() -> _core.Graph:
    """x (N, 6) -> y = relu(x @ WEIGHT + BIAS) (N, 4)."""
    graph = _core.Graph()
    x = graph.add_input("x", "float32", ["N", 6])
    w = graph.add_constant("w", WEIGHT)
    b = graph.add_constant("b", BIAS)
    product = graph.add_node("MatMul", [x, w], name="product")[0]
    total = graph.add_node("Add", [product, b], name="total")[0]
    graph.add_output(graph.add_node("Relu", [total], name="relu")[0], "y")
    return graph


def dense_reference(x: np.ndarray) -> np.ndarray:
    return np.maximum(x.astype(np.float64) @ WEIGHT.astype(np.float64) + BIAS, 0.0)


def pair() -> _core.Graph:
    """a, b (N, 3) -> total = a + b, difference = a - b."""
    graph = _core.Graph()
    a = graph.add_input("a", "float32", ["N", 3])
    b = graph.add_input("b", "float32", ["N", 3])
    graph.add_output(graph.add_node("Add", [a, b])[0], "total")
    graph.add_output(graph.add_node("Sub", [a, b])[0], "difference")
    return graph


def classifier() -> _core.Graph:
    """image (N, 3, 8, 8) -> the mean of each channel: names the strongest colour."""
    graph = _core.Graph()
    x = graph.add_input("image", "float32", ["N", 3, 8, 8])
    pooled = graph.add_node("GlobalAveragePool", [x])[0]
    graph.add_output(graph.add_node("Flatten", [pooled])[0], "scores")
    graph.info.labels = ["red", "green", "blue"]
    graph.info.text = {"name": "colours", "output": "logits"}
    graph.info.preprocessing = json.dumps({"resize_short": 8, "crop": 8})
    return graph


def save_onnx(path: Path) -> Path:
    """`dense` as an ONNX file."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["t"]),
        helper.make_node("Relu", ["t"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(WEIGHT, "w"), numpy_helper.from_array(BIAS, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def png(color: tuple[int, int, int] = (220, 20, 20), size: tuple[int, int] = (20, 12)) -> bytes:
    """A photograph of one colour."""
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, "PNG")
    return out.getvalue()


def relative_error(got: Any, want: Any) -> float:
    """||got - want|| / ||want|| in the 2-norm."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    return float(np.linalg.norm(got - want) / max(np.linalg.norm(want), 1e-30))
