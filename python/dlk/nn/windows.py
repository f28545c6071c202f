"""Images as matrices of their windows, and back; on the device and differentiable."""

from __future__ import annotations

import numpy as np

from . import functional as F
from .builder import Value
from .functional import IntPair, pair


def _taps(x: Value, kernel: tuple[int, int]) -> Value:
    """Weights (taps, 1, kh, kw) of a convolution that picks one pixel of a window each."""
    count = kernel[0] * kernel[1]
    ones = np.eye(count, dtype=np.float32).reshape(count, 1, *kernel)
    return x.builder.constant(ones, "taps")


def _known(value: object, what: str) -> int:
    if not isinstance(value, int):
        raise ValueError(f"{what} must be known when the graph is built, not {value}")
    return value


def unfold(
    x: Value,
    kernel: IntPair,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
) -> Value:
    """Image to matrix: (N, C, H, W) to (N, C * kh * kw, windows), as `torch.nn.functional.unfold`.

    C, H and W must be known. An infinite pixel makes the others of its windows NaN.

    Raises:
        ValueError: an unknown size, or a window that does not fit.
    """
    k, s, p, d = pair(kernel), pair(stride), pair(padding), pair(dilation)
    channels = _known(x.shape[1], "the number of channels")
    size = [_known(x.shape[2 + i], "the image's size") for i in range(2)]
    out = [F.window_size(size[i], k[i], s[i], 2 * p[i], d[i]) for i in range(2)]
    planes = F.reshape(x, (-1, 1, *size))
    attributes = {
        "kernel_shape": list(k), "strides": list(s), "pads": [*p, *p], "dilations": list(d),
    }  # fmt: skip
    shape = (None, k[0] * k[1], *out)
    found = x.builder.op("Conv", [planes, _taps(x, k)], shape, attributes)
    rows = channels * k[0] * k[1]
    windows = _known(out[0], "the image's size") * _known(out[1], "the image's size")
    result = F.reshape(found, (-1, rows, windows))
    return Value(x.builder, result.id, (x.shape[0], rows, windows), x.dtype)


def fold(
    x: Value,
    size: IntPair,
    kernel: IntPair,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
) -> Value:
    """Matrix to image: (N, C * kh * kw, windows) to (N, C, H, W), where windows overlap their sum,
    as `torch.nn.functional.fold`.

    Raises:
        ValueError: an unknown size, or a matrix that does not fit the image.
    """
    k, s, p, d = pair(kernel), pair(stride), pair(padding), pair(dilation)
    whole, taps = pair(size), k[0] * k[1]
    out = [_known(F.window_size(whole[i], k[i], s[i], 2 * p[i], d[i]), "size") for i in range(2)]
    rows, windows = (_known(x.shape[i], "the matrix's size") for i in (1, 2))
    if rows % taps or windows != out[0] * out[1]:
        raise ValueError(
            f"a matrix ({rows}, {windows}) is no image {whole[0]}x{whole[1]}: it has "
            f"{out[0] * out[1]} windows of {taps} pixels"
        )
    planes = F.reshape(x, (-1, taps, *out))
    spare = [whole[i] - ((out[i] - 1) * s[i] + d[i] * (k[i] - 1) + 1 - 2 * p[i]) for i in range(2)]
    attributes = {
        "kernel_shape": list(k), "strides": list(s), "pads": [*p, *p], "dilations": list(d),
        "output_padding": spare,
    }  # fmt: skip
    shape = (None, 1, *whole)
    image = x.builder.op("ConvTranspose", [planes, _taps(x, k)], shape, attributes)
    channels = rows // taps
    result = F.reshape(image, (-1, channels, *whole))
    return Value(x.builder, result.id, (x.shape[0], channels, *whole), x.dtype)


__all__ = ["fold", "unfold"]
