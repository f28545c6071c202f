"""The names of one graph while it is built, and what adapters see of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import AttributeProto

from .node import Node
from .protos import Type

if TYPE_CHECKING:
    from .build import Builder


@dataclass
class Scope:
    """The names of one graph or one function call. Function calls share their caller's graph."""

    graph: Any
    opsets: Mapping[str, int]
    used: set[str]
    values: dict[str, int] = field(default_factory=dict)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    types: dict[str, Type] = field(default_factory=dict)
    parameters: Mapping[str, AttributeProto] | None = None
    produced_later: set[str] = field(default_factory=set)
    prefix: str = ""
    depth: int = 0
    hints: dict[str, int] = field(default_factory=dict)  # numbers given to new names

    def define(self, name: str, value: int, what: str) -> None:
        """Binds a name; ValueError when it is taken, for ONNX names are assigned once."""
        if name in self.values or name in self.initializers:
            raise ValueError(f"{what} defines {name!r} a second time; ONNX names are assigned once")
        self.values[name] = value
        self.produced_later.discard(name)


class NodeContext:
    """`adapters.Context` for one node of one scope."""

    def __init__(self, builder: Builder, scope: Scope, node: Node) -> None:
        self._builder = builder
        self._scope = scope
        self._label = node.label

    def _fresh(self, hint: str) -> str:
        name, n = hint, self._scope.hints.get(hint, 0)
        taken = (self._scope.values, self._scope.initializers, self._scope.produced_later)
        while n or any(name in names for names in taken):
            n += 1
            name = f"{hint}_{n}"
            if not any(name in names for names in taken):
                break
        self._scope.hints[hint] = n
        return name

    def reserve(self, elements: int) -> None:
        self._builder.reserve(elements, self._label)

    def constant(self, array: np.ndarray, hint: str) -> str:
        name = self._fresh(hint)
        self._builder.define_constant(name, array, self._scope, self._label)
        return name

    def emit(self, op: str, inputs: list[str], outputs: list[str] | str, **attributes: Any) -> str:
        names = [self._fresh(outputs)] if isinstance(outputs, str) else outputs
        self._builder.add_newest(Node(op, "", names[0], inputs, names, attributes), self._scope)
        return names[0]

    def value(self, name: str) -> np.ndarray | None:
        return self._scope.constants.get(name)

    def shape(self, name: str) -> list[int | None] | None:
        dims = self._builder.type_of(name, self._scope)[1]
        if dims is None:
            return None
        return [d if isinstance(d, int) else None for d in dims]

    def dtype(self, name: str) -> str:
        return self._builder.type_of(name, self._scope)[0]

    def is_used(self, name: str) -> bool:
        return name in self._scope.used
