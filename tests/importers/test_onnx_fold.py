"""What constants alone decide is folded when a model is loaded."""

from __future__ import annotations

from typing import Any

import numpy as np
from dlk import _core
from dlk.importers.onnx import load_graph
from onnx import TensorProto, helper

from .test_onnx_adapters import make_model, node

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def constants(graph: Any) -> dict[str, np.ndarray]:
    return {v.name: v.data for v in graph.values if v.kind == "constant"}


def operators(graph: Any) -> list[str]:
    return [graph.nodes[n].op for n in graph.topological_order()]


def test_shape_arithmetic() -> None:
    """A target shape that nodes compute from constants becomes one constant."""
    nodes = [
        node("Mul", ["a", "b"], ["ab"]),
        node("Unsqueeze", ["ab", "zero"], ["first"]),
        node("Concat", ["first", "minus"], ["shape"], axis=0),
        node("Reshape", ["x", "shape"]),
    ]
    arrays = {
        "a": np.array(3, np.int64),
        "b": np.array(1, np.int64),
        "zero": np.array([0], np.int64),
        "minus": np.array([-1], np.int64),
    }
    graph = load_graph(make_model(nodes, {"x": X}, ["y"], 21, arrays))
    assert operators(graph) == ["Reshape"]
    assert {n: v.tolist() for n, v in constants(graph).items()} == {"shape": [3, -1]}


def test_weights_are_reshaped_but_not_computed_with() -> None:
    """Other shapes of a weight cost nothing; sums of weights are the device's."""
    weight = np.arange(4096, dtype=np.float32)
    nodes = [
        node("Reshape", ["w", "shape"], ["square"]),
        node("Add", ["square", "square"], ["twice"]),
        node("MatMul", ["x", "twice"]),
    ]
    shape = np.array([64, 64], np.int64)
    x = np.ones((2, 64), np.float32)
    graph = load_graph(make_model(nodes, {"x": x}, ["y"], 21, {"w": weight, "shape": shape}))
    assert operators(graph) == ["Add", "MatMul"]
    ((name, value),) = constants(graph).items()
    assert name == "square"
    np.testing.assert_array_equal(value, weight.reshape(64, 64))


def test_large_integers_are_left() -> None:
    """The host evaluates up to 1,024 elements."""
    for count, left in ((1024, ["Add"]), (1025, ["Add", "Add"])):
        table = np.arange(count, dtype=np.int64)
        nodes = [node("Add", ["t", "t"], ["sum"]), node("Add", ["sum", "i"])]
        i = np.array([1], np.int64)
        graph = load_graph(make_model(nodes, {"i": i}, ["y"], 21, {"t": table}))
        assert operators(graph) == left


def test_texts_and_outputs() -> None:
    nodes = [node("StringConcat", ["s", "s"], ["y"]), node("Neg", ["n"], ["z"])]
    model = make_model(nodes, {"x": X}, ["y", "z"], 21, {"n": np.array([5], np.int64)})
    model.graph.initializer.append(helper.make_tensor("s", TensorProto.STRING, [1], [b"ab"]))
    graph = load_graph(model)
    assert operators(graph) == []
    assert graph.output_names == ["y", "z"]
    found = constants(graph)
    assert found["y"].tolist() == ["abab"]
    assert found["z"].tolist() == [-5]


def test_bodies_of_subgraphs(device: Any) -> None:
    def branch(factor: int) -> Any:
        nodes = [
            node("Constant", [], ["k"], value_int=factor),
            node("Add", ["k", "k"], ["kk"]),
            node("Cast", ["kk"], ["f"], to=TensorProto.FLOAT),
            node("Mul", ["x", "f"], ["r"]),
        ]
        output = helper.make_tensor_value_info("r", TensorProto.FLOAT, [2, 3])
        return helper.make_graph(nodes, "b", [], [output])

    made = node("If", ["c"], then_branch=branch(2), else_branch=branch(5))
    graph = load_graph(make_model([made], {"x": X, "c": np.array(True)}, ["y"], 21))
    body = graph.nodes[0].attributes["then_branch"]
    assert operators(body) == ["Cast", "Mul"]
    session = _core.Model(graph, device).create_session()
    for condition, factor in ((True, 4), (False, 10)):
        found = session.run({"x": X, "c": np.array(condition)})["y"]
        np.testing.assert_array_equal(found, X * factor)


def test_what_does_not_fit_is_left_for_the_compiler() -> None:
    arrays = {"a": np.array([1, 2, 3], np.int64), "b": np.array([1, 2], np.int64)}
    graph = load_graph(make_model([node("Add", ["a", "b"])], {}, ["y"], 21, arrays))
    assert operators(graph) == ["Add"]


def test_declarations_stay() -> None:
    model = make_model([node("Relu", ["x"], name="r")], {"x": X}, ["y"], 21)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3]))
    graph = load_graph(model)
    (output,) = graph.outputs
    assert list(output.shape) == ["N", 3]
