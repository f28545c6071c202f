"""Arithmetic on symbolic values: functions, comparisons, choices and reductions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .builder import Dim, Value, broadcast

Operand = Value | float | np.ndarray


def _binary(op: str, a: Value, b: Operand, dtype: str | None = None) -> Value:
    right = a.builder.value_of(b, a.dtype)
    return a.builder.op(op, [a, right], broadcast(a.shape, right.shape), dtype=dtype or a.dtype)


def _unary(op: str, x: Value) -> Value:
    return x.builder.op(op, [x], x.shape)


def exp(x: Value) -> Value:
    """e to the x."""
    return _unary("Exp", x)


def log(x: Value) -> Value:
    """Natural logarithm."""
    return _unary("Log", x)


def sqrt(x: Value) -> Value:
    """Square root."""
    return _unary("Sqrt", x)


def absolute(x: Value) -> Value:
    """|x|."""
    return _unary("Abs", x)


def sign(x: Value) -> Value:
    """-1, 0 or 1."""
    return _unary("Sign", x)


def softplus(x: Value) -> Value:
    """log(1 + exp(x))."""
    return _unary("Softplus", x)


def square(x: Value) -> Value:
    """x * x."""
    return x * x


def maximum(a: Value, b: Operand) -> Value:
    """The greater of both."""
    return _binary("Max", a, b)


def minimum(a: Value, b: Operand) -> Value:
    """The lesser of both."""
    return _binary("Min", a, b)


def equal(a: Value, b: Operand) -> Value:
    """a = b, as bool."""
    return _binary("Equal", a, b, "bool")


def less(a: Value, b: Operand) -> Value:
    """a < b, as bool."""
    return _binary("Less", a, b, "bool")


def where(condition: Value, a: Operand, b: Operand) -> Value:
    """`a` where the bool condition holds, `b` elsewhere. One of both must be a value."""
    like = a if isinstance(a, Value) else b
    if not isinstance(like, Value):
        raise ValueError("where needs a value on one side")
    builder = condition.builder
    left, right = builder.value_of(a, like.dtype), builder.value_of(b, like.dtype)
    shape = broadcast(condition.shape, broadcast(left.shape, right.shape))
    return builder.op("Where", [condition, left, right], shape, dtype=like.dtype)


def cast(x: Value, dtype: str) -> Value:
    """The value in another dtype."""
    if x.dtype == dtype:
        return x
    return x.builder.op("Cast", [x], x.shape, {"to": dtype}, dtype=dtype)


def log_softmax(x: Value, axis: int = -1) -> Value:
    """log(softmax(x)), computed without overflow."""
    return x.builder.op("LogSoftmax", [x], x.shape, {"axis": axis})


def unsqueeze(x: Value, axis: int) -> Value:
    """A new axis of size 1."""
    rank = len(x.shape) + 1
    axis %= rank
    shape = (*x.shape[:axis], 1, *x.shape[axis:])
    return x.builder.op("Unsqueeze", [x, x.builder.ints([axis])], shape)


def _reduce(op: str, x: Value, axes: Sequence[int] | int | None, keepdims: bool) -> Value:
    rank = len(x.shape)
    chosen = range(rank) if axes is None else [axes] if isinstance(axes, int) else axes
    normal = sorted(a % rank for a in chosen)
    dims: list[Dim] = []
    for i, d in enumerate(x.shape):
        if i not in normal:
            dims.append(d)
        elif keepdims:
            dims.append(1)
    if not normal:
        return x
    inputs = [x, x.builder.ints(normal, "axes")]
    return x.builder.op(op, inputs, tuple(dims), {"keepdims": int(keepdims)})


def reduce_sum(x: Value, axes: Sequence[int] | int | None = None, keepdims: bool = False) -> Value:
    """Sum over axes (all by default)."""
    return _reduce("ReduceSum", x, axes, keepdims)


def reduce_mean(x: Value, axes: Sequence[int] | int | None = None, keepdims: bool = False) -> Value:
    """Mean over axes (all by default)."""
    return _reduce("ReduceMean", x, axes, keepdims)


def reduce_max(x: Value, axes: Sequence[int] | int | None = None, keepdims: bool = False) -> Value:
    """Maximum over axes (all by default)."""
    return _reduce("ReduceMax", x, axes, keepdims)


def argmax(x: Value, axis: int = -1) -> Value:
    """Index of the first maximum along an axis, int64."""
    rank = len(x.shape)
    shape = tuple(d for i, d in enumerate(x.shape) if i != axis % rank)
    return x.builder.op("ArgMax", [x], shape, {"axis": axis % rank, "keepdims": 0}, dtype="int64")


def slice_axis(x: Value, axis: int, start: int, end: int) -> Value:
    """Elements start .. end-1 of an axis."""
    b, rank = x.builder, len(x.shape)
    axis %= rank
    shape = tuple(end - start if i == axis else d for i, d in enumerate(x.shape))
    inputs = [x, b.ints([start], "starts"), b.ints([end], "ends"), b.ints([axis], "axes")]
    return b.op("Slice", inputs, shape)
