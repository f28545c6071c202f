"""From modules to a graph: `build`, and the symbolic values that layers work on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .module import Module, Parameter

if TYPE_CHECKING:
    from dlk._core import Graph

Dim = int | str | None
Shape = tuple[Dim, ...]

STEP_NUMBER = "training/step"


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of a graph under construction. A dimension is a number, a name, or None where it is
    not known before the run. Arithmetic works with values, numbers and arrays, and broadcasts."""

    builder: GraphBuilder
    id: int
    shape: Shape
    dtype: str = "float32"

    def _binary(self, op: str, other: Value | float | np.ndarray, swap: bool = False) -> Value:
        right = self.builder.value_of(other, self.dtype)
        a, b = (right, self) if swap else (self, right)
        return self.builder.op(op, [a, b], broadcast(a.shape, b.shape), dtype=a.dtype)

    def __add__(self, other: Value | float | np.ndarray) -> Value:
        return self._binary("Add", other)

    def __radd__(self, other: float | np.ndarray) -> Value:
        return self._binary("Add", other, swap=True)

    def __sub__(self, other: Value | float | np.ndarray) -> Value:
        return self._binary("Sub", other)

    def __rsub__(self, other: float | np.ndarray) -> Value:
        return self._binary("Sub", other, swap=True)

    def __mul__(self, other: Value | float | np.ndarray) -> Value:
        return self._binary("Mul", other)

    def __rmul__(self, other: float | np.ndarray) -> Value:
        return self._binary("Mul", other, swap=True)

    def __truediv__(self, other: Value | float | np.ndarray) -> Value:
        return self._binary("Div", other)

    def __rtruediv__(self, other: float | np.ndarray) -> Value:
        return self._binary("Div", other, swap=True)

    def __neg__(self) -> Value:
        return self.builder.op("Neg", [self], self.shape)


def broadcast(a: Shape, b: Shape) -> Shape:
    """NumPy's broadcasting, with names: equal names stay, unknowns stay unknown."""
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    result: list[Dim] = []
    for x, y in zip(a, b, strict=True):
        if x == y or y == 1:
            result.append(x)
        elif x == 1:
            result.append(y)
        elif isinstance(x, int) and isinstance(y, int):
            raise ValueError(f"shapes {list(a)} and {list(b)} cannot be broadcast")
        else:
            result.append(x if isinstance(x, int) else y if isinstance(y, int) else None)
    return tuple(result)


class GraphBuilder:
    """Adds inputs, parameters and nodes to one `dlk` graph.

    With `trainable`, parameters become variables (state that training changes); otherwise they are
    constants, which the engine may fold and repack. With `training`, layers take the form that they
    have while a network learns: batch statistics, dropout.
    """

    def __init__(self, trainable: bool = False, training: bool = False) -> None:
        from dlk._core import Graph as NewGraph

        self.graph: Graph = NewGraph()
        self.trainable = trainable
        self.training = training
        self._parameters: dict[int, Value] = {}
        self._scalars: dict[tuple[float, str], Value] = {}
        self._step: Value | None = None
        self.label_limits: dict[int, int] = {}
        self.statistics: list[tuple[Value, Value]] = []
        self.repeated: set[int] = set()
        self.segments: list[tuple[int, int]] = []
        self._in_segment = False
        self.dropouts = 0
        self.seed = 0

    def input(self, name: str, shape: Sequence[Dim], dtype: str = "float32") -> Value:
        """A graph input."""
        dims = tuple(shape)
        return Value(self, self.graph.add_input(name, dtype, list(dims)), dims, dtype)

    def constant(self, array: np.ndarray, name: str = "constant") -> Value:
        """A constant tensor."""
        array = np.asarray(array)
        return Value(self, self.graph.add_constant(name, array), array.shape, array.dtype.name)

    def value_of(self, value: Value | float | np.ndarray, dtype: str) -> Value:
        """The value itself, or a constant for a number or an array."""
        if isinstance(value, Value):
            if value.builder is not self:
                raise ValueError("values of two graphs cannot be combined")
            return value
        if isinstance(value, np.ndarray):
            return self.constant(value)
        key = (float(value), dtype)
        if key not in self._scalars:
            self._scalars[key] = self.constant(np.array(value, dtype), f"scalar_{value}")
        return self._scalars[key]

    def ints(self, values: Sequence[int], name: str = "ints") -> Value:
        """A 1-D int64 constant: axes, sizes, pads."""
        return self.constant(np.array(values, np.int64).reshape(-1), name)

    @contextlib.contextmanager
    def replaced(self, parameter: Parameter, value: Value) -> Iterator[None]:
        """Layers that use the parameter get the value instead."""
        before = self._parameters.get(id(parameter))
        self._parameters[id(parameter)] = value
        try:
            yield
        finally:
            if before is None:
                del self._parameters[id(parameter)]
            else:
                self._parameters[id(parameter)] = before

    def supply(self, parameter: Parameter, value: Value) -> None:
        """Layers that use the parameter get the value, and nothing becomes a variable."""
        self._parameters[id(parameter)] = value

    def has_parameter(self, parameter: Parameter) -> bool:
        """A layer of this graph has used it."""
        return id(parameter) in self._parameters

    def parameter(self, parameter: Parameter) -> Value:
        """The graph's value of a module's parameter; made once."""
        if id(parameter) not in self._parameters:
            if parameter.value is None:
                raise ValueError(
                    f"parameter {parameter.name or '(unnamed)'!r} has no value; call initialize() "
                    "or load_state_dict() on the module first"
                )
            name = parameter.name or "parameter"
            if self.trainable:
                number = self.graph.add_variable(name, parameter.value, parameter.trainable)
            else:
                number = self.graph.add_constant(name, parameter.value)
            self._parameters[id(parameter)] = Value(self, number, parameter.shape)
        return self._parameters[id(parameter)]

    @contextlib.contextmanager
    def segment(self, owner: object) -> Iterator[None]:
        """Nodes that are added meanwhile become one segment for recomputation, where the owner's id
        is in `repeated`; segments inside of segments belong to the outer one."""
        if id(owner) not in self.repeated or self._in_segment:
            yield
            return
        self._in_segment = True
        first = len(self.graph.nodes)
        try:
            yield
        finally:
            self._in_segment = False
        self.segments.append((first, len(self.graph.nodes)))

    def commit_statistics(self, gate: Value) -> None:
        """Assigns the statistics that layers follow (batch normalization's running ones); they stay
        as they are in a run where the scalar `gate` is NaN."""
        if not self.statistics:
            return
        if len(gate.shape) > 1:
            gate = self.op("Reshape", [gate, self.ints([1], "shape")], (1,))
        bad = self.op("IsNaN", [gate], gate.shape, dtype="bool")
        for old, new in self.statistics:
            chosen = self.op("Where", [bad, old, new], old.shape, dtype=old.dtype)
            self.graph.assign(old.id, chosen.id)
        self.statistics.clear()

    def step(self) -> Value:
        """The number of the training step, int32 (1,): an input that `dlk.train` feeds."""
        if self._step is None:
            self._step = self.input(STEP_NUMBER, (1,), "int32")
        return self._step

    def variable(self, name: str, value: np.ndarray, trainable: bool = False) -> Value:
        """State that runs keep; assigned with `graph.assign`."""
        number = self.graph.add_variable(name, value, trainable)
        return Value(self, number, value.shape, value.dtype.name)

    def op(
        self,
        op: str,
        inputs: Sequence[Value | None],
        shape: Shape,
        attributes: Mapping[str, Any] | None = None,
        dtype: str | None = None,
        name: str = "",
        domain: str = "",
    ) -> Value:
        """A node with one result of the given shape."""
        return self.ops(op, inputs, [shape], attributes, dtype, name, domain)[0]

    def ops(
        self,
        op: str,
        inputs: Sequence[Value | None],
        shapes: Sequence[Shape],
        attributes: Mapping[str, Any] | None = None,
        dtype: str | None = None,
        name: str = "",
        domain: str = "",
    ) -> tuple[Value, ...]:
        """A node with several results."""
        ids = [None if v is None else v.id for v in inputs]
        first = next((v.dtype for v in inputs if v is not None), "float32")
        results = self.graph.add_node(op, ids, dict(attributes or {}), len(shapes), name, domain)
        return tuple(
            Value(self, number, tuple(shape), dtype or first)
            for number, shape in zip(results, shapes, strict=True)
        )

    def output(self, value: Value, name: str = "") -> None:
        """Makes a value a graph output."""
        self.graph.add_output(value.id, name)


def build(
    module: Module,
    inputs: Mapping[str, Sequence[Dim]],
    outputs: Sequence[str] = ("y",),
    *,
    trainable: bool = False,
) -> Graph:
    """The graph of a module: float32 `inputs` by name and shape, in the order of `forward`'s
    arguments; `outputs` are names for its results.

    With `trainable`, parameters are variables and statistics are variables that are not trained;
    otherwise all are constants. Raises ValueError for parameters without a value.
    """
    builder = GraphBuilder(trainable)
    for name, parameter in module.named_parameters():
        parameter.name = name
    results = module(*[builder.input(name, shape) for name, shape in inputs.items()])
    values = results if isinstance(results, tuple) else (results,)
    if len(values) != len(outputs):
        raise ValueError(f"the module gives {len(values)} results, but {len(outputs)} are named")
    for value, name in zip(values, outputs, strict=True):
        builder.output(value, name)
    return builder.graph
