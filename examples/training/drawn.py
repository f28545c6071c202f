"""Pictures that the examples draw, where no data set is at hand: ten textures on ten shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

NAMES = (
    "disc", "square", "triangle", "ring", "cross", "stripes", "checks", "dots", "waves", "frame",
)  # fmt: skip


def picture(kind: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """An image (3, size, size), uint8: a shape in a random colour, place and size, on noise."""
    rows, columns = (np.mgrid[0:size, 0:size] + 0.5) / size * 2 - 1
    angle, scale = rng.uniform(-0.4, 0.4), rng.uniform(0.45, 0.85)
    x, y = rng.uniform(-0.2, 0.2, 2)
    u = ((columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)) / scale
    v = ((rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)) / scale
    inside = (abs(u) < 1) & (abs(v) < 1)
    distance = np.hypot(u, v)
    shape = [
        distance < 1,
        inside & (np.maximum(abs(u), abs(v)) < 0.85),
        (abs(v) < 1) & (abs(u) < (v + 1) / 2),
        (distance < 1) & (distance > 0.6),
        inside & ((abs(u) < 0.25) | (abs(v) < 0.25)),
        inside & (np.sin(u * 11) > 0),
        inside & (np.sin(u * 8) * np.sin(v * 8) > 0),
        inside & (np.hypot((u * 2.5) % 1 - 0.5, (v * 2.5) % 1 - 0.5) < 0.3),
        inside & (np.sin(v * 9 + 2 * np.sin(u * 5)) > 0),
        inside & (np.maximum(abs(u), abs(v)) > 0.65),
    ][kind]
    back, front = rng.uniform(0, 0.45, 3), rng.uniform(0.55, 1, 3)
    if rng.random() < 0.5:
        back, front = front, back
    image = np.where(shape, front[:, None, None], back[:, None, None])
    image = image + rng.normal(0, 0.06, image.shape)
    return (image.clip(0, 1) * 255).astype(np.uint8)


def write_cifar(folder: Path, train: int = 4000, test: int = 1000) -> None:
    """``train.bin`` and ``test.bin`` in CIFAR-10's binary format: a label and 3072 bytes a row."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count, seed in (("train.bin", train, 1), ("test.bin", test, 2)):
        rng = np.random.default_rng(seed)
        kinds = rng.integers(0, len(NAMES), count)
        rows = [bytes([kind]) + picture(int(kind), 32, rng).tobytes() for kind in kinds]
        (folder / name).write_bytes(b"".join(rows))


def write_folders(folder: Path, kinds: int = 5, train: int = 24, test: int = 12) -> None:
    """``train`` and ``test`` with a folder of PNG images for each of the first kinds."""
    from PIL import Image

    for part, count, seed in (("train", train, 3), ("test", test, 4)):
        rng = np.random.default_rng(seed)
        for kind, name in enumerate(NAMES[:kinds]):
            target = folder / part / name
            target.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                pixels = picture(kind, 128, rng).transpose(1, 2, 0)
                Image.fromarray(pixels).save(target / f"{i:03}.png")
