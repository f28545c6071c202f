"""Convolution: ranks, groups, dilation, padding of every kind, sizes that fit no tile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..case import Array, Case, case, normal
from ._windows import convolve, convolve_transposed

IMAGE_LAYOUTS = ("contiguous", "strided", "channels_last")


def _conv(
    name: str,
    x: Sequence[int],
    w: Sequence[int],
    *,
    bias: bool = True,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[tuple[int, int]] | None = None,
    groups: int = 1,
    auto_pad: str | None = None,
    weights_run: bool = False,
    layouts: Sequence[str] = IMAGE_LAYOUTS,
    dtypes: Sequence[str] = ("float32", "float16"),
) -> None:
    """`pads` are the oracle's; they are the node's too unless it has `auto_pad`."""
    attributes: dict[str, Any] = {"group": groups}
    if strides:
        attributes["strides"] = list(strides)
    if dilations:
        attributes["dilations"] = list(dilations)
    if auto_pad:
        attributes["auto_pad"] = auto_pad
    elif pads:
        attributes["pads"] = [a for a, _ in pads] + [b for _, b in pads]

    def inputs(rng: np.random.Generator) -> dict[str, Array | None]:
        fan_in = int(np.prod(w[1:]))
        result: dict[str, Array | None] = {
            "x": normal(rng, *x),
            "w": normal(rng, *w, scale=fan_in**-0.5),
        }
        if bias:
            result["b"] = normal(rng, w[0])
        return result

    def oracle(x: Array, w: Array, b: Array | None = None) -> Array:
        return convolve(x, w, b, strides, dilations, pads, groups)

    case(
        Case(
            op="Conv",
            name=name,
            inputs=inputs,
            attributes=attributes,
            oracle=oracle,
            constants=() if weights_run else ("w", "b"),
            dtypes=dtypes,
            layouts=layouts,
        )
    )


_conv("k3_same", (2, 16, 9, 11), (24, 16, 3, 3), pads=[(1, 1), (1, 1)])
_conv("k3_odd_channels", (1, 5, 13, 7), (13, 5, 3, 3), pads=[(1, 1), (1, 1)])
_conv("k3_no_bias", (1, 8, 8, 8), (16, 8, 3, 3), bias=False)
_conv("k5_same", (2, 16, 9, 11), (24, 16, 5, 5), pads=[(2, 2), (2, 2)])
_conv("k1", (2, 32, 7, 7), (48, 32, 1, 1))
_conv("k1_stride2", (1, 16, 9, 9), (32, 16, 1, 1), strides=[2, 2])
_conv("one_pixel", (3, 40, 1, 1), (20, 40, 1, 1))
_conv("stem", (1, 3, 33, 31), (32, 3, 3, 3), strides=[2, 2], pads=[(0, 1), (0, 1)])
_conv("k7_stride2", (1, 3, 30, 30), (17, 3, 7, 7), strides=[2, 2], pads=[(3, 3), (3, 3)])
_conv("wide", (1, 512, 5, 5), (72, 512, 3, 3), pads=[(1, 1), (1, 1)], layouts=("contiguous",))
_conv("asymmetric_pads", (1, 6, 8, 10), (9, 6, 3, 2), pads=[(2, 0), (0, 3)])
_conv("dilated", (1, 8, 15, 14), (16, 8, 3, 3), dilations=[2, 3], pads=[(2, 2), (3, 3)])
_conv("rectangular", (1, 4, 10, 12), (8, 4, 1, 5), strides=[1, 3], pads=[(0, 0), (2, 2)])
_conv("pads_past_the_image", (1, 4, 3, 3), (8, 4, 3, 3), pads=[(4, 3), (3, 4)])
_conv("same_upper", (1, 8, 10, 9), (16, 8, 4, 3), auto_pad="SAME_UPPER", strides=[2, 2],
      pads=[(1, 1), (1, 1)])  # fmt: skip
_conv("same_upper_odd", (1, 8, 9, 10), (16, 8, 4, 3), auto_pad="SAME_UPPER",
      pads=[(1, 2), (1, 1)])  # fmt: skip
_conv("same_lower", (1, 8, 9, 10), (16, 8, 4, 3), auto_pad="SAME_LOWER",
      pads=[(2, 1), (1, 1)])  # fmt: skip
_conv("valid", (1, 8, 9, 10), (16, 8, 4, 3), auto_pad="VALID", strides=[2, 3])
_conv("groups2", (2, 32, 6, 7), (48, 16, 3, 3), groups=2, pads=[(1, 1), (1, 1)])
_conv("groups3_narrow", (1, 9, 6, 7), (6, 3, 3, 3), groups=3, pads=[(1, 1), (1, 1)])
_conv("groups8_wide", (1, 64, 5, 5), (128, 8, 1, 1), groups=8)
_conv("groups4_tail", (2, 24, 5, 7), (68, 6, 1, 1), groups=4)
_conv("groups2_vectors", (1, 10, 3, 7), (160, 5, 1, 1), groups=2)
_conv("groups2_many_vectors", (1, 6, 3, 5), (278, 3, 1, 1), groups=2)
_conv("depthwise", (2, 32, 9, 11), (32, 1, 3, 3), groups=32, pads=[(1, 1), (1, 1)])
_conv("depthwise_stride2", (1, 48, 9, 11), (48, 1, 5, 5), groups=48, strides=[2, 2],
      pads=[(1, 2), (2, 1)])  # fmt: skip
_conv("depthwise_dilated", (1, 20, 12, 12), (20, 1, 3, 3), groups=20, dilations=[2, 2])
_conv("depthwise_odd", (1, 7, 9, 11), (7, 1, 3, 3), groups=7, pads=[(1, 1), (1, 1)])
_conv("depthwise_multiplier", (1, 6, 9, 8), (18, 1, 3, 3), groups=6, pads=[(1, 1), (1, 1)])
_conv("weights_at_run_time", (1, 8, 9, 7), (16, 8, 3, 3), weights_run=True, pads=[(1, 1), (1, 1)])
_conv("depthwise_weights_at_run_time", (1, 16, 9, 7), (16, 1, 3, 3), groups=16, weights_run=True)
_conv("no_batch", (0, 8, 9, 7), (16, 8, 3, 3), layouts=("contiguous",))
_conv("signal", (2, 16, 33), (24, 16, 5), strides=[2], pads=[(2, 1)])
_conv("signal_dilated", (1, 7, 40), (11, 7, 3), dilations=[4], pads=[(8, 0)])
_conv("signal_depthwise", (1, 32, 21), (32, 1, 3), groups=32, pads=[(1, 1)])
_conv("k11", (2, 5, 20, 33), (6, 5, 11, 11), pads=[(5, 5), (5, 5)])
_conv("k13_groups", (1, 8, 19, 17), (12, 4, 13, 5), groups=2, pads=[(6, 3), (0, 2)])
_conv("k31_depthwise", (1, 5, 40, 36), (5, 1, 31, 31), groups=5, pads=[(15, 15), (15, 15)])
_conv("k9_stride2_dilated", (1, 4, 37, 30), (6, 4, 9, 7), strides=[2, 3], dilations=[2, 1],
      pads=[(8, 8), (3, 3)])  # fmt: skip
_conv("volume", (1, 4, 5, 6, 7), (6, 4, 3, 3, 3), pads=[(1, 1), (1, 1), (1, 1)])
_conv("volume_strided", (2, 4, 7, 6, 9), (6, 2, 2, 3, 3), groups=2, strides=[2, 1, 2],
      dilations=[1, 2, 1], pads=[(0, 1), (2, 1), (1, 0)])  # fmt: skip
_conv("bfloat16", (1, 16, 9, 9), (16, 16, 3, 3), dtypes=("bfloat16",), layouts=("contiguous",))
_conv("bfloat16_padded", (2, 24, 9, 7), (72, 24, 3, 3), pads=[(1, 1), (1, 1)],
      dtypes=("bfloat16",))  # fmt: skip
_conv("bfloat16_odd_channels", (1, 3, 11, 9), (10, 3, 5, 3), strides=[2, 1], dilations=[1, 2],
      pads=[(2, 1), (0, 2)], dtypes=("bfloat16",))  # fmt: skip
_conv("bfloat16_groups", (1, 32, 6, 7), (48, 16, 1, 1), groups=2, dtypes=("bfloat16",))
_conv("bfloat16_deep", (1, 256, 3, 3), (64, 256, 3, 3), pads=[(1, 1), (1, 1)],
      dtypes=("bfloat16",), layouts=("channels_last",))  # fmt: skip


def _transposed(
    name: str,
    x: Sequence[int],
    w: Sequence[int],
    output: Sequence[int],
    begin: Sequence[int] | None = None,
    *,
    bias: bool = True,
    weights_run: bool = False,
    layouts: Sequence[str] = IMAGE_LAYOUTS,
    **attributes: Any,
) -> None:
    """`output` and `begin` (padding cut off in front) are the oracle's."""

    def inputs(rng: np.random.Generator) -> dict[str, Array | None]:
        result: dict[str, Array | None] = {
            "x": normal(rng, *x),
            "w": normal(rng, *w, scale=w[0] ** -0.5),
        }
        if bias:
            result["b"] = normal(rng, w[1] * attributes.get("group", 1))
        return result

    def oracle(x: Array, w: Array, b: Array | None = None) -> Array:
        return convolve_transposed(
            x,
            w,
            b,
            attributes.get("strides"),
            attributes.get("dilations"),
            begin,
            output,
            attributes.get("group", 1),
        )

    case(
        Case(
            op="ConvTranspose",
            name=name,
            inputs=inputs,
            attributes=attributes,
            oracle=oracle,
            constants=() if weights_run else ("w", "b"),
            layouts=layouts,
        )
    )


_transposed("k3", (1, 8, 5, 6), (8, 12, 3, 3), (7, 8))
_transposed("k2_stride2", (2, 16, 5, 4), (16, 24, 2, 2), (10, 8), strides=[2, 2])
_transposed("k4_stride2", (1, 7, 5, 4), (7, 5, 4, 4), (10, 8), (1, 1), strides=[2, 2],
            pads=[1, 1, 1, 1])  # fmt: skip
_transposed("output_padding", (1, 4, 5, 4), (4, 6, 3, 3), (11, 9), (0, 1), strides=[2, 3],
            pads=[0, 1, 1, 2], output_padding=[1, 0], bias=False)  # fmt: skip
_transposed("output_shape", (1, 4, 3, 3), (4, 6, 3, 3), (10, 8), (0, 0), strides=[3, 2],
            output_shape=[10, 8])  # fmt: skip
_transposed("output_shape_cut", (1, 4, 3, 3), (4, 6, 3, 3), (6, 6), (2, 1), strides=[3, 2],
            output_shape=[6, 6])  # fmt: skip
_transposed("same_upper", (1, 4, 3, 4), (4, 6, 4, 3), (6, 8), (1, 0), strides=[2, 2],
            auto_pad="SAME_UPPER")  # fmt: skip
_transposed("same_lower", (1, 4, 3, 4), (4, 6, 4, 3), (6, 8), (1, 1), strides=[2, 2],
            auto_pad="SAME_LOWER")  # fmt: skip
_transposed("valid", (1, 4, 3, 4), (4, 6, 3, 3), (7, 9), strides=[2, 2], auto_pad="VALID")
_transposed("dilated", (1, 4, 5, 4), (4, 6, 3, 2), (11, 9), strides=[1, 2], dilations=[3, 2])
_transposed("padding_beyond_stride", (1, 4, 4, 3), (4, 6, 3, 3), (9, 8), dilations=[2, 2],
            output_padding=[1, 1])  # fmt: skip
_transposed("groups", (1, 8, 5, 4), (8, 3, 3, 3), (9, 7), (1, 1), strides=[2, 2], group=2,
            pads=[1, 1, 1, 1])  # fmt: skip
_transposed("depthwise", (1, 6, 5, 4), (6, 1, 4, 4), (10, 8), (1, 1), strides=[2, 2], group=6,
            pads=[1, 1, 1, 1], bias=False)  # fmt: skip
_transposed("weights_at_run_time", (1, 8, 4, 4), (8, 16, 2, 2), (8, 8), strides=[2, 2],
            weights_run=True)  # fmt: skip
_transposed("signal", (2, 4, 9), (4, 6, 5), (19,), (1,), strides=[2], pads=[1, 1])
_transposed("volume", (1, 3, 3, 4, 2), (3, 4, 2, 3, 3), (6, 6, 5), strides=[2, 1, 2])
_transposed("no_batch", (0, 4, 3, 3), (4, 6, 3, 3), (5, 5), layouts=("contiguous",))
