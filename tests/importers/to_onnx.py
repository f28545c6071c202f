"""A dlk graph back to ONNX, in its newest form, so that engines which dlk did not write can say
whether an importer kept its meaning. For tests only."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from dlk import _core
from onnx import helper, numpy_helper

OPSET = 21


def to_model(graph: _core.Graph, opset: int = OPSET) -> onnx.ModelProto:
    """The model; control flow becomes ONNX's form, where subgraphs see what surrounds them."""
    proto = _graph_proto(graph, "g", [], top=True)
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 10
    return model


def _graph_proto(graph: _core.Graph, prefix: str, passed: list[str], top: bool) -> onnx.GraphProto:
    names = {value.id: f"{prefix}/{value.id}" for value in graph.values}
    inputs = list(graph.inputs)
    own = inputs[: len(inputs) - len(passed)] if passed else inputs
    for value, outer in zip(inputs[len(own) :], passed, strict=True):
        names[value.id] = outer
    initializers = []
    for value in graph.values:
        if value.kind in ("constant", "variable"):
            array = np.asarray(value.data)
            initializers.append(numpy_helper.from_array(array, names[value.id]))
    nodes = [_node_proto(node, names) for node in graph.nodes]
    if top:
        names_in = {value.id: value.name for value in own}
        for value in own:
            nodes.insert(0, helper.make_node("Identity", [value.name], [names[value.id]]))
    else:
        names_in = names
    infos = [_input_info(value, names_in[value.id], top) for value in own]
    outputs = []
    for index, (value, name) in enumerate(zip(graph.outputs, graph.output_names, strict=True)):
        result = name if top else f"{prefix}/out{index}"
        nodes.append(helper.make_node("Identity", [names[value.id]], [result]))
        outputs.append(helper.make_empty_tensor_value_info(result))
    return helper.make_graph(nodes, prefix, infos, outputs, initializers)


def _input_info(value: Any, name: str, top: bool) -> onnx.ValueInfoProto:
    if not top:
        return helper.make_empty_tensor_value_info(name)
    elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))
    return helper.make_tensor_value_info(name, elem_type, list(value.shape))


def _node_proto(node: Any, names: dict[int, str]) -> onnx.NodeProto:
    inputs = ["" if i is None else names[i] for i in node.inputs]
    outputs = ["" if i is None else names[i] for i in node.outputs]
    attributes = dict(node.attributes)
    graphs = {k: v for k, v in attributes.items() if isinstance(v, _core.Graph)}
    if graphs:
        captured = attributes.pop("captured", len(inputs) - 1)  # If: all but the condition
        passed = inputs[len(inputs) - captured :]
        inputs = inputs[: len(inputs) - captured]
        for key, graph in graphs.items():
            attributes[key] = _graph_proto(graph, f"{outputs[0]}/{key}", passed, top=False)
    proto = helper.make_node(node.op, inputs, outputs, domain=node.domain)
    for key, value in attributes.items():
        if isinstance(value, np.ndarray):
            value = numpy_helper.from_array(value)
        empty = isinstance(value, (list, tuple)) and not value
        kind = onnx.AttributeProto.INTS if empty else None
        proto.attribute.append(helper.make_attribute(key, value, attr_type=kind))
    return proto
