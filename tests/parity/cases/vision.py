"""Regions, deformed convolution, unpooling and columns."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ..case import Array, Case, case, integers, ints, normal, uniform

LAYOUTS = ("contiguous", "strided", "channels_last")


def bilinear(image: Array, y: float, x: float) -> list[tuple[float, float]]:
    """Weights and values of the four neighbours (C, H, W), clamped to the image."""
    height, width = image.shape[-2:]
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    yl, xl = int(y), int(x)
    fy, fx = y - yl, x - xl
    yh, xh = min(yl + 1, height - 1), min(xl + 1, width - 1)
    return [
        ((1 - fy) * (1 - fx), image[..., yl, xl]),
        ((1 - fy) * fx, image[..., yl, xh]),
        (fy * (1 - fx), image[..., yh, xl]),
        (fy * fx, image[..., yh, xh]),
    ]


def roi_align(
    x: Array, rois: Array, batch: Array, size: tuple[int, int], a: dict[str, Any]
) -> Array:
    """Samples of regions as ONNX defines them."""
    half = 0.5 if a.get("coordinate_transformation_mode", "half_pixel") == "half_pixel" else 0.0
    largest = a.get("mode", "avg") == "max"
    out = np.zeros((len(rois), x.shape[1], *size))
    for r, c in itertools.product(range(len(rois)), range(x.shape[1])):
        x0, y0, x1, y1 = rois[r] * a["spatial_scale"] - half
        w, h = (x1 - x0, y1 - y0) if half else (max(x1 - x0, 1.0), max(y1 - y0, 1.0))
        bins = h / size[0], w / size[1]
        grid = [a.get("sampling_ratio", 0) or int(np.ceil(b)) for b in bins]
        for i, j in itertools.product(range(size[0]), range(size[1])):
            seen = []
            for u, v in itertools.product(range(grid[0]), range(grid[1])):
                yy = y0 + (i + (u + 0.5) / grid[0]) * bins[0]
                xx = x0 + (j + (v + 0.5) / grid[1]) * bins[1]
                outside = not (-1 <= yy <= x.shape[2] and -1 <= xx <= x.shape[3])
                taps = [(0.0, 0.0)] if outside else bilinear(x[batch[r], c], yy, xx)
                products = [weight * value for weight, value in taps]
                seen.append(max(products) if largest else sum(products))
            if seen:
                out[r, c, i, j] = max(seen) if largest else sum(seen) / len(seen)
    return out


def regions(rng: np.random.Generator) -> Array:
    corners = uniform(rng, 0, 12, 5, 2)
    return np.concatenate([corners, corners + uniform(rng, 2, 14, 5, 2)], 1)


for name, attributes in (
    ("average", {"sampling_ratio": 2}),
    ("average_adaptive", {}),
    ("largest", {"mode": "max", "sampling_ratio": 3}),
    ("corners", {"coordinate_transformation_mode": "output_half_pixel", "sampling_ratio": 2}),
):
    full = {"spatial_scale": 0.5, "output_height": 3, "output_width": 4, **attributes}
    case(
        Case(
            op="RoiAlign",
            name=name,
            inputs=lambda rng: {
                "x": uniform(rng, 0.5, 2, 2, 3, 9, 11),
                "rois": np.round(regions(rng) * 8) / 8,  # exact in fp16 too
                "batch": integers(rng, 0, 2, 5),
            },
            attributes=full,
            oracle=lambda x, r, b, a=full: roi_align(x, r, b, (3, 4), a),
            layouts=LAYOUTS,
        )
    )


def roi_pool(x: Array, rois: Array, size: tuple[int, int], scale: float) -> Array:
    out = np.zeros((len(rois), x.shape[1], *size))
    for r, roi in enumerate(rois):
        x0, y0, x1, y1 = np.floor(roi[1:] * scale + 0.5).astype(int)
        bins = max(y1 - y0 + 1, 1) / size[0], max(x1 - x0 + 1, 1) / size[1]
        for i, j in itertools.product(range(size[0]), range(size[1])):
            edges = [
                (np.floor(at * b), np.ceil((at + 1) * b))
                for at, b in zip((i, j), bins, strict=True)
            ]
            ys = np.clip(np.array(edges[0]).astype(int) + y0, 0, x.shape[2])
            xs = np.clip(np.array(edges[1]).astype(int) + x0, 0, x.shape[3])
            part = x[int(roi[0]), :, ys[0] : ys[1], xs[0] : xs[1]]
            if part.size:
                out[r, :, i, j] = part.max((1, 2))
    return out


case(
    Case(
        op="MaxRoiPool",
        name="regions",
        inputs=lambda rng: {
            "x": normal(rng, 2, 3, 9, 11),
            "rois": np.concatenate([integers(rng, 0, 2, 5, 1), np.round(regions(rng))], 1).astype(
                np.float64
            ),
        },
        attributes={"pooled_shape": [3, 4], "spatial_scale": 0.5},
        oracle=lambda x, r: roi_pool(x, r, (3, 4), 0.5),
        layouts=LAYOUTS,
    )
)


def deformed(
    x: Array, w: Array, offset: Array, b: Array | None, mask: Array | None, a: dict[str, Any]
) -> Array:
    """Sums over taps at moved places; 0 outside of the image."""
    group, og = a.get("group", 1), a.get("offset_group", 1)
    kh, kw = w.shape[2:]
    n, _, oh, ow = offset.shape
    sh, sw = a.get("strides", [1, 1])
    dh, dw = a.get("dilations", [1, 1])
    ph, pw = a.get("pads", [0] * 4)[:2]
    padded = np.pad(x, [(0, 0), (0, 0), (60, 60), (60, 60)])
    y = np.zeros((n, w.shape[0], oh, ow))
    each = x.shape[1] // og
    for s, k, i, j in itertools.product(range(n), range(w.shape[0]), range(oh), range(ow)):
        for c, p, q in itertools.product(range(w.shape[1]), range(kh), range(kw)):
            channel = k // (w.shape[0] // group) * w.shape[1] + c
            tap = (channel // each) * kh * kw + p * kw + q
            yy = i * sh - ph + p * dh + offset[s, 2 * tap, i, j] + 60
            xx = j * sw - pw + q * dw + offset[s, 2 * tap + 1, i, j] + 60
            value = sum(u * v for u, v in bilinear(padded[s, channel], yy, xx))
            y[s, k, i, j] += w[k, c, p, q] * value * (1 if mask is None else mask[s, tap, i, j])
    return y + (0 if b is None else b.reshape(-1, 1, 1))


for name, attributes, optional in (
    ("plain", {}, False),
    (
        "groups_mask_bias",
        {"group": 2, "offset_group": 2, "pads": [1, 1, 1, 1], "strides": [2, 1]},
        True,
    ),
    ("dilated", {"dilations": [2, 1], "pads": [1, 0, 1, 1]}, False),
):
    size = {"plain": (4, 6), "groups_mask_bias": (3, 8), "dilated": (4, 7)}[name]
    og = attributes.get("offset_group", 1)
    case(
        Case(
            op="DeformConv",
            name=name,
            inputs=lambda rng, s=size, o=og, m=optional, g=attributes.get("group", 1): {
                "x": normal(rng, 2, 4, 6, 8),
                "w": normal(rng, 4, 4 // g, 3, 3, scale=0.3),
                "offset": normal(rng, 2, 18 * o, *s),
                "b": normal(rng, 4) if m else None,
                "mask": uniform(rng, 0, 1, 2, 9 * o, *s) if m else None,
            },
            attributes=attributes,
            oracle=lambda *args, a=attributes: deformed(*args, *([None] * (5 - len(args))), a),
            layouts=("contiguous", "strided"),
        )
    )


def unpooled(x: Array, i: Array, shape: tuple[int, ...], full: tuple[int, ...]) -> Array:
    flat = np.zeros(int(np.prod(shape)))
    flat[i.reshape(-1)] = x.reshape(-1)
    return np.pad(flat.reshape(shape), [(0, f - s) for f, s in zip(full, shape, strict=True)])


def places(rng: np.random.Generator) -> Array:
    """One of the four places of each window of a pool of 2 by 2 over (2, 3, 8, 10)."""
    n, c, y, x = np.indices((2, 3, 4, 5))
    dy, dx = rng.integers(0, 2, (2, 2, 3, 4, 5))
    return (((n * 3 + c) * 8 + 2 * y + dy) * 10 + 2 * x + dx).astype(np.int64)


for name, full in (("inferred", None), ("larger", (2, 3, 9, 12))):
    case(
        Case(
            op="MaxUnpool",
            name=name,
            inputs=lambda rng, f=full: {
                "x": normal(rng, 2, 3, 4, 5),
                "i": places(rng),
                **({"shape": ints(*f)} if f else {}),
            },
            attributes={"kernel_shape": [2, 2], "strides": [2, 2]},
            constants=("shape",),
            oracle=lambda x, i, *s, f=full: unpooled(x, i, (2, 3, 8, 10), f or (2, 3, 8, 10)),
            layouts=LAYOUTS,
            exact=True,
        )
    )


def col2im(x: Array, image: Array, block: Array, a: dict[str, Any]) -> Array:
    axes = len(image)
    strides, dilations = a.get("strides", [1] * axes), a.get("dilations", [1] * axes)
    pads = a.get("pads", [0] * 2 * axes)
    counts = [
        (image[i] + pads[i] + pads[i + axes] - dilations[i] * (block[i] - 1) - 1) // strides[i] + 1
        for i in range(axes)
    ]
    taps = int(np.prod(block))
    out = np.zeros((x.shape[0], x.shape[1] // taps, *image))
    columns = x.reshape(x.shape[0], -1, *block, *counts)
    for tap in itertools.product(*[range(k) for k in block]):
        for place in itertools.product(*[range(k) for k in counts]):
            at = [
                p * s - b + t * d
                for p, s, b, t, d in zip(place, strides, pads[:axes], tap, dilations, strict=True)
            ]
            if all(0 <= q < n for q, n in zip(at, image, strict=True)):
                out[(slice(None), slice(None), *at)] += columns[
                    (slice(None), slice(None), *tap, *place)
                ]
    return out


WINDOW = {"pads": [1, 1, 1, 0], "strides": [2, 1], "dilations": [1, 2]}
for name, image, block, blocks, attributes in (
    ("plain", (5, 6), (2, 3), 4 * 4, {}),
    ("window", (7, 6), (2, 3), 4 * 3, WINDOW),
    ("line", (9,), (3,), 4, {"strides": [2]}),
    ("volume", (4, 4, 5), (1, 2, 3), 4 * 3 * 3, {}),
):
    case(
        Case(
            op="Col2Im",
            name=name,
            inputs=lambda rng, i=image, b=block, n=blocks: {
                "x": normal(rng, 2, 3 * int(np.prod(b)), n),
                "image": ints(*i),
                "block": ints(*b),
            },
            attributes=attributes,
            constants=("image", "block"),
            oracle=lambda x, i, b, a=attributes: col2im(x, i, b, a),
            layouts=("contiguous", "strided"),
        )
    )
    for dtype in ("int8", "int32") if name == "window" else ():
        case(
            Case(
                op="Col2Im",
                name=f"{name}_{dtype}",
                inputs=lambda rng, i=image, b=block, n=blocks, t=dtype: {
                    "x": integers(rng, -9, 9, 2, 3 * int(np.prod(b)), n, dtype=t),
                    "image": ints(*i),
                    "block": ints(*b),
                },
                attributes=attributes,
                constants=("image", "block"),
                oracle=lambda x, i, b, a=attributes, t=dtype: col2im(x, i, b, a).astype(t),
                dtypes=("none",),
            )
        )
