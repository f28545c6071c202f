"""One ONNX node with decoded attributes: what adapters rewrite and the builder adds to a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from onnx import AttributeProto

from .tensors import dtype_name, read_tensor


@dataclass
class Node:
    """A node whose inputs and outputs are names in its scope; "" is one that is left out."""

    op: str
    domain: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """How errors call the node."""
        kind = f"{self.domain}.{self.op}" if self.domain else self.op
        return f"node {self.name!r} ({kind})" if self.name else f"a node of type {kind}"

    def input(self, index: int) -> str:
        """The name of an input, "" where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def used_outputs(self) -> int:
        """How many outputs are there, up to the last that has a name."""
        return max((i + 1 for i, name in enumerate(self.outputs) if name), default=0)

    def put_input(self, index: int, name: str) -> None:
        """Sets an input, filling the gap before it with left-out ones."""
        while len(self.inputs) <= index:
            self.inputs.append("")
        self.inputs[index] = name


def normal_domain(domain: str) -> str:
    """ONNX's own domain has two spellings."""
    return "" if domain == "ai.onnx" else domain


def decode_node(
    proto: onnx.NodeProto,
    folder: Path | None,
    parameters: Mapping[str, AttributeProto] | None = None,
) -> Node:
    """A Node from its protobuf. `parameters` are the attributes of the function call that the node
    is part of, for attributes that refer to them."""
    node = Node(
        proto.op_type,
        normal_domain(proto.domain),
        proto.name,
        list(proto.input),
        list(proto.output),
    )
    if not proto.op_type:
        raise ValueError(f"node {proto.name!r} has no operator type; the file is damaged")
    for attribute in proto.attribute:
        source = attribute
        if attribute.ref_attr_name:
            if parameters is None:
                raise ValueError(
                    f"{node.label}: attribute {attribute.name!r} refers to "
                    f"{attribute.ref_attr_name!r}, which only the body of a function may"
                )
            if attribute.ref_attr_name not in parameters:
                continue  # the caller left it out: the operator's default holds
            source = parameters[attribute.ref_attr_name]
        value = _decode_attribute(source, node.label, attribute.name, folder)
        if attribute.name in node.attributes:
            raise ValueError(f"{node.label} has the attribute {attribute.name!r} twice")
        node.attributes[attribute.name] = value
    return node


def bound(proto: onnx.NodeProto, parameters: Mapping[str, AttributeProto] | None) -> onnx.NodeProto:
    """The node with the values of a function's parameters in place of references to them."""
    if not parameters:
        return proto
    result = onnx.NodeProto()
    result.CopyFrom(proto)
    del result.attribute[:]
    for attribute in proto.attribute:
        actual = parameters.get(attribute.ref_attr_name) if attribute.ref_attr_name else attribute
        if actual is not None:
            result.attribute.add().CopyFrom(actual)
            result.attribute[-1].name = attribute.name
    return result


def _text(data: bytes, label: str, name: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{label}: attribute {name!r} is no UTF-8 text") from error


def _decode_attribute(proto: AttributeProto, label: str, name: str, folder: Path | None) -> Any:
    kind = proto.type
    if kind == AttributeProto.UNDEFINED:  # written by exporters of ONNX IR versions 1 and 2
        kind = next(
            (k for k, f in _SCALARS.items() if proto.HasField(f)),
            next((k for k, f in _LISTS.items() if len(getattr(proto, f))), AttributeProto.INTS),
        )
    if kind == AttributeProto.INT:
        return int(proto.i)
    if kind == AttributeProto.FLOAT:
        return float(proto.f)
    if kind == AttributeProto.STRING:
        return _text(proto.s, label, name)
    if kind == AttributeProto.TENSOR:
        return read_tensor(proto.t, folder, f"{label}: attribute {name!r}")
    if kind == AttributeProto.GRAPH:
        return proto.g
    if kind == AttributeProto.INTS:
        return [int(i) for i in proto.ints]
    if kind == AttributeProto.FLOATS:
        return [float(f) for f in proto.floats]
    if kind == AttributeProto.STRINGS:
        return [_text(s, label, name) for s in proto.strings]
    if kind == AttributeProto.TYPE_PROTO:
        return type_text(proto.tp, f"{label}: attribute {name!r}")
    raise ValueError(
        f"{label}: attribute {name!r} is of a kind (number {kind}) that dlk does not read"
    )


def type_text(proto: onnx.TypeProto, what: str) -> str:
    """A type as ONNX writes it: "optional(seq(tensor(float32)))", with dlk's names of dtypes."""
    kind = proto.WhichOneof("value")
    if kind == "optional_type":
        return f"optional({type_text(proto.optional_type.elem_type, what)})"
    if kind == "sequence_type":
        return f"seq({type_text(proto.sequence_type.elem_type, what)})"
    if kind == "tensor_type":
        return f"tensor({dtype_name(proto.tensor_type.elem_type, what)})"
    raise ValueError(f"{what} is a type that dlk does not hold")


_SCALARS = {
    AttributeProto.INT: "i",
    AttributeProto.FLOAT: "f",
    AttributeProto.STRING: "s",
    AttributeProto.TENSOR: "t",
    AttributeProto.GRAPH: "g",
}
_LISTS = {
    AttributeProto.FLOATS: "floats",
    AttributeProto.STRINGS: "strings",
}
