"""A graph from a file or an importer as a module: every network that runs can be trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dlk import _core

from .builder import Dim, GraphBuilder, Shape, Value
from .layers import Dropout, train_batch_norm
from .module import Module, Parameter

_WEIGHTS: Mapping[str, tuple[int, ...]] = {
    "BatchNormalization": (1, 2, 3, 4),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gather": (0,),
    "Gemm": (1, 2),
    "GroupNormalization": (1, 2),
    "GRU": (1, 2, 3),
    "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "LSTM": (1, 2, 3),
    "MatMul": (0, 1),
    "PRelu": (1,),
    "RMSNormalization": (1,),
    "RNN": (1, 2, 3),
}
"""Inputs that are learnt. Constants of other operators (limits, scales, masks) stay as they are."""
_ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div"})


class Imported(Module):
    """The network of a graph: its weights become parameters under their names.

        net = nn.Imported(dlk.importers.onnx.load_graph("model.onnx"))

    Weights of convolutions, products, normalizations, recurrent layers and embeddings are
    trained, and so are vectors that are added or multiplied. While it is trained, batch
    normalization uses the batch's statistics and dropout is on.

    Args:
        graph: it is not changed.
        outputs: names of the results that are wanted, in order; all by default. A hidden value's
            name serves too, so that a head can be replaced.

    Raises:
        ValueError: there is no such output, or the graph has subgraphs (If, Loop, Scan).
    """

    def __init__(self, graph: _core.Graph, outputs: list[str] | None = None) -> None:
        super().__init__()
        self.graph = graph.copy()
        self.outputs = self._find_outputs(outputs)
        self._values = {v.id: v for v in self.graph.values}
        self._nodes = self._needed()
        shapes = _core.symbolic_shapes(self.graph)
        self._shapes = {v.id: shapes.get(v.name) for v in self._values.values()}
        self._dtypes = _core.value_dtypes(self.graph)
        self._weights: dict[int, Parameter] = {}
        for node in self._nodes:
            self._adopt(node)

    def _find_outputs(self, names: list[str] | None) -> list[int]:
        known = {n: v.id for n, v in zip(self.graph.output_names, self.graph.outputs, strict=True)}
        found = []
        for name in known if names is None else names:
            number = known.get(name, self.graph.find(name))
            if number is None:
                raise ValueError(f"the graph has no value {name!r}")
            found.append(number)
        return found

    def _needed(self) -> list[_core.Node]:
        nodes = self.graph.nodes
        open_values, needed = list(self.outputs), set()
        while open_values:
            value = self._values[open_values.pop()]
            if value.producer is None or value.producer in needed:
                continue
            needed.add(value.producer)
            open_values += [i for i in nodes[value.producer].inputs if i is not None]
        return [nodes[n] for n in self.graph.topological_order() if n in needed]

    def _adopt(self, node: _core.Node) -> None:
        if any(isinstance(a, _core.Graph) for a in node.attributes.values()):
            raise ValueError(f"{node.name} ({node.op}) has subgraphs, which cannot be trained")
        places = _WEIGHTS.get(node.op, ()) if not node.domain else ()
        if node.op in _ARITHMETIC and not node.domain:
            places = (0, 1)
        for place in places:
            number = node.inputs[place] if place < len(node.inputs) else None
            if number is None or number in self._weights:
                continue
            value = self._values[number]
            learnt = value.kind in ("constant", "variable") and value.dtype == "float32"
            if not learnt or value.data is None or value.data.size < 2:
                continue
            statistics = node.op == "BatchNormalization" and place > 2
            parameter = Parameter(value.data.shape, trainable=not statistics)
            parameter.value = np.array(value.data)
            self._weights[number] = self._parameters[value.name] = parameter

    def forward(self, *inputs: Value) -> Any:
        """The network's results for its inputs, in order."""
        given = self.graph.inputs
        if len(inputs) != len(given):
            raise ValueError(f"the network takes {len(given)} inputs, {len(inputs)} are given")
        b = inputs[0].builder
        known: dict[int, Value] = {}
        symbols: dict[str, Dim] = {}
        for value, one in zip(given, inputs, strict=True):
            known[value.id] = one
            for name, dim in zip(value.shape or (), one.shape, strict=False):
                if isinstance(name, str):
                    symbols[name] = dim
        for node in self._nodes:
            self._add(b, node, known, symbols)
        results = tuple(self._value(b, number, known) for number in self.outputs)
        return results if len(results) > 1 else results[0]

    def _value(self, b: GraphBuilder, number: int, known: dict[int, Value]) -> Value:
        if number not in known:
            if number in self._weights:
                known[number] = b.parameter(self._weights[number])
            else:
                leaf = self._values[number]
                assert leaf.data is not None
                identifier = b.graph.add_constant(leaf.name, leaf.data, leaf.dtype)
                known[number] = Value(b, identifier, leaf.data.shape, leaf.dtype)
        return known[number]

    def _shape(self, number: int, symbols: Mapping[str, Dim]) -> Shape:
        dims: list[Dim] = []
        for text in self._shapes[number] or ():
            dims.append(int(text) if text.lstrip("-").isdigit() else symbols.get(text))
        return tuple(dims)

    def _add(
        self,
        b: GraphBuilder,
        node: _core.Node,
        known: dict[int, Value],
        symbols: Mapping[str, Dim],
    ) -> None:
        inputs = [None if i is None else self._value(b, i, known) for i in node.inputs]
        if b.training and self._learns_statistics(node):
            known[_first(node)] = self._normalize(node, inputs)
            return
        if b.training and node.op == "Dropout" and not node.domain:
            known[_first(node)] = self._drop(inputs)
            return
        ids = [None if v is None else v.id for v in inputs]
        made = b.graph.add_node(
            node.op, ids, _attributes(node), len(node.outputs), node.name, node.domain
        )
        for number, identifier in zip(node.outputs, made, strict=True):
            if number is not None:
                dtype = self._dtypes.get(self._values[number].name, "float32")
                known[number] = Value(b, identifier, self._shape(number, symbols), dtype)

    def _learns_statistics(self, node: _core.Node) -> bool:
        if node.op != "BatchNormalization" or node.domain or node.inputs[1] is None:
            return False
        weight = self._weights.get(node.inputs[1])
        return weight is not None and weight.trainable

    @staticmethod
    def _normalize(node: _core.Node, inputs: list[Value | None]) -> Value:
        attributes = dict(node.attributes)
        momentum = 1.0 - float(attributes.pop("momentum", 0.9))
        epsilon = float(attributes.pop("epsilon", 1e-5))
        values = [v for v in inputs if v is not None]
        return train_batch_norm(values, epsilon, momentum, node.name)

    @staticmethod
    def _drop(inputs: list[Value | None]) -> Value:
        x, ratio = inputs[0], inputs[1] if len(inputs) > 1 else None
        assert x is not None
        dropped: Value = Dropout(0.5 if ratio is None else _number(ratio))(x)
        return dropped


def _first(node: _core.Node) -> int:
    number = node.outputs[0]
    assert number is not None
    return number


def _number(value: Value) -> float:
    data = value.builder.graph.value(value.id).data
    if data is None:
        raise ValueError("the ratio of a dropout must be a constant")
    return float(data)


def _attributes(node: _core.Node) -> dict[str, Any]:
    # An empty list has lost its kind; only lists of axes and the like may be empty.
    return {k: ("ints", v) if v == [] else v for k, v in node.attributes.items()}


__all__ = ["Imported"]
