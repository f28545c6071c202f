"""Graphs to ONNX models: every graph that dlk holds, in the newest operator set.

Needs the `onnx` package. Operators of dlk's own domain stay in a domain called "dlk". ONNX has no
state: a variable that a run assigns becomes an input with its present value as the default, and
its next value an output called NAME:next.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

    from dlk import _core

__all__ = ["save_onnx", "to_onnx"]

OPSET = 25
IR_VERSIONS = {21: 10, 22: 10, 23: 11, 24: 12, 25: 13}
OTHER_OPSETS = {"ai.onnx.ml": 5, "ai.onnx.preview.training": 1}
LARGEST_PROTOBUF = (1 << 31) - (1 << 24)


def to_onnx(graph: _core.Graph, *, opset: int = OPSET) -> onnx.ModelProto:
    """The graph as a model; weights and all. `opset` 21 to 25 is written into the file.

    Raises ValueError for an opset that dlk does not write, ImportError without `onnx`.
    """
    from onnx import helper

    from dlk import __version__

    if opset not in IR_VERSIONS:
        raise ValueError(f"opset {opset} is not written; use {min(IR_VERSIONS)} to {OPSET}")
    graph.validate()
    writer = _Writer(opset)
    proto = writer.graph(graph, graph.info.text.get("name", "") or "dlk", "", {})
    imports = [helper.make_opsetid("", opset)]
    imports += [helper.make_opsetid(d, OTHER_OPSETS.get(d, 1)) for d in sorted(writer.domains)]
    model = helper.make_model(proto, opset_imports=imports, producer_name="dlk")
    model.producer_version = __version__
    model.ir_version = IR_VERSIONS[opset]
    for key in ("license", "author", "source"):
        if text := graph.info.text.get(key, ""):
            model.metadata_props.add(key=key, value=text)
    return _with_output_types(model, graph)


def save_onnx(graph: _core.Graph, path: str | os.PathLike[str], *, opset: int = OPSET) -> None:
    """Writes the graph; weights that one protobuf cannot hold go to a file NAME.data beside it."""
    import onnx

    from dlk._atomic import atomic_path

    target = Path(path)
    model = to_onnx(graph, opset=opset)
    size = sum(len(t.raw_data) for t in model.graph.initializer)
    if size > LARGEST_PROTOBUF:
        onnx.save_model(
            model,
            os.fspath(target),
            save_as_external_data=True,
            location=target.name + ".data",
        )
        return
    with atomic_path(target) as temporary:
        temporary.write_bytes(model.SerializeToString())


class _Writer:
    """One model: the domains that its nodes use, and how its parts become protobufs."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.domains: set[str] = set()

    def graph(
        self, graph: _core.Graph, name: str, prefix: str, outer: Mapping[int, str]
    ) -> onnx.GraphProto:
        """`outer`: names that a subgraph's inputs have in the graphs around it."""
        from onnx import GraphProto, ValueInfoProto, helper

        proto = GraphProto(name=name)
        names = {value.id: prefix + value.name for value in graph.values} | dict(outer)
        for value in graph.inputs:
            if value.id not in outer:  # a subgraph's inputs get their types from the node's
                name = names[value.id]
                proto.input.append(
                    ValueInfoProto(name=name) if prefix else _value_info(name, value)
                )
        assigned = {variable for variable, _ in graph.assignments}
        for value in graph.values:
            if value.data is not None:
                tensor = tensor_proto(names[value.id], value.data, value.dtype)
                proto.initializer.append(tensor)
                if value.id in assigned:
                    proto.input.append(_value_info(names[value.id], value))
        nodes = graph.nodes
        for index in graph.topological_order():
            proto.node.append(self._node(nodes[index], names, prefix))
        results = list(zip(graph.output_names, (v.id for v in graph.outputs), strict=True))
        results += [(f"{graph.value(v).name}:next", new) for v, new in graph.assignments]
        taken = set(names.values())
        for wanted, identifier in results:
            output = prefix + wanted
            if names[identifier] != output:
                while output in taken:
                    output += "_out"
                taken.add(output)
                proto.node.append(helper.make_node("Identity", [names[identifier]], [output]))
            value = graph.value(identifier)
            typed = not prefix and (
                value.kind != "result" or value.shape is not None or value.type != "tensor"
            )
            proto.output.append(
                _value_info(output, value) if typed else ValueInfoProto(name=output)
            )
        return proto

    def _node(self, node: _core.Node, names: Mapping[int, str], prefix: str) -> onnx.NodeProto:
        from onnx import NodeProto

        attributes = dict(node.attributes)
        captured = attributes.pop("captured", 0) if _has_graphs(node) else 0
        if node.op == "If" and not node.domain:
            captured = len(node.inputs) - 1
        own = len(node.inputs) - captured
        proto = NodeProto(op_type=node.op, domain=node.domain, name=prefix + node.name)
        proto.input.extend("" if i is None else names[i] for i in node.inputs[:own])
        proto.output.extend("" if i is None else names[i] for i in node.outputs)
        if node.domain:
            self.domains.add(node.domain)
        for key, value in attributes.items():
            if hasattr(value, "topological_order"):
                inner = value.inputs[len(value.inputs) - captured :] if captured else []
                passed = [names[i] for i in node.inputs[own:] if i is not None]
                outer = {v.id: n for v, n in zip(inner, passed, strict=True)}
                path = f"{prefix}{node.name}/{key}/"
                body = self.graph(value, f"{node.name}/{key}", path, outer)
                proto.attribute.add(name=key, type=_GRAPH, g=body)
            else:
                self._attribute(proto, node, key, value)
        return proto

    def _attribute(self, proto: Any, node: _core.Node, key: str, value: Any) -> None:
        from onnx import AttributeProto, defs

        attribute = proto.attribute.add(name=key)
        declared = None
        if defs.has(node.op, domain=node.domain):
            schema = defs.get_schema(node.op, self.opset, node.domain) if not node.domain else (
                defs.get_schema(node.op, domain=node.domain)
            )  # fmt: skip
            if key in schema.attributes:
                declared = int(schema.attributes[key].type.value)
        kind = declared or _kind_of(value)
        attribute.type = kind
        if kind == AttributeProto.INT:
            # dlk also takes a dtype by its name, as Cast's "to"
            attribute.i = _element_type(value) if isinstance(value, str) else int(value)
        elif kind == AttributeProto.FLOAT:
            attribute.f = float(value)
        elif kind == AttributeProto.STRING:
            attribute.s = str(value).encode()
        elif kind == AttributeProto.TENSOR:
            attribute.t.CopyFrom(tensor_proto("", value, str(value.dtype)))
        elif kind == AttributeProto.INTS:
            attribute.ints.extend(int(v) for v in value)
        elif kind == AttributeProto.FLOATS:
            attribute.floats.extend(float(v) for v in value)
        elif kind == AttributeProto.STRINGS:
            attribute.strings.extend(str(v).encode() for v in value)
        elif kind == AttributeProto.TYPE_PROTO:
            attribute.tp.CopyFrom(type_proto(str(value)))
        else:
            raise ValueError(f"{node.name}: attribute {key!r} cannot be written")


_GRAPH = 5  # AttributeProto.GRAPH


def _has_graphs(node: _core.Node) -> bool:
    return any(hasattr(value, "topological_order") for value in node.attributes.values())


def _kind_of(value: Any) -> int:
    from onnx import AttributeProto

    kinds = AttributeProto.AttributeType
    name = "INTS"
    if isinstance(value, np.ndarray):
        name = "TENSOR"
    elif isinstance(value, str):
        name = "STRING"
    elif isinstance(value, (float, int)):
        name = "FLOAT" if isinstance(value, float) else "INT"
    elif value and all(isinstance(v, str) for v in value):
        name = "STRINGS"
    elif any(isinstance(v, float) for v in value):
        name = "FLOATS"
    return int(kinds.Value(name))


def _element_type(dtype: str) -> int:
    from dlk.importers.onnx.tensors import DTYPE_NAMES

    for number, name in DTYPE_NAMES.items():
        if name == dtype:
            return number
    raise ValueError(f"ONNX has no element type {dtype}")


def tensor_proto(name: str, array: np.ndarray, dtype: str) -> onnx.TensorProto:
    """An initializer; `dtype` is dlk's name, which bits of bfloat16 need."""
    from onnx import TensorProto, numpy_helper

    if dtype == "string":
        texts = [str(text).encode() for text in array.ravel()]
        proto = TensorProto(name=name, data_type=TensorProto.STRING, string_data=texts)
        proto.dims.extend(array.shape)
        return proto
    if array.dtype.itemsize == 2:  # bits of bfloat16 have no dtype of their own
        proto = TensorProto(name=name, data_type=_element_type(dtype))
        proto.dims.extend(array.shape)
        proto.raw_data = array.tobytes()
        return proto
    return numpy_helper.from_array(np.array(array, order="C"), name)


def type_proto(text: str) -> onnx.TypeProto:
    """A type from ONNX's text for it: "optional(seq(tensor(float32)))"."""
    from onnx import TypeProto

    proto = TypeProto()
    inner = proto
    kinds = text.removesuffix(")" * text.count(")")).split("(")
    for kind in kinds[:-1]:
        if kind == "optional":
            inner = inner.optional_type.elem_type
        elif kind == "seq":
            inner = inner.sequence_type.elem_type
    inner.tensor_type.elem_type = _element_type(kinds[-1])
    return proto


_TYPE_PREFIXES: dict[str, Sequence[str]] = {
    "tensor": (),
    "sequence": ("seq",),
    "optional": ("optional",),
    "optional_sequence": ("optional", "seq"),
}


def _value_info(name: str, value: _core.Value) -> onnx.ValueInfoProto:
    from onnx import ValueInfoProto

    info = ValueInfoProto(name=name)
    inner = info.type
    for kind in _TYPE_PREFIXES[value.type]:
        inner = (inner.optional_type if kind == "optional" else inner.sequence_type).elem_type
    inner.tensor_type.elem_type = _element_type(value.dtype)
    if value.type != "tensor" and not value.shape:
        return info
    inner.tensor_type.shape.SetInParent()
    for dim in value.shape or ():
        entry = inner.tensor_type.shape.dim.add()
        if isinstance(dim, int):
            entry.dim_value = dim
        elif dim is not None:
            entry.dim_param = dim
    return info


def _with_output_types(model: onnx.ModelProto, graph: _core.Graph) -> onnx.ModelProto:
    """The model with all its outputs typed, by inference where the graph does not say."""
    from dlk import _core

    if all(output.type.WhichOneof("value") for output in model.graph.output):
        return model
    shapes, dtypes = _core.symbolic_shapes(graph), _core.value_dtypes(graph)
    values = [value.name for value in graph.outputs]
    values += [graph.value(new).name for _, new in graph.assignments]
    for output, name in zip(model.graph.output, values, strict=True):
        if output.type.WhichOneof("value") or name not in dtypes:
            continue
        tensor = output.type.tensor_type
        tensor.elem_type = _element_type(dtypes[name])
        tensor.shape.SetInParent()
        for text in shapes.get(name, []):
            dim = tensor.shape.dim.add()
            if text.isdigit():
                dim.dim_value = int(text)
            elif text != "?":
                dim.dim_param = text
    return model
