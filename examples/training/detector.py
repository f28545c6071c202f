"""A tiny detector (one box a cell, as YOLO) on pictures of shapes that it draws itself."""

from __future__ import annotations

import time

import numpy as np
from common import draw, options, report
from dlk import data, nn, optim, train

SIZE, GRID, CLASSES = 48, 6, 3
CELL = SIZE // GRID


def picture(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image (3, SIZE, SIZE) of one to three shapes, and boxes (x, y, w, h, class), in pixels."""
    image = rng.normal(0.0, 0.05, (3, SIZE, SIZE)) + rng.uniform(0, 0.3, (3, 1, 1))
    boxes: list[list[float]] = []
    taken: set[tuple[int, int]] = set()
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    for _ in range(int(rng.integers(1, 4))):
        w, h = rng.uniform(9, 18, 2)
        x, y = rng.uniform(w / 2, SIZE - w / 2), rng.uniform(h / 2, SIZE - h / 2)
        cell = (int(y) // CELL, int(x) // CELL)
        near = any(abs(b[0] - x) < 14 and abs(b[1] - y) < 14 for b in boxes)
        if cell in taken or near:
            continue
        taken.add(cell)
        kind = int(rng.integers(CLASSES))
        u, v = (columns + 0.5 - x) / (w / 2), (rows + 0.5 - y) / (h / 2)
        inside = [
            (abs(u) < 1) & (abs(v) < 1),
            u * u + v * v < 1,
            (abs(v) < 1) & (abs(u) < (v + 1) / 2),
        ][kind]
        image[:, inside] = rng.uniform(0.5, 1.0, (3, 1))
        boxes.append([x, y, w, h, kind])
    return image.astype(np.float32), np.array(boxes)


def target_of(boxes: np.ndarray) -> np.ndarray:
    """(6, GRID, GRID) for the loss."""
    target = np.zeros((6, GRID, GRID), np.float32)
    for x, y, w, h, kind in boxes:
        r, c = int(y) // CELL, int(x) // CELL
        target[:, r, c] = [1, x / CELL - c, y / CELL - r, np.log(w / CELL), np.log(h / CELL), kind]
    return target


def found_in(y: np.ndarray) -> np.ndarray:
    """Boxes (x, y, w, h, class) of one image's result, where an object is more likely than not."""
    boxes = []
    for r, c in zip(*np.nonzero(y[0] > 0), strict=True):
        u, v = 1 / (1 + np.exp(-y[1:3, r, c]))
        w, h = np.exp(np.clip(y[3:5, r, c], -3, 3)) * CELL
        boxes.append([(c + u) * CELL, (r + v) * CELL, w, h, y[5:, r, c].argmax()])
    return np.array(boxes).reshape(-1, 5)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union."""
    sides = [
        max(0.0, min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2)
            - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2))
        for i in range(2)
    ]  # fmt: skip
    common = sides[0] * sides[1]
    return float(common / (a[2] * a[3] + b[2] * b[3] - common))


def network() -> nn.Sequential:
    """(N, 3, SIZE, SIZE) to (N, 5 + CLASSES, GRID, GRID)."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
        nn.Conv2d(64, 5 + CLASSES, 1),
    )  # fmt: skip


def main() -> None:
    """Learns from 2,000 pictures, stops where 200 others are known best, is tested on 400 more."""
    arguments = options("detector", 12, __doc__).parse_args()
    rng = np.random.default_rng(1)
    drawn = [picture(rng) for _ in range(2600)]
    x = np.stack([image for image, _ in drawn])
    y = np.stack([target_of(boxes) for _, boxes in drawn])
    net = network()
    net.initialize(arguments.seed)
    loader = data.DataLoader(data.Arrays(x[:2000], y[:2000]), 32, shuffle=True, seed=0)
    schedule = optim.cosine(2e-3, steps=arguments.epochs * len(loader), warmup=50)
    step = train.TrainStep(
        net, {"x": ("N", 3, SIZE, SIZE)}, {"targets": (("N", 6, GRID, GRID), "float32")},
        nn.losses.yolo, optim.Adam(schedule), device=arguments.device,
    )  # fmt: skip
    validation = data.DataLoader(data.Arrays(x[2400:], y[2400:]), 100)
    trainer = train.Trainer(step, loader, validation, folder=arguments.folder)
    if not arguments.json:
        trainer.callback = lambda row: print(f"loss {row['loss']:.4f}", flush=True)
    started = time.perf_counter()
    history = trainer.fit(arguments.epochs)
    seconds = time.perf_counter() - started
    draw(history, arguments.folder / "history.png")
    trainer.resume("best.ckpt")
    evaluator, hits, total = step.evaluator(), 0, 0
    for start in range(2000, 2400, 100):
        results = evaluator(x[start : start + 100], y[start : start + 100])["y0"]
        for result, (_, boxes) in zip(results, drawn[start : start + 100], strict=True):
            found = found_in(result)
            for box in boxes:
                total += 1
                hits += any(f[4] == box[4] and overlap(f, box) >= 0.5 for f in found)
    report(arguments, "found at IoU 0.5", hits / total, seconds)


if __name__ == "__main__":
    main()
