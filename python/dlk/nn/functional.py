"""Operations on symbolic values without parameters. Images are (N, C, H, W)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .builder import Dim, Shape, Value, broadcast

IntPair = int | tuple[int, int]


def pair(value: IntPair) -> tuple[int, int]:
    """One number for both spatial axes, or one each."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def window_size(
    size: Dim, kernel: int, stride: int, pads: int, dilation: int = 1, ceil_mode: bool = False
) -> Dim:
    """Output size of a convolution or pooling along one axis; `pads` is the sum of both sides.

    In ceil mode a last window that would begin in the padding is dropped (PyTorch's rule, with the
    same padding on both sides).
    """
    if not isinstance(size, int):
        return None
    span = size + pads - dilation * (kernel - 1) - 1
    if span < 0:
        raise ValueError(f"a window of {dilation * (kernel - 1) + 1} does not fit {size} + {pads}")
    result = (span + stride - 1 if ceil_mode else span) // stride + 1
    if ceil_mode and (result - 1) * stride >= size + pads // 2:
        result -= 1
    return result


def unary(op: str, x: Value, **attributes: Any) -> Value:
    """A pointwise operator."""
    return x.builder.op(op, [x], x.shape, attributes)


def relu(x: Value) -> Value:
    """max(x, 0)."""
    return unary("Relu", x)


def clip(x: Value, low: float, high: float) -> Value:
    """min(max(x, low), high)."""
    b = x.builder
    bounds = [b.value_of(low, x.dtype), b.value_of(high, x.dtype)]
    return b.op("Clip", [x, *bounds], x.shape)


def relu6(x: Value) -> Value:
    """min(max(x, 0), 6)."""
    return clip(x, 0.0, 6.0)


def leaky_relu(x: Value, slope: float = 0.01) -> Value:
    """x where positive, slope * x elsewhere."""
    return unary("LeakyRelu", x, alpha=float(slope))


def sigmoid(x: Value) -> Value:
    """1 / (1 + exp(-x))."""
    return unary("Sigmoid", x)


def tanh(x: Value) -> Value:
    """Hyperbolic tangent."""
    return unary("Tanh", x)


def silu(x: Value) -> Value:
    """x * sigmoid(x)."""
    return x * sigmoid(x)


def gelu(x: Value, approximate: str = "none") -> Value:
    """x * P(X <= x) for a standard normal X; `approximate="tanh"` for the usual approximation."""
    return unary("Gelu", x, approximate=approximate)


def hardswish(x: Value) -> Value:
    """x * min(max(x + 3, 0), 6) / 6."""
    return unary("HardSwish", x)


def softmax(x: Value, axis: int = -1) -> Value:
    """exp(x) normalized to sum 1 along an axis."""
    return unary("Softmax", x, axis=axis)


def add(a: Value, b: Value) -> Value:
    """Sum, broadcast."""
    return a + b


def multiply(a: Value, b: Value) -> Value:
    """Product, broadcast."""
    return a * b


def matmul(a: Value, b: Value) -> Value:
    """Matrix product of the last two axes; the others broadcast."""
    if len(a.shape) < 2 or len(b.shape) < 2:
        raise ValueError("matmul takes matrices, or stacks of them")
    shape = (*broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    return a.builder.op("MatMul", [a, b], shape)


def concat(values: Sequence[Value], axis: int = 1) -> Value:
    """Joins values along an axis; the other dimensions must be equal."""
    first = values[0]
    axis %= len(first.shape)
    sizes = [v.shape[axis] for v in values]
    total = sum(s for s in sizes if isinstance(s, int))
    dims = list(first.shape)
    dims[axis] = total if all(isinstance(s, int) for s in sizes) else None
    return first.builder.op("Concat", values, tuple(dims), {"axis": axis})


def _product(dims: Shape) -> Dim:
    if len(dims) == 1:
        return dims[0]
    if all(isinstance(d, int) for d in dims):
        return math.prod(d for d in dims if isinstance(d, int))
    return None


def flatten(x: Value, axis: int = 1) -> Value:
    """A matrix: the dimensions before `axis` joined, and those from it on."""
    shape = (_product(x.shape[:axis]), _product(x.shape[axis:]))
    return x.builder.op("Flatten", [x], shape, {"axis": axis})


def reshape(x: Value, shape: Sequence[int]) -> Value:
    """Another shape: 0 keeps a dimension, -1 is what is left."""
    dims: list[Dim] = [x.shape[i] if d == 0 else d for i, d in enumerate(shape)]
    if -1 in dims:
        known = _product(tuple(d for d in dims if d != -1) or (1,))
        total = _product(x.shape)
        both = isinstance(known, int) and isinstance(total, int) and known > 0
        dims[dims.index(-1)] = total // known if both else None  # type: ignore[operator]
    return x.builder.op("Reshape", [x, x.builder.ints(shape, "shape")], tuple(dims))


def transpose(x: Value, axes: Sequence[int]) -> Value:
    """Axes in another order."""
    shape = tuple(x.shape[a] for a in axes)
    return x.builder.op("Transpose", [x], shape, {"perm": [int(a) for a in axes]})


def _pool(
    op: str,
    x: Value,
    kernel: IntPair,
    stride: IntPair | None,
    padding: IntPair,
    ceil_mode: bool,
    **attributes: Any,
) -> Value:
    k, p = pair(kernel), pair(padding)
    s = k if stride is None else pair(stride)
    spatial = [window_size(x.shape[2 + i], k[i], s[i], 2 * p[i], 1, ceil_mode) for i in range(2)]
    shape = (x.shape[0], x.shape[1], *spatial)
    attributes |= {
        "kernel_shape": list(k),
        "strides": list(s),
        "pads": [*p, *p],
        "ceil_mode": int(ceil_mode),
    }
    return x.builder.op(op, [x], shape, attributes)


def max_pool2d(
    x: Value,
    kernel: IntPair,
    stride: IntPair | None = None,
    padding: IntPair = 0,
    ceil_mode: bool = False,
) -> Value:
    """Largest value in each window; padding never wins."""
    return _pool("MaxPool", x, kernel, stride, padding, ceil_mode)


def avg_pool2d(
    x: Value,
    kernel: IntPair,
    stride: IntPair | None = None,
    padding: IntPair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Value:
    """Mean of each window; padding counts as zeros unless `count_include_pad` is False."""
    flag = int(count_include_pad)
    return _pool("AveragePool", x, kernel, stride, padding, ceil_mode, count_include_pad=flag)


def global_avg_pool2d(x: Value) -> Value:
    """Mean of each channel: (N, C, 1, 1)."""
    return x.builder.op("GlobalAveragePool", [x], (x.shape[0], x.shape[1], 1, 1))


def adaptive_avg_pool2d(x: Value, size: IntPair) -> Value:
    """Mean pooling to a given size. Input sizes must be known, and multiples of it; ValueError."""
    target = pair(size)
    if target == (1, 1):
        return global_avg_pool2d(x)
    spatial = x.shape[2:]
    kernel = []
    for given, wanted in zip(spatial, target, strict=True):
        if not isinstance(given, int) or given % wanted:
            raise ValueError(
                f"adaptive pooling to {wanted} needs a known size that is a multiple of it, "
                f"not {given}; choose another image size"
            )
        kernel.append(given // wanted)
    return x if kernel == [1, 1] else avg_pool2d(x, (kernel[0], kernel[1]))


def local_response_norm(
    x: Value, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0
) -> Value:
    """x / (bias + alpha / size * sum of squares over `size` channels) ** beta.

    Krizhevsky et al., "ImageNet Classification with Deep CNNs" (2012), section 3.3.
    """
    attributes = {"size": size, "alpha": float(alpha), "beta": float(beta), "bias": float(bias)}
    return unary("LRN", x, **attributes)
