"""ONNX's own definitions of operators by other operators, for those that the engine has not."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import defs, helper

from .tensors import DTYPE_NAMES

_NUMBERS = {name: number for number, name in DTYPE_NAMES.items()}
Type = tuple[str, Sequence[int | str | None] | None]


def definition(
    proto: onnx.NodeProto, opset: int, types: Sequence[Type | None]
) -> onnx.FunctionProto | None:
    """The function that ONNX defines a node of its own domain by, or None.

    `types` are the inputs' dtypes and shapes (None: left out); some definitions depend on them, and
    are not given where a dtype is unknown ("").
    """
    try:
        schema = defs.get_schema(proto.op_type, opset, "")
    except defs.SchemaError:
        return None
    if schema.has_function:
        function = onnx.FunctionProto()
        function.CopyFrom(schema.function_body)
    elif schema.has_context_dependent_function:
        made = _made_for(schema, proto, types)
        if made is None:
            return None
        function = made
    else:
        return None
    given = {attribute.name for attribute in function.attribute_proto}
    for name, attribute in schema.attributes.items():
        if name in given:
            continue
        if attribute.default_value.name:
            if name in function.attribute:
                function.attribute.remove(name)
            function.attribute_proto.append(attribute.default_value)
        elif name not in function.attribute:
            function.attribute.append(name)
    return function


def _made_for(
    schema: defs.OpSchema, proto: onnx.NodeProto, types: Sequence[Type | None]
) -> onnx.FunctionProto | None:
    serialized = []
    for entry in types:
        if entry is None:
            serialized.append(b"")
            continue
        dtype, dims = entry
        if not dtype:
            return None
        shape = None if dims is None else list(dims)
        tensor = helper.make_tensor_type_proto(_NUMBERS[dtype], shape)
        serialized.append(tensor.SerializeToString())
    try:
        text = schema.get_context_dependent_function(proto.SerializeToString(), serialized)
    except RuntimeError:  # onnx on inputs that make no sense: the operator stays, and is reported
        return None
    return onnx.FunctionProto.FromString(text) if text else None
