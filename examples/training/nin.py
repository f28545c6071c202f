"""Network in network on a data set in CIFAR's binary format: three times a convolution and two 1x1
ones, here with batch normalization, which the paper of 2013 had to do without.

Without ``--data`` it draws one: ten kinds of shapes, 4,000 images to learn from (a tenth of
them for validation) and 1,000 to test.
With ``--data FOLDER`` it reads that folder's ``data_batch_*.bin`` (or ``train*.bin``) and
``test*.bin``, as CIFAR-10 has them.
"""

from __future__ import annotations

from pathlib import Path

from common import classification, finish, hold_out, options
from dlk import data, nn, optim, train
from drawn import write_cifar


def network(width: float = 1.0, classes: int = 10) -> nn.Sequential:
    """(N, 3, 32, 32) to logits; `width` scales the paper's channels."""
    stages = ((5, 192, 160, 96), (5, 192, 192, 192), (3, 192, 192, classes))
    layers: list[nn.Module] = []
    before = 3
    for number, (size, *counts) in enumerate(stages):
        if number:
            layers.append(nn.MaxPool2d(3, 2, padding=1))
        for place, count in enumerate(counts):
            is_last = number == 2 and place == 2
            channels = count if is_last else max(8, round(count * width))
            kernel = size if place == 0 else 1
            layers.append(nn.Conv2d(before, channels, kernel, padding=kernel // 2, bias=is_last))
            if not is_last:
                layers += [nn.BatchNorm2d(channels), nn.ReLU()]
            before = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def read(folder: Path | None, work: Path) -> tuple[data.Arrays, data.Arrays]:
    """The images to learn from, and those to test with."""
    if folder is None:
        folder = work / "drawn"
        if not (folder / "test.bin").is_file():
            write_cifar(folder)
    learnt = sorted(folder.glob("data_batch_*.bin")) or sorted(folder.glob("train*.bin"))
    tested = sorted(folder.glob("test*.bin"))
    if not learnt or not tested:
        raise SystemExit(f"{folder} has no data_batch_*.bin and test*.bin")
    return data.read_cifar(*learnt), data.read_cifar(*tested)


def main() -> None:
    parser = options("nin", 3, __doc__)
    parser.add_argument("--width", type=float, default=0.5, help="1 for the paper's channels")
    parser.add_argument("--data", type=Path, help="a folder in CIFAR-10's binary format")
    arguments = parser.parse_args()
    net = network(arguments.width)
    net.initialize(arguments.seed)
    training, test = read(arguments.data, arguments.folder)
    learnt, validation = hold_out(training, len(training) // 10)
    loader = data.DataLoader(
        learnt, 64, shuffle=True, seed=arguments.seed, drop_last=True,
        transform=data.Compose(data.random_flip(), data.normalize([0.5] * 3, [0.25] * 3)),
    )  # fmt: skip
    unchanged = data.normalize([0.5] * 3, [0.25] * 3)
    schedule = optim.cosine(2e-3, steps=arguments.epochs * len(loader), warmup=30)
    step = train.TrainStep(
        net, {"x": ("N", 3, 32, 32)}, {"labels": (("N",), "int32")}, classification,
        optim.AdamW(schedule, weight_decay=1e-3, clip_norm=5.0), device=arguments.device,
        seed=arguments.seed,
    )  # fmt: skip
    trainer = train.Trainer(
        step, loader, data.DataLoader(validation, 200, transform=unchanged),
        folder=arguments.folder, monitor="validation/accuracy", largest=True,
    )  # fmt: skip
    finish(arguments, trainer, data.DataLoader(test, 250, transform=unchanged))


if __name__ == "__main__":
    main()
