"""Layers, with the parameter names, shapes and defaults of `torch.nn`."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import functional as F
from .builder import Dim, Value
from .functional import IntPair, pair
from .module import Module, Parameter, kaiming_normal, normal, ones, zeros


class _Conv(Module):
    """Convolution over `rank` spatial axes; weight (out, in / groups, *kernel)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, ...],
        stride: tuple[int, ...],
        padding: tuple[int, ...] | str,
        dilation: tuple[int, ...],
        groups: int,
        bias: bool,
    ) -> None:
        super().__init__()
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"{groups} groups do not divide {in_channels} and {out_channels}")
        fan_in = in_channels // groups * int(np.prod(kernel))
        shape = (out_channels, in_channels // groups, *kernel)
        self.weight = Parameter(shape, kaiming_normal(fan_in))
        self.bias = Parameter((out_channels,)) if bias else None
        self.in_channels, self.kernel, self.stride = in_channels, kernel, stride
        self.padding, self.dilation, self.groups = padding, dilation, groups

    def forward(self, *inputs: Value) -> Value:
        """(N, C, ...) to (N, out, ...)."""
        (x,) = inputs
        b = x.builder
        if x.shape[1] != self.in_channels:
            raise ValueError(f"a convolution of {self.in_channels} channels got {list(x.shape)}")
        attributes: dict[str, Any] = {
            "kernel_shape": list(self.kernel),
            "strides": list(self.stride),
            "dilations": list(self.dilation),
            "group": self.groups,
        }
        spatial: list[Dim] = []
        if isinstance(self.padding, str):
            attributes["auto_pad"] = "SAME_UPPER"
            for size, stride in zip(x.shape[2:], self.stride, strict=True):
                spatial.append(-(-size // stride) if isinstance(size, int) else None)
        else:
            attributes["pads"] = [*self.padding, *self.padding]
            geometry = zip(
                x.shape[2:], self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
            spatial = [F.window_size(n, k, s, 2 * p, d) for n, k, s, p, d in geometry]
        values = [x, b.parameter(self.weight)]
        if self.bias is not None:
            values.append(b.parameter(self.bias))
        shape = (x.shape[0], self.weight.shape[0], *spatial)
        return b.op("Conv", values, shape, attributes, name=self.weight.name)


class Conv2d(_Conv):
    """2-D convolution (cross-correlation). `padding="same"` keeps ceil(size / stride), with the odd
    pixel after the image, as TensorFlow has it."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntPair,
        stride: IntPair = 1,
        padding: IntPair | str = 0,
        dilation: IntPair = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            pair(kernel_size),
            pair(stride),
            padding if isinstance(padding, str) else pair(padding),
            pair(dilation),
            groups,
            bias,
        )


class Conv1d(_Conv):
    """1-D convolution of (N, C, L)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            (kernel_size,),
            (stride,),
            (padding,),
            (dilation,),
            groups,
            bias,
        )


class ConvTranspose2d(Module):
    """Transposed 2-D convolution; weight (in, out / groups, H, W)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntPair,
        stride: IntPair = 1,
        padding: IntPair = 0,
        output_padding: IntPair = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: IntPair = 1,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = pair(kernel_size), pair(stride), pair(padding)
        self.output_padding, self.dilation = pair(output_padding), pair(dilation)
        self.groups, self.out_channels = groups, out_channels
        fan_in = in_channels // groups * self.kernel[0] * self.kernel[1]
        shape = (in_channels, out_channels // groups, *self.kernel)
        self.weight = Parameter(shape, kaiming_normal(fan_in))
        self.bias = Parameter((out_channels,)) if bias else None

    def forward(self, *inputs: Value) -> Value:
        """(N, C, H, W) to (N, out, H', W')."""
        (x,) = inputs
        b = x.builder
        spatial: list[Dim] = []
        for i in range(2):
            size = x.shape[2 + i]
            reach = self.dilation[i] * (self.kernel[i] - 1) + 1
            rest = reach - 2 * self.padding[i] + self.output_padding[i]
            spatial.append((size - 1) * self.stride[i] + rest if isinstance(size, int) else None)
        attributes = {
            "kernel_shape": list(self.kernel),
            "strides": list(self.stride),
            "pads": [*self.padding, *self.padding],
            "output_padding": list(self.output_padding),
            "dilations": list(self.dilation),
            "group": self.groups,
        }
        values = [x, b.parameter(self.weight)]
        if self.bias is not None:
            values.append(b.parameter(self.bias))
        shape = (x.shape[0], self.out_channels, *spatial)
        return b.op("ConvTranspose", values, shape, attributes, name=self.weight.name)


class Linear(Module):
    """x W^T + b over the last axis; weight (out, in)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = Parameter((out_features, in_features), kaiming_normal(in_features, 1.0))
        self.bias = Parameter((out_features,)) if bias else None

    def forward(self, *inputs: Value) -> Value:
        """(..., in) to (..., out)."""
        (x,) = inputs
        b = x.builder
        if isinstance(x.shape[-1], int) and x.shape[-1] != self.weight.shape[1]:
            raise ValueError(
                f"a linear layer of {self.weight.shape[1]} features got {list(x.shape)}"
            )
        weight, shape = b.parameter(self.weight), (*x.shape[:-1], self.weight.shape[0])
        bias = None if self.bias is None else b.parameter(self.bias)
        if len(x.shape) == 2:
            values = [x, weight] if bias is None else [x, weight, bias]
            return b.op("Gemm", values, shape, {"transB": 1}, name=self.weight.name)
        turned = F.transpose(weight, (1, 0))
        y = b.op("MatMul", [x, turned], shape, name=self.weight.name)
        return y if bias is None else y + bias


class BatchNorm2d(Module):
    """Normalizes each channel: in training by the batch's statistics, which running ones follow,
    otherwise by those. A layer whose weight is frozen stays as it is in training too."""

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.weight = Parameter((channels,), ones)
        self.bias = Parameter((channels,))
        self.running_mean = Parameter((channels,), zeros, trainable=False)
        self.running_var = Parameter((channels,), ones, trainable=False)
        self.eps, self.momentum = eps, momentum

    def forward(self, *inputs: Value) -> Value:
        """(x - mean) / sqrt(var + eps) * weight + bias."""
        (x,) = inputs
        parts = (self.weight, self.bias, self.running_mean, self.running_var)
        values = [x, *(x.builder.parameter(p) for p in parts)]
        if x.builder.training and self.weight.trainable:
            return train_batch_norm(values, self.eps, self.momentum, self.weight.name)
        attributes = {"epsilon": float(self.eps), "momentum": 1.0 - self.momentum}
        return x.builder.op(
            "BatchNormalization", values, x.shape, attributes, name=self.weight.name
        )


def train_batch_norm(values: list[Value], eps: float, momentum: float, name: str) -> Value:
    """Batch normalization of (x, weight, bias, running mean, running variance) by the statistics of
    the batch, which the running ones follow."""
    x, *_, old_mean, old_variance = values
    b, channels = x.builder, old_mean.shape
    y, _, _, mean, variance = b.ops(
        "BatchNormalization",
        values,
        [x.shape, channels, channels, channels, channels],
        {"epsilon": float(eps), "momentum": 1.0 - momentum, "training_mode": 1},
        name=name,
    )
    # PyTorch keeps the unbiased variance.
    sizes = [b.op("Size", [v], (), dtype="int64") for v in (x, mean)]
    count = b.op("Div", sizes, (), dtype="int64")
    count = b.op("Cast", [count], (), {"to": "float32"}, dtype="float32")
    unbiased = variance * (count / (count - 1.0))
    for old, new in ((old_mean, mean), (old_variance, unbiased)):
        b.statistics.append((old, old * (1.0 - momentum) + new * momentum))
    return y


class LayerNorm(Module):
    """Normalizes the last axes to mean 0 and variance 1, then scales and shifts."""

    def __init__(self, shape: int | tuple[int, ...], eps: float = 1e-5) -> None:
        super().__init__()
        dims = (shape,) if isinstance(shape, int) else tuple(shape)
        self.weight, self.bias, self.eps = Parameter(dims, ones), Parameter(dims), eps

    def forward(self, *inputs: Value) -> Value:
        """Same shape."""
        (x,) = inputs
        values = [x, x.builder.parameter(self.weight), x.builder.parameter(self.bias)]
        attributes = {"axis": -len(self.weight.shape), "epsilon": float(self.eps)}
        return x.builder.op("LayerNormalization", values, x.shape, attributes)


class Embedding(Module):
    """Rows of a table, by int64 index."""

    def __init__(self, count: int, size: int) -> None:
        super().__init__()
        self.weight = Parameter((count, size), normal(1.0))

    def forward(self, *inputs: Value) -> Value:
        """(...) to (..., size)."""
        (index,) = inputs
        b = index.builder
        shape = (*index.shape, self.weight.shape[1])
        table = b.parameter(self.weight)
        return b.op("Gather", [table, index], shape, {"axis": 0}, dtype="float32")


class GroupNorm(Module):
    """Normalizes groups of channels of each sample, then scales and shifts each channel.

    Wu and He, "Group Normalization" (2018).
    """

    def __init__(self, groups: int, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        if channels % groups:
            raise ValueError(f"{groups} groups do not divide {channels} channels")
        self.weight, self.bias = Parameter((channels,), ones), Parameter((channels,))
        self.groups, self.eps = groups, eps

    def forward(self, *inputs: Value) -> Value:
        """(N, C, ...) to the same shape."""
        (x,) = inputs
        values = [x, x.builder.parameter(self.weight), x.builder.parameter(self.bias)]
        attributes = {"num_groups": self.groups, "epsilon": float(self.eps)}
        return x.builder.op("GroupNormalization", values, x.shape, attributes)


class InstanceNorm2d(Module):
    """Normalizes each channel of each sample, then scales and shifts it. PyTorch's with
    ``affine=True``."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.bias = Parameter((channels,), ones), Parameter((channels,))
        self.eps = eps

    def forward(self, *inputs: Value) -> Value:
        """(N, C, H, W) to the same shape."""
        (x,) = inputs
        values = [x, x.builder.parameter(self.weight), x.builder.parameter(self.bias)]
        return x.builder.op("InstanceNormalization", values, x.shape, {"epsilon": float(self.eps)})


class PReLU(Module):
    """x where positive, weight * x elsewhere; one weight, or one a channel."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        super().__init__()
        self.weight = Parameter((num_parameters,), lambda _, s: np.full(s, init, np.float32))

    def forward(self, *inputs: Value) -> Value:
        """Same shape."""
        (x,) = inputs
        weight = x.builder.parameter(self.weight)
        if self.weight.shape[0] > 1 and len(x.shape) > 2:
            weight = F.reshape(weight, (-1, *[1] * (len(x.shape) - 2)))
        return x.builder.op("PRelu", [x, weight], x.shape)


class _Function(Module):
    """A module around one function of `nn.functional`."""

    def __init__(self, function: Any, *arguments: Any, **options: Any) -> None:
        super().__init__()
        self._function, self._arguments, self._options = function, arguments, options

    def forward(self, *inputs: Value) -> Value:
        """The function of the input."""
        (x,) = inputs
        result: Value = self._function(x, *self._arguments, **self._options)
        return result


class ReLU(_Function):
    """max(x, 0)."""

    def __init__(self) -> None:
        super().__init__(F.relu)


class ReLU6(_Function):
    """min(max(x, 0), 6)."""

    def __init__(self) -> None:
        super().__init__(F.relu6)


class LeakyReLU(_Function):
    """x where positive, slope * x elsewhere."""

    def __init__(self, slope: float = 0.01) -> None:
        super().__init__(F.leaky_relu, slope)


class Sigmoid(_Function):
    """1 / (1 + exp(-x))."""

    def __init__(self) -> None:
        super().__init__(F.sigmoid)


class Tanh(_Function):
    """Hyperbolic tangent."""

    def __init__(self) -> None:
        super().__init__(F.tanh)


class SiLU(_Function):
    """x * sigmoid(x)."""

    def __init__(self) -> None:
        super().__init__(F.silu)


class GELU(_Function):
    """Gaussian error linear unit."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__(F.gelu, approximate)


class Hardswish(_Function):
    """x * relu6(x + 3) / 6."""

    def __init__(self) -> None:
        super().__init__(F.hardswish)


class Softmax(_Function):
    """exp(x) normalized along an axis."""

    def __init__(self, axis: int = -1) -> None:
        super().__init__(F.softmax, axis)


class Flatten(_Function):
    """(N, ...) to (N, everything else)."""

    def __init__(self, axis: int = 1) -> None:
        super().__init__(F.flatten, axis)


class MaxPool2d(_Function):
    """Largest value of each window."""

    def __init__(
        self,
        kernel_size: IntPair,
        stride: IntPair | None = None,
        padding: IntPair = 0,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(F.max_pool2d, kernel_size, stride, padding, ceil_mode)


class AvgPool2d(_Function):
    """Mean of each window."""

    def __init__(
        self,
        kernel_size: IntPair,
        stride: IntPair | None = None,
        padding: IntPair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(F.avg_pool2d, kernel_size, stride, padding, ceil_mode, count_include_pad)


class AdaptiveAvgPool2d(_Function):
    """Mean pooling to a given size."""

    def __init__(self, output_size: IntPair) -> None:
        super().__init__(F.adaptive_avg_pool2d, output_size)


class LocalResponseNorm(_Function):
    """Normalization across neighbouring channels."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__(F.local_response_norm, size, alpha, beta, k)


class Identity(_Function):
    """What comes in."""

    def __init__(self) -> None:
        super().__init__(lambda x: x)


class Dropout(Module):
    """Zeroes numbers with probability `p` in training and scales the others up; nothing otherwise.

    The mask follows from the seed, the step and the layer's place in the network.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ValueError(f"p is {p}; it must be at least 0 and below 1")
        self.p = p

    def forward(self, *inputs: Value) -> Value:
        """The same shape."""
        (x,) = inputs
        b = x.builder
        if not b.training or self.p == 0.0:
            return x
        b.dropouts += 1
        attributes = {"ratio": float(self.p), "seed": b.seed * 1_000_003 + b.dropouts}
        return b.op("Dropout", [x, b.step()], x.shape, attributes, domain="dlk")
