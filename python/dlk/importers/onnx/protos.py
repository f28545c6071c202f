"""Looking at ONNX protobufs without building anything: types, subgraphs, names, sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import onnx
from onnx import AttributeProto

from .node import normal_domain
from .tensors import DTYPE_NAMES, dtype_name

Dims = list[int | str | None]
FunctionKey = tuple[str, str, str]
Type = tuple[str, Dims | None]


def read_dims(type_proto: onnx.TypeProto, what: str) -> Type:
    """Element type and shape of a tensor type; None as the shape where it declares no rank."""
    if type_proto.WhichOneof("value") != "tensor_type":
        raise ValueError(f"{what} is no tensor")
    tensor = type_proto.tensor_type
    name = dtype_name(tensor.elem_type, what)
    if not tensor.HasField("shape"):
        return name, None
    dims: Dims = []
    for dim in tensor.shape.dim:
        kind = dim.WhichOneof("value")
        if kind == "dim_value" and dim.dim_value >= 0:
            dims.append(int(dim.dim_value))
        elif kind == "dim_param" and dim.dim_param not in ("", "?"):
            dims.append(dim.dim_param)
        else:  # unnamed, or a negative number, which old exporters wrote for "any"
            dims.append(None)
    return name, dims


def value_type(proto: onnx.TypeProto, what: str) -> tuple[str, onnx.TypeProto]:
    """How a graph holds a value ("tensor", "sequence", "optional", "optional_sequence"), and the
    type of its tensors."""
    kind, inner = "tensor", proto
    if inner.WhichOneof("value") == "optional_type":
        kind, inner = "optional", inner.optional_type.elem_type
    if inner.WhichOneof("value") == "sequence_type":
        kind = "optional_sequence" if kind == "optional" else "sequence"
        inner = inner.sequence_type.elem_type
    if inner.WhichOneof("value") != "tensor_type":
        raise ValueError(
            f"{what} is neither a tensor nor an optional or a sequence of tensors; dlk has no "
            "maps, no sparse tensors and no sequences of sequences"
        )
    return kind, inner


def is_plain_tensor(proto: onnx.TypeProto) -> bool:
    return proto.WhichOneof("value") == "tensor_type" and proto.tensor_type.elem_type in DTYPE_NAMES


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs in a node's attributes."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH or attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def free_names(graph: onnx.GraphProto) -> list[str]:
    """Names that a graph uses but does not define, in order of first use."""
    defined = {value.name for value in graph.input} | {t.name for t in graph.initializer}
    free: dict[str, None] = {}
    for node in graph.node:
        inner = [name for sub in subgraphs(node) for name in free_names(sub)]
        free.update((n, None) for n in [*node.input, *inner] if n and n not in defined)
        defined.update(node.output)
    free.update((v.name, None) for v in graph.output if v.name and v.name not in defined)
    return list(free)


def used_names(nodes: Iterable[onnx.NodeProto], outputs: Iterable[str]) -> set[str]:
    """All names that something reads."""
    used = set(outputs)
    for node in nodes:
        used.update(node.input)
        for sub in subgraphs(node):
            used.update(free_names(sub))
    return used


def expanded_size(
    nodes: Iterable[onnx.NodeProto],
    functions: Mapping[FunctionKey, onnx.FunctionProto],
    known: dict[FunctionKey, int],
) -> int:
    """How many nodes there are once functions are inlined. ValueError for recursion."""
    count = 0
    for node in nodes:
        key = (normal_domain(node.domain), node.op_type, getattr(node, "overload", ""))
        if key in functions:
            if key not in known:
                known[key] = -1
                known[key] = expanded_size(functions[key].node, functions, known)
            if known[key] < 0:
                raise ValueError(
                    f"the function {node.op_type!r} calls itself, which ONNX functions cannot"
                )
            count += known[key]
        count += 1 + sum(expanded_size(g.node, functions, known) for g in subgraphs(node))
    return count
