"""What adapters that replace a node by several write with."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .adapters import Context
from .node import Node


class Emitter:
    """Emits the tensor operators that stand for one node, and names what they make."""

    def __init__(self, node: Node, context: Context) -> None:
        self.node = node
        self.context = context

    def constant(self, values: Any, dtype: str = "int64") -> str:
        return self.context.constant(np.array(values, dtype), f"{self.node.outputs[0]}/table")

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.context.emit(op, list(inputs), f"{self.node.outputs[0]}/{op}", **attributes)

    def finish(self, op: str, *inputs: str, **attributes: Any) -> None:
        self.context.emit(op, list(inputs), self.node.outputs[:1], **attributes)

    def fail(self, message: str) -> ValueError:
        return ValueError(f"{self.node.label}: {message}")

    def table(self, shape: tuple[int, ...], fill: Any, dtype: Any) -> np.ndarray:
        """A new array, if there is room for it."""
        if any(size < 0 for size in shape):
            raise self.fail("has a negative size")
        self.context.reserve(math.prod(shape))
        return np.full(shape, fill, dtype)

    def floats(self) -> str:
        """The first input as float32."""
        return self("Cast", self.node.inputs[0], to="float32")

    def number(self, value: float, dtype: str = "float32") -> str:
        """A scalar."""
        return self.constant(value, dtype)

    def output(self, index: int, op: str, *inputs: str, **attributes: Any) -> None:
        """The node's output `index`, where it is asked for."""
        if index < len(self.node.outputs) and self.node.outputs[index]:
            names = [self.node.outputs[index]]
            self.context.emit(op, list(inputs), names, **attributes)

    def transformed(self, x: str, kind: str) -> str:
        """Scores of classes (the last axis) after a `post_transform` of the domain."""
        if kind == "NONE":
            return x
        if kind == "SOFTMAX":
            return self("Softmax", x, axis=-1)
        if kind == "SOFTMAX_ZERO":  # a score of 0 stays 0, outside of the sum
            zero = self.number(0.0)
            there = self("Abs", x)
            there = self("Greater", there, self.number(1e-7))
            shifted = self("Sub", x, self("ReduceMax", x, self.constant([-1]), keepdims=1))
            powers = self("Where", there, self("Exp", shifted), zero)
            total = self("ReduceSum", powers, self.constant([-1]), keepdims=1)
            return self("Where", there, self("Div", powers, total), zero)
        if kind == "LOGISTIC":
            return self("Sigmoid", x)
        raise self.fail(f"post_transform {kind} is not supported")
