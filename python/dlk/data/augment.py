"""Changes of images (C, H, W) that make more data. Each takes an image and a random generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[Any]
Transform = Callable[[Image, np.random.Generator], Image]


class Compose:
    """One transform after the other."""

    def __init__(self, *transforms: Transform) -> None:
        self.transforms = transforms

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        for transform in self.transforms:
            image = transform(image, rng)
        return image


class random_crop:
    """A window of the image after `padding` zeros around it; `size` is (height, width)."""

    def __init__(self, size: tuple[int, int], padding: int = 0) -> None:
        self.size, self.padding = size, padding

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        p = self.padding
        padded = np.pad(image, ((0, 0), (p, p), (p, p))) if p else image
        room = [padded.shape[1] - self.size[0], padded.shape[2] - self.size[1]]
        if min(room) < 0:
            raise ValueError(f"a crop of {self.size} does not fit an image of {image.shape}")
        y, x = (int(rng.integers(0, r + 1)) for r in room)
        return padded[:, y : y + self.size[0], x : x + self.size[1]]


class random_flip:
    """Left and right swapped with a probability."""

    def __init__(self, probability: float = 0.5) -> None:
        self.probability = probability

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        return image[:, :, ::-1] if rng.random() < self.probability else image


class color_jitter:
    """Brightness and contrast changed by random factors in 1 - s .. 1 + s."""

    def __init__(self, brightness: float = 0.2, contrast: float = 0.2) -> None:
        self.brightness, self.contrast = brightness, contrast

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        light = 1.0 + self.brightness * (2.0 * rng.random() - 1.0)
        spread = 1.0 + self.contrast * (2.0 * rng.random() - 1.0)
        mean = image.mean()
        changed: Image = ((image - mean) * spread + mean * light).astype(image.dtype)
        return changed


class normalize:
    """(x - mean) / std a channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean = np.array(mean, np.float32).reshape(-1, 1, 1)
        self.std = np.array(std, np.float32).reshape(-1, 1, 1)

    def __call__(self, image: Image, _: np.random.Generator) -> Image:
        result: Image = (image.astype(np.float32) - self.mean) / self.std
        return result
