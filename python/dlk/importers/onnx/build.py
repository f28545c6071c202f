"""Adds the nodes of an ONNX graph to a `dlk.Graph`: names to values, constants, function bodies
inlined, subgraphs made functional (what they use of their surroundings becomes explicit inputs).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from dlk._core import symbolic_shapes, value_dtypes

from .adapters import ALWAYS, NEWEST_OPSET, adapt, check_cast_targets
from .custom import CustomNode, CustomOp, inline_graph
from .definitions import definition
from .ml import replace
from .node import Node, bound, decode_node, normal_domain
from .protos import (
    FunctionKey,
    Type,
    expanded_size,
    free_names,
    is_plain_tensor,
    read_dims,
    subgraphs,
    used_names,
    value_type,
)
from .scope import NodeContext, Scope
from .tensors import DTYPE_NAMES, read_tensor

MAX_NODES = 500_000  # after inlining, which can multiply
MAX_DEPTH = 64
MAX_MADE_ELEMENTS = 1 << 26  # of all tables that stand for operators, beyond what the file holds
MAX_INFERRED_NODES = 500_000  # that type inference goes through in all, again for each question
INLINE_ELEMENTS = 1024  # constants up to here are copied into subgraphs instead of passed in

_KEEPS_DTYPE = frozenset({"Identity", "LogSoftmax", "Reshape", "Softmax", "Transpose"})
_ANY: Type = ("float32", None)  # undeclared; inference takes a subgraph's from the node's inputs


class Builder:
    """Builds one model. `functions` are the model-local ones by (domain, name, overload);
    `is_built` says which operators the engine has: others become ONNX's definition of them, where
    there is one."""

    def __init__(
        self,
        graph_type: type,
        functions: Mapping[FunctionKey, onnx.FunctionProto],
        folder: Path | None,
        is_built: Callable[[str], bool] = lambda _: True,
        custom_ops: Mapping[str, CustomOp] | None = None,
    ) -> None:
        self._graph_type = graph_type
        self._functions = functions
        self._folder = folder
        self._is_built = is_built
        self._custom_ops = dict(custom_ops or {})
        self._nodes = self._made = self._inferred = 0

    def reserve(self, elements: int, label: str) -> None:
        """Counts what a node makes that the file does not hold; ValueError when it is too much."""
        self._made += elements
        if self._made > MAX_MADE_ELEMENTS:
            raise ValueError(
                f"{label} would need tables of {self._made} elements (with those of the nodes "
                f"before it); the limit is {MAX_MADE_ELEMENTS}"
            )

    # Graphs and functions

    def build(
        self,
        proto: onnx.GraphProto,
        opsets: Mapping[str, int],
        input_shapes: Mapping[str, Sequence[int | str | None]],
    ) -> Any:
        """The top-level graph."""
        size = expanded_size(proto.node, self._functions, {})
        if size > MAX_NODES:
            raise ValueError(f"the model expands to {size} nodes; the limit is {MAX_NODES}")
        graph = self._graph_type()
        scope = self._open_scope(graph, proto, opsets, depth=0)
        names = {value.name for value in proto.input} - set(scope.initializers)
        unknown = set(input_shapes) - names
        if unknown:
            raise ValueError(
                f"input_shapes names {sorted(unknown)}, but the inputs are {sorted(names)}"
            )
        for value in proto.input:
            if value.name in scope.initializers:
                continue  # IR versions before 4 listed weights as inputs too
            kind, tensor_type = value_type(value.type, f"input {value.name!r}")
            name, dims = read_dims(tensor_type, f"input {value.name!r}")
            if kind != "tensor":
                handle = graph.add_input(value.name, name, dims or [], kind)
                scope.define(value.name, handle, "the graph")
                continue
            if value.name in input_shapes:
                dims = list(input_shapes[value.name])
            if dims is None:
                raise ValueError(
                    f"input {value.name!r} declares no shape; give one by "
                    f"input_shapes={{{value.name!r}: (...)}} (None or a name for an open dimension)"
                )
            scope.types[value.name] = (name, dims)
            scope.define(value.name, graph.add_input(value.name, name, dims), "the graph")
        self._run(proto.node, scope)
        self._add_outputs(proto, scope)
        return graph

    def _open_scope(
        self, graph: Any, proto: onnx.GraphProto, opsets: Mapping[str, int], depth: int
    ) -> Scope:
        if depth > MAX_DEPTH:
            raise ValueError(f"graphs are nested more than {MAX_DEPTH} deep; the file is hostile")
        if proto.sparse_initializer:
            raise ValueError(
                "the graph has sparse initializers, which dlk does not read; store them dense"
            )
        used = used_names(proto.node, (v.name for v in proto.output))
        scope = Scope(graph, opsets, used, depth=depth)
        for tensor in proto.initializer:
            if not tensor.name or tensor.name in scope.initializers:
                raise ValueError(f"initializer {tensor.name!r} has no name or a name twice used")
            scope.initializers[tensor.name] = tensor
            dtype = DTYPE_NAMES.get(tensor.data_type, "float32")
            scope.types[tensor.name] = (dtype, list(tensor.dims))
        for value in [*proto.value_info, *proto.output]:
            if is_plain_tensor(value.type):
                scope.types[value.name] = read_dims(value.type, value.name)
        scope.produced_later = {name for node in proto.node for name in node.output if name}
        return scope

    def _add_outputs(self, proto: onnx.GraphProto, scope: Scope) -> None:
        if not proto.output:
            raise ValueError("the graph has no outputs; there is nothing to compute")
        for value in proto.output:
            if not value.name:
                raise ValueError("a graph output has no name; the file is damaged")
            result = self.resolve(value.name, scope, "the graph's output")
            scope.graph.add_output(result, value.name)
            if scope.graph.value(result).kind == "result" and value.type.WhichOneof("value"):
                kind, tensor_type = value_type(value.type, f"output {value.name!r}")
                scope.graph.declare(result, *read_dims(tensor_type, value.name), kind)

    def _subgraph(
        self, proto: onnx.GraphProto, outer: Scope, passed: list[str], inlined: list[str]
    ) -> Any:
        """A functional copy of a subgraph: `passed` names become inputs after its own."""
        graph = self._graph_type()
        scope = self._open_scope(graph, proto, outer.opsets, outer.depth + 1)
        scope.parameters = outer.parameters
        for value in proto.input:
            dtype, dims = _ANY
            if value.type.WhichOneof("value") == "tensor_type":
                dtype, dims = read_dims(value.type, f"input {value.name!r} of a subgraph")
                scope.types[value.name] = (dtype, dims)
            scope.define(value.name, graph.add_input(value.name, dtype, dims or []), "a subgraph")
        for name in passed:
            dtype, dims = self.type_of(name, outer)
            scope.types[name] = (dtype, dims)
            scope.define(name, graph.add_input(name, dtype, dims or []), "a subgraph")
        for name in inlined:
            array = self._known(name, outer)
            assert array is not None
            scope.constants[name] = array
            scope.define(name, graph.add_constant(name, array), "a subgraph")
        self._run(proto.node, scope)
        self._add_outputs(proto, scope)
        return graph

    def _call(
        self, function: onnx.FunctionProto, node: Node, proto: onnx.NodeProto, scope: Scope
    ) -> None:
        """Inlines a model-local function."""
        if scope.depth > MAX_DEPTH:
            raise ValueError(f"{node.label}: functions are nested more than {MAX_DEPTH} deep")
        if len(node.inputs) > len(function.input) or len(node.outputs) > len(function.output):
            raise ValueError(f"{node.label} has more inputs or outputs than its function declares")
        parameters = {a.name: a for a in function.attribute_proto}
        for attribute in proto.attribute:
            if attribute.name not in function.attribute and attribute.name not in parameters:
                raise ValueError(f"{node.label}: its function has no attribute {attribute.name!r}")
            if not attribute.ref_attr_name:
                parameters[attribute.name] = attribute
            elif attribute.ref_attr_name in (scope.parameters or {}):
                parameters[attribute.name] = (scope.parameters or {})[attribute.ref_attr_name]
        inner = Scope(
            scope.graph,
            opset_versions(function.opset_import),
            used_names(function.node, function.output),
            parameters=parameters,
            produced_later={name for n in function.node for name in n.output if name},
            prefix=f"{scope.prefix}{node.name or node.outputs[0]}/",
            depth=scope.depth + 1,
        )
        for formal, actual in zip(function.input, node.inputs, strict=False):
            if actual:
                inner.define(formal, self.resolve(actual, scope, node.label), node.label)
                inner.types[formal] = self.type_of(actual, scope)
                array = self._known(actual, scope)
                if array is not None:
                    inner.constants[formal] = array
        self._run(function.node, inner, optional=set(function.input))
        for formal, actual in zip(function.output, node.outputs, strict=False):
            if actual:
                scope.define(actual, self.resolve(formal, inner, node.label), node.label)

    # Nodes

    def _run(
        self, nodes: Iterable[onnx.NodeProto], scope: Scope, optional: set[str] | None = None
    ) -> None:
        for proto in nodes:
            node = decode_node(proto, self._folder, scope.parameters)
            if optional:  # formal inputs that the caller left out
                node.inputs = [
                    "" if n in optional and n not in scope.values else n for n in node.inputs
                ]
            self._add(node, proto, scope)

    def _add(self, node: Node, proto: onnx.NodeProto, scope: Scope) -> None:
        function = self._functions.get((node.domain, node.op, getattr(proto, "overload", "")))
        if function is not None:
            self._call(function, node, proto, scope)
            return
        if not any(node.outputs):
            raise ValueError(f"{node.label} has no outputs")
        custom = self._custom_ops.get(f"{node.domain}::{node.op}")
        if custom is not None:
            self._custom(custom, node, scope)
            return
        if node.domain == "" and node.op == "Constant":
            self._constant(node, scope)
            return
        if (node.domain, node.op) == ("ai.onnx.preview.training", "Gradient"):
            self._gradient(node, scope)
            return
        if replace(node, NodeContext(self, scope, node)):
            return
        if node.domain == "":
            for name in node.inputs:
                if name:
                    self.resolve(name, scope, node.label)  # before helpers are added
            opset = scope.opsets.get("", 1)
            if not self._is_built(node.op) and not any(subgraphs(proto)):
                types = [self._known_type(n, scope) if n else None for n in node.inputs]
                function = definition(bound(proto, scope.parameters), opset, types)
                if function is not None:
                    self._call(function, node, proto, scope)
                    return
            adapted = adapt(node, opset, NodeContext(self, scope, node))
            if adapted is None:
                return
            node = adapted
            check_cast_targets(node)
        self.add_newest(node, scope)

    def _custom(self, make: CustomOp, node: Node, scope: Scope) -> None:
        """Asks who knows the operator for a graph and puts it in the node's place."""
        present = [name for name in node.inputs if name]
        values = [self.resolve(name, scope, node.label) for name in present]
        request = CustomNode(
            node.op,
            node.domain,
            scope.opsets.get(node.domain, 1),
            node.name,
            dict(node.attributes),
            [self.type_of(name, scope) for name in present],
            len(node.outputs),
        )
        part = make(request)
        if len(part.inputs) != len(values) or len(part.outputs) < node.used_outputs():
            raise ValueError(
                f"{node.label}: the graph given for it has {len(part.inputs)} inputs and "
                f"{len(part.outputs)} outputs; the node has {len(values)} and {len(node.outputs)}"
            )
        prefix = f"{scope.prefix}{node.name or node.op}/"
        results = inline_graph(scope.graph, part, values, prefix)
        for name, value in zip(node.outputs, results, strict=False):
            if name:
                scope.define(name, value, node.label)

    def _gradient(self, node: Node, scope: Scope) -> None:
        """Differentiates what has been read so far: dy/dx where y and x were computed."""
        xs, zs = node.attributes.get("xs", []), node.attributes.get("zs", [])
        y = node.attributes.get("y", "")
        named = xs + zs if isinstance(xs, list) and isinstance(zs, list) else []
        if not named or node.inputs != named or not isinstance(y, str) or not xs:
            raise ValueError(
                f"{node.label}: its inputs must be the values that its xs and zs name; gradients "
                "at other places are not supported"
            )
        if node.used_outputs() > len(xs):
            raise ValueError(f"{node.label} has more outputs than xs")
        wrt = [self.resolve(x, scope, node.label) for x in xs]
        before = len(scope.graph.nodes)
        made = scope.graph.gradients([self.resolve(y, scope, node.label)], wrt)
        self._nodes += len(scope.graph.nodes) - before
        context = NodeContext(self, scope, node)
        for x, name, value in zip(xs, node.outputs, made, strict=False):
            if not name:
                continue
            if value is not None:
                scope.define(name, value, node.label)
                continue
            zero = context.constant(np.zeros((), np.dtype(context.dtype(x))), f"{name}/zero")
            context.emit("Expand", [zero, context.emit("Shape", [x], f"{name}/shape")], [name])

    def add_newest(self, node: Node, scope: Scope) -> None:
        """Adds a node that is in its newest form."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise ValueError(f"{node.label}: the model becomes more than {MAX_NODES} nodes")
        inputs = [self.resolve(n, scope, node.label) if n else None for n in node.inputs]
        while inputs and inputs[-1] is None:
            inputs.pop()
        attributes: dict[str, Any] = {}
        graphs = {k: v for k, v in node.attributes.items() if isinstance(v, onnx.GraphProto)}
        if graphs:
            passed, inlined = self._captures(graphs.values(), scope)
            inputs += [self.resolve(n, scope, node.label) for n in passed]
            if node.op != "If":
                attributes["captured"] = len(passed)
            for key, graph in graphs.items():
                attributes[key] = self._subgraph(graph, scope, passed, inlined)
        for key, value in node.attributes.items():
            if key not in graphs:
                attributes[key] = ("ints", []) if isinstance(value, list) and not value else value
        count = node.used_outputs()
        names = [
            scope.prefix + n if n else f"{scope.prefix}{node.op}_unused" for n in node.outputs
        ][:count]
        results = scope.graph.add_node(
            node.op,
            inputs,
            attributes,
            count,
            name=scope.prefix + (node.name or next(n for n in node.outputs if n)),
            domain=node.domain,
            output_names=names,
        )
        for name, value in zip(node.outputs, results, strict=False):
            if name:
                scope.define(name, value, node.label)
        if (
            scope.depth > 0 and node.inputs and node.op in _KEEPS_DTYPE
        ):  # ONNX's inference sees the top level alone
            dtype = self._known_type(node.inputs[0], scope)[0]
            if dtype:
                scope.types.setdefault(node.outputs[0], (dtype, None))

    def _captures(
        self, graphs: Iterable[onnx.GraphProto], scope: Scope
    ) -> tuple[list[str], list[str]]:
        """Outer names that subgraphs use: those to pass in, and small constants to copy."""
        names = dict.fromkeys(name for graph in graphs for name in free_names(graph))
        passed, inlined = [], []
        for name in names:
            array = self._known(name, scope)
            if array is not None and array.size <= INLINE_ELEMENTS:
                inlined.append(name)
            else:
                passed.append(name)
        return passed, inlined

    def _constant(self, node: Node, scope: Scope) -> None:
        if len(node.attributes) != 1:
            raise ValueError(f"{node.label} needs exactly one value")
        ((kind, value),) = node.attributes.items()
        if isinstance(value, onnx.GraphProto):
            raise ValueError(f"{node.label}: its value is a graph, no number")
        if kind == "value" and isinstance(value, np.ndarray):
            array = value
        elif kind in ("value_int", "value_ints"):
            array = np.array(value, np.int64)
        elif kind in ("value_float", "value_floats"):
            array = np.array(value, np.float32)
        elif kind in ("value_string", "value_strings"):
            array = np.array(value, object)
        else:
            raise ValueError(f"{node.label}: dlk does not hold constants of the kind {kind!r}")
        self.define_constant(node.outputs[0], array, scope, node.label)

    # Values

    def define_constant(self, name: str, array: np.ndarray, scope: Scope, what: str) -> None:
        """Adds a constant under a name of the scope."""
        scope.define(name, scope.graph.add_constant(scope.prefix + name, array), what)
        scope.constants[name] = array
        dtype = "string" if array.dtype == object else array.dtype.name
        scope.types[name] = (dtype, list(array.shape))

    def resolve(self, name: str, scope: Scope, what: str) -> int:
        """The value of a name; initializers are added when they are first used."""
        if name in scope.values:
            return scope.values[name]
        if name in scope.initializers:
            tensor = scope.initializers.pop(name)
            self.define_constant(name, read_tensor(tensor, self._folder), scope, "the graph")
            return scope.values[name]
        if name in scope.produced_later:
            raise ValueError(
                f"{what} uses {name!r} before it is computed: the graph has a cycle, or its nodes "
                "are not in topological order"
            )
        raise ValueError(
            f"{what} uses {name!r}, which is no input, initializer or result; the file is damaged"
        )

    def _known(self, name: str, scope: Scope) -> np.ndarray | None:
        if name in scope.initializers:
            if math.prod(scope.initializers[name].dims) > INLINE_ELEMENTS:
                return None
            self.resolve(name, scope, "the graph")
        return scope.constants.get(name)

    def type_of(self, name: str, scope: Scope) -> Type:
        """What is declared of a value; float32 of unknown shape otherwise."""
        if name in scope.types:
            return scope.types[name]
        if scope.depth == 0:
            scope.types[name] = self._infer(name, scope)
            return scope.types[name]
        return _ANY

    def _known_type(self, name: str, scope: Scope) -> Type:
        """As `_type`, with "" for a dtype that nothing declares."""
        found = self.type_of(name, scope)
        return ("", None) if found is _ANY else found

    def _infer(self, name: str, scope: Scope) -> Type:
        """The type by dlk's own inference on what has been read so far."""
        self._inferred += len(scope.graph.nodes)
        if name not in scope.values or self._inferred > MAX_INFERRED_NODES:
            return _ANY
        graph = scope.graph.copy()
        own = graph.value(scope.values[name]).name
        graph.add_output(scope.values[name], "\0wanted")
        dtype = value_dtypes(graph).get(own, "")
        texts = symbolic_shapes(graph).get(own)
        if not dtype or texts is None:
            return _ANY
        return dtype, [int(text) if text.isdigit() else None for text in texts]


def opset_versions(imports: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    """Domain -> version; ValueError for versions of ONNX's own domain that dlk does not know."""
    versions = {normal_domain(entry.domain): int(entry.version) for entry in imports}
    opset = versions.setdefault("", 1)
    if not 1 <= opset <= NEWEST_OPSET:
        raise ValueError(
            f"the model uses opset {opset}; dlk reads opsets 1 to {NEWEST_OPSET}. "
            "Export it with a lower opset, or convert it with onnx.version_converter"
        )
    return versions


__all__ = ["ALWAYS", "Builder", "FunctionKey", "opset_versions"]
