"""ONNX models to dlk graphs: opsets 1 to 25, every operator in its newest form afterwards.

Needs the `onnx` package. Nothing of a model is executed, and a damaged or hostile file gives a
ValueError that says what is wrong. An operator that the engine has not is replaced by ONNX's own
definition of it by others, where there is one; the rest is reported by `dlk.Model`, all at once,
when the graph is compiled.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .custom import CustomNode, CustomOp
from .explain import Explanation, explain

if TYPE_CHECKING:
    import onnx

    from dlk import _core

__all__ = ["CustomNode", "CustomOp", "Explanation", "explain", "load_graph"]

MAX_FILE_BYTES = 1 << 31  # protobuf's own limit


def load_graph(
    source: str | os.PathLike[str] | bytes | onnx.ModelProto,
    *,
    external_data: str | os.PathLike[str] | None = None,
    input_shapes: Mapping[str, Sequence[int | str | None]] | None = None,
    custom_ops: Mapping[str, CustomOp] | None = None,
) -> _core.Graph:
    """Reads an ONNX model.

    `source` is a path, the bytes of a file, or a ModelProto. `external_data` is the folder that
    weights stored outside of the file lie in (by default the file's own); nothing outside of it is
    read. `input_shapes` replaces the declared shapes of inputs: numbers, names of open dimensions,
    or None. Symbolic dimensions stay symbolic in the graph. `custom_ops` gives a graph for each
    node of an operator that dlk does not know: {"DOMAIN::OPERATOR": function of a `CustomNode`}.
    Shape arithmetic and texts that constants alone decide are folded; arithmetic on weights is
    left to the device.

    Raises ValueError for damaged, hostile and too new files and for element types that dlk does
    not hold, FileNotFoundError for a path that is not there, ImportError without `onnx`.
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError("reading ONNX models needs the onnx package: pip install onnx") from error

    from dlk._core import Graph, fold_constants, has_operator

    from .build import Builder, opset_versions
    from .tensors import parse_model

    folder = Path(external_data) if external_data is not None else None
    name = "the model"
    if isinstance(source, onnx.ModelProto):
        model = source
        if not model.HasField("graph"):
            raise ValueError("the model holds no graph")
    else:
        if isinstance(source, bytes):
            data = source
        else:
            path = Path(source)
            name = path.name
            folder = folder if folder is not None else path.parent
            if path.stat().st_size > MAX_FILE_BYTES:
                raise ValueError(
                    f"{name} is larger than 2 GiB, which no ONNX file is: weights beyond that "
                    "belong in external data"
                )
            data = path.read_bytes()
        model = parse_model(data, name)
    if not model.opset_import and model.ir_version >= 3:
        raise ValueError(f"{name} names no operator set; the file is truncated or damaged")
    builder = Builder(Graph, _local_functions(model), folder, has_operator, custom_ops)
    graph = fold_constants(
        builder.build(model.graph, opset_versions(model.opset_import), input_shapes or {})
    )
    graph.info.text = _info(model, name)
    return graph


def _local_functions(model: onnx.ModelProto) -> dict[Any, Any]:
    from .node import normal_domain

    functions = {}
    for function in model.functions:
        key = (normal_domain(function.domain), function.name, getattr(function, "overload", ""))
        if key in functions:
            raise ValueError(f"the model defines the function {function.name!r} twice")
        functions[key] = function
    return functions


def _info(model: onnx.ModelProto, name: str) -> dict[str, str]:
    info = {"name": model.graph.name or name, "format": "onnx"}
    if model.producer_name:
        info["producer"] = f"{model.producer_name} {model.producer_version}".strip()
    if model.doc_string:
        info["description"] = model.doc_string[:2000]
    for entry in model.metadata_props:
        if entry.key in ("license", "author", "source"):
            info[entry.key] = entry.value
    return info
