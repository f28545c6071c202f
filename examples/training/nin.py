"""Network in network on a data set in CIFAR's binary format.

Without ``--data`` it draws one: ten kinds of shapes, 4,000 images to learn from and 1,000 to test.
With ``--data FOLDER`` it reads that folder's ``data_batch_*.bin`` (or ``train*.bin``) and
``test*.bin``, as CIFAR-10 has them.
"""

from __future__ import annotations

from pathlib import Path

from common import classification, finish, options
from dlk import data, optim, train, zoo
from drawn import write_cifar


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
    parser = options("nin", 8, __doc__)
    parser.add_argument("--data", type=Path, help="a folder in CIFAR-10's binary format")
    arguments = parser.parse_args()
    net = zoo.module("nin_cifar10")
    net.initialize(arguments.seed)
    training, test = read(arguments.data, arguments.folder)
    loader = data.DataLoader(
        training, 64, shuffle=True, seed=arguments.seed, drop_last=True,
        transform=data.Compose(data.random_flip(), data.normalize([0.5] * 3, [0.25] * 3)),
    )  # fmt: skip
    unchanged = data.DataLoader(test, 250, transform=data.normalize([0.5] * 3, [0.25] * 3))
    schedule = optim.cosine(1e-3, steps=arguments.epochs * len(loader), warmup=30)
    step = train.TrainStep(
        net, {"x": ("N", 3, 32, 32)}, {"labels": (("N",), "int32")}, classification,
        optim.AdamW(schedule, weight_decay=1e-3, clip_norm=5.0), device=arguments.device,
        seed=arguments.seed,
    )  # fmt: skip
    trainer = train.Trainer(
        step, loader, unchanged, folder=arguments.folder, monitor="validation/accuracy",
        largest=True, target=0.97,
    )  # fmt: skip
    finish(arguments, trainer, "validation/accuracy")


if __name__ == "__main__":
    main()
