"""Custom operators by a hook, the report of what runs where, and shapes with symbols."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test
import pytest
from dlk import _core
from dlk.importers.onnx import CustomNode, explain, load_graph
from onnx import helper

from .test_onnx_adapters import make_model

X = np.array([1, 2, 3], np.float32)
LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"


def _custom_model() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Shifted", ["x"], ["t"], domain="acme", name="first", by=2.5),
        helper.make_node("Relu", ["t"], ["y"]),
    ]
    model = make_model(nodes, {"x": X}, ["y"], 13)
    model.opset_import.add(domain="acme", version=3)
    return model


def _shifted(node: CustomNode) -> Any:
    assert (node.op, node.domain, node.opset, node.name) == ("Shifted", "acme", 3, "first")
    assert node.input_types[0][0] == "float32"
    graph = _core.Graph()
    x = graph.add_input("x", "float32", [])
    by = graph.add_constant("by", np.float32(node.attributes["by"]))
    graph.add_output(graph.add_node("Sub", [x, by])[0], "y")
    return graph


def test_custom_operators(device: Any) -> None:
    graph = load_graph(_custom_model(), custom_ops={"acme::Shifted": _shifted})
    assert [node.op for node in graph.nodes] == ["Sub", "Relu"]
    result = _core.Model(graph, device).create_session().run({"x": X})
    np.testing.assert_allclose(result["y"], np.maximum(X - 2.5, 0))


def test_a_hook_that_does_not_fit() -> None:
    def wrong(_: CustomNode) -> Any:
        graph = _core.Graph()
        graph.add_output(graph.add_constant("c", X), "y")
        return graph

    with pytest.raises(ValueError, match="has 0 inputs and 1 outputs; the node has 1 and 1"):
        load_graph(_custom_model(), custom_ops={"acme::Shifted": wrong})


def test_what_runs_where() -> None:
    rows = {row.op: row for row in explain(load_graph(_custom_model()))}
    assert not rows["Shifted"].supported
    assert "custom_ops" in rows["Shifted"].note
    assert rows["Relu"].supported
    assert rows["Relu"].nodes == ("y",) or rows["Relu"].count == 1
    data = Path(onnx.backend.test.__file__).parent / "data" / "node"
    loop = {row.op: row for row in explain(load_graph(data / "test_loop11" / "model.onnx"))}
    assert loop["Loop"].runs == "plan"
    assert all(row.supported for row in loop.values())
    assert "Slice" in loop


@pytest.mark.parametrize("path", sorted(LIGHT.glob("*.onnx")), ids=lambda path: path.stem)
def test_shapes_as_onnx_infers_them(path: Path) -> None:
    """With an open batch dimension, every value of the light networks."""
    model = onnx.load(path)
    initializers = {tensor.name for tensor in model.graph.initializer}
    (value,) = [v for v in model.graph.input if v.name not in initializers]
    declared = [d.dim_value for d in value.type.tensor_type.shape.dim]
    fixed = load_graph(path)
    shapes = _core.symbolic_shapes(fixed)
    checked = 0
    for info in onnx.shape_inference.infer_shapes(model).graph.value_info:
        expected = [str(d.dim_value) for d in info.type.tensor_type.shape.dim]
        if info.name in shapes and info.type.tensor_type.HasField("shape"):
            assert shapes[info.name] == expected, info.name
            checked += 1
    assert checked > 15
    if any(node.op_type == "Reshape" for node in model.graph.node):
        return  # their Reshape nodes name the batch size
    graph = load_graph(path, input_shapes={value.name: ["N", *declared[1:]]})
    open_shapes = _core.symbolic_shapes(graph)
    batched = 0
    for name, shape in shapes.items():
        if open_shapes[name] != shape:  # weights that ConstantOfShape makes stay as they are
            assert open_shapes[name] == ["N", *shape[1:]], name
            batched += 1
    assert batched > 15
    assert all(open_shapes[value.name][0] == "N" for value in graph.outputs)
